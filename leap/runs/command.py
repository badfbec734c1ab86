"""The command `leap`: every script of the repository under a short name.

    leap evaluate --checkpoint output --dimension all

is `python scripts/evaluation/run_vlm_evaluation.py --checkpoint output --dimension all`.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from configs.commands import BESIDE, SCRIPTS
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
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    if not words or words[0] in ("-h", "--help"):
        say(listing())
        return None if words else 2
    if words[0] == "--version":
        say(__version__)
        return None
    name = _named(words)
    if name is None:
        written = " ".join(word for word in words[:2] if not word.startswith("-"))
        raise UserError(f"no such command: leap {written}.{did_you_mean(written, SCRIPTS)} leap --help lists them")
    script = REPOSITORY / "scripts" / SCRIPTS[name]
    program = ["bash"] if script.suffix == ".sh" else [sys.executable]
    os.environ.setdefault("PYTHON", sys.executable)  # for launchers
    os.execvp(program[0], [*program, str(script), *words[len(name.split()) :]])


def _named(words: list[str]) -> str | None:
    """The command that the first words name."""
    return next((name for name in (" ".join(words[:2]), *words[:1]) if name in SCRIPTS), None)


def _complete() -> NoReturn:
    """Answer a shell that completes a command line: with commands here, with flags and choices by their script."""
    import argcomplete

    *words, _ = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split(" ")[1:]
    words = list(filter(None, words))
    if name := _named(words):
        # Not a launcher: it would start a process a GPU.
        scripts = [SCRIPTS[name], *(script for script, launched in BESIDE.items() if launched == name)]
        script = next(script for script in scripts if script.endswith(".py"))
        os.environ["_ARGCOMPLETE"] = str(1 + len(name.split()))  # the words of the line that stand for the program
        os.execv(sys.executable, [sys.executable, str(REPOSITORY / "scripts" / script)])
    parser = argparse.ArgumentParser(add_help=False)
    for number in range(len(words)):
        parser.add_argument(f"word {number}")
    names = [name.split() for name in SCRIPTS]
    nexts = [name[len(words)] for name in names if name[: len(words)] == words]
    parser.add_argument("command", choices=[*nexts, *(() if words else ("--help", "--version"))])
    argcomplete.autocomplete(parser)
    raise SystemExit


def listing() -> str:
    width = max(map(len, SCRIPTS))
    lines = [f"  {name:{width}}  scripts/{script}" for name, script in SCRIPTS.items()]
    return "\n".join(["usage: leap COMMAND [FLAGS]", "", *lines, "", "leap COMMAND --help names the flags of one."])
