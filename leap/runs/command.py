"""The command `leap`: every script of the repository under a short name.

    leap evaluate --checkpoint output --dimension all

is `python scripts/evaluation/run_vlm_evaluation.py --checkpoint output --dimension all`.
"""

from __future__ import annotations

import os
import sys

from configs.commands import SCRIPTS
from configs.config import REPOSITORY
from configs.errors import UserError, did_you_mean
from leap import __version__
from leap.cli import run
from leap.progress import say


def main() -> None:
    run(_replace_by_script)


def _replace_by_script() -> int | None:
    """Become the script that the first words name. Prints the names without one, or for --help."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        say(listing())
        return None if words else 2
    if words[0] == "--version":
        say(__version__)
        return None
    name = next((" ".join(words[:count]) for count in (2, 1) if " ".join(words[:count]) in SCRIPTS), None)
    if name is None:
        written = " ".join(word for word in words[:2] if not word.startswith("-"))
        raise UserError(f"no such command: leap {written}.{did_you_mean(written, SCRIPTS)} leap --help lists them")
    script = REPOSITORY / "scripts" / SCRIPTS[name]
    program = ["bash"] if script.suffix == ".sh" else [sys.executable]
    os.environ.setdefault("PYTHON", sys.executable)  # for launchers
    os.execvp(program[0], [*program, str(script), *words[len(name.split()) :]])


def listing() -> str:
    width = max(map(len, SCRIPTS))
    lines = [f"  {name:{width}}  scripts/{script}" for name, script in SCRIPTS.items()]
    return "\n".join(["usage: leap COMMAND [FLAGS]", "", *lines, "", "leap COMMAND --help names the flags of one."])
