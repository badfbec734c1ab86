#!/usr/bin/env python3
"""Write docs/cli.md, the flags of every script, from the scripts themselves.

python scripts/utils/write_cli_docs.py
python scripts/utils/write_cli_docs.py --output flags.md
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from configs.config import REPOSITORY
from leap.cli import knob, parse_knobs, run
from leap.files import write_text
from leap.progress import say

_HEAD = """# Flags of every script

Made by `python scripts/utils/write_cli_docs.py`; do not edit. A flag may be written with dashes for underscores. A list
takes several words, or one with commas. `--base_model` is the base, `--checkpoint` what is evaluated, merged or
published, `--results` the results folder, `--data_path` a benchmark, `--rows` planning rows, `--output_dir` what is
written. The other names work too; `configs/flags.py` has them, and what became of flags of the original.

Tab completes the commands of `leap`, their flags and choices after one line in the shell's start-up file:

| shell | file | line |
|---|---|---|
| bash | `~/.bashrc` | `eval "$(register-python-argcomplete leap)"` |
| zsh, after `compinit` | `~/.zshrc` | `eval "$(register-python-argcomplete leap)"` |
| fish | `~/.config/fish/config.fish` | `register-python-argcomplete --shell fish leap \\| source` |
"""


@dataclass(frozen=True)
class Options:
    output: Path | None = knob(None, "file to write (default: docs/cli.md)")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    folders = ("download", "training", "ablation", "evaluation", "utils")
    paths = [path for folder in folders for path in sorted((REPOSITORY / "scripts" / folder).glob("*.py"))]
    scripts = [path for path in paths if path.name != "configs.py"]
    with ThreadPoolExecutor(2) as pool:
        sections = list(pool.map(section, scripts))
    output = options.output or REPOSITORY / "docs/cli.md"
    write_text(output, "\n".join([_HEAD, *sections]))
    say(str(output))


def section(script: Path) -> str:
    """The name of a script and its table of flags."""
    command = [sys.executable, str(script), "--help_markdown"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f"## {script.relative_to(REPOSITORY)}\n\n{table}"


if __name__ == "__main__":
    run(main)
