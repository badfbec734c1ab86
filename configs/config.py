"""WorkspaceConfig: the only place that knows where things are, and how the six dimensions are spelt.

The workspace is the repository, or the folder named by the environment variable LEAP_WORKSPACE,
which then holds the same sub-folders. Of an installed package it is the current folder instead.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from configs.commands import without_checkout
from configs.errors import UserError, did_you_mean

# What holds configs/ and scripts/: the repository, or leap/ itself where it is an installed package.
REPOSITORY = Path(__file__).resolve().parent.parent
IS_CHECKOUT = not (REPOSITORY / "__init__.py").is_file()

# Spelt as the data set spells them, in the order in which the tables show them.
DIMENSIONS = ("M&T", "CommenSence", "Semantic", "Spatial", "PhysicsLaw", "Complex")
# For people; files, flags and addresses have the keys.
DIMENSION_TITLES = {
    "M&T": "Mesh & texture",
    "CommenSence": "Common sense",
    "Semantic": "Semantic",
    "Spatial": "Spatial",
    "PhysicsLaw": "Physics law",
    "Complex": "Complex",
}
_OTHER_SPELLINGS = {"mt": "M&T", "m&t": "M&T", "commonsense": "CommenSence", "physicallaw": "PhysicsLaw"}
_SPELLINGS = {dimension.lower(): dimension for dimension in DIMENSIONS} | _OTHER_SPELLINGS

# What to run when an input of the real recipe is not there yet, by its path below the workspace root.
_HOW_TO_GET = {
    "models/Qwen3-VL-2B-Instruct": "bash scripts/download/download_model.sh --local_dir {path}",
    "data": "python scripts/download/download_dataset.py --local_dir {root}/data",
    "dataset/vlm_evaluation_v1.0": (
        "python scripts/download/download_vlabench_with_retry.py --local_dir {root}/dataset/vlm_evaluation_v1.0"
    ),
    "VLABench": "git submodule update --init VLABench",
}

_FROM_THE_HUB = ("base model", "checkpoint", "model")  # what a user may name as owner/name


@dataclass(frozen=True)
class WorkspaceConfig:
    """Where a workspace keeps its parts. `root` is absolute."""

    root: Path

    @classmethod
    def from_environment(cls) -> WorkspaceConfig:
        """The workspace of this process: LEAP_WORKSPACE (relative to the current directory) or the repository; of an
        installed package the current directory."""
        named = os.environ.get("LEAP_WORKSPACE")
        if named:
            return cls(Path(named).expanduser().resolve())
        return cls(REPOSITORY if IS_CHECKOUT else Path.cwd())

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    @property
    def benchmark(self) -> Path:
        return self.dataset / "vlm_evaluation_v1.0"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def base_model(self) -> Path:
        return self.models / "Qwen3-VL-2B-Instruct"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def results(self) -> Path:
        return self.root / "eva_results"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def vlabench(self) -> Path:
        """The official benchmark's code, a submodule of the repository; it may be empty, or not be there."""
        return (REPOSITORY if IS_CHECKOUT else self.root) / "VLABench"

    def require(self, path: Path, what: str) -> Path:
        """`path` itself, or a UserError that names it and the command that creates it.

        `what` says what is missing, as in "base model".
        """
        if path.exists():
            return path
        raise UserError(f"{what} not found: {path}. {self._advice(path, what)}")

    def require_file(self, path: Path, what: str) -> Path:
        """Like `require`, for what must be a file."""
        if self.require(path, what).is_file():
            return path
        raise UserError(f"{what} must be a file: {path} is a folder")

    def _advice(self, path: Path, what: str) -> str:
        for place, command in _HOW_TO_GET.items():
            home = self.vlabench if place == "VLABench" else self.root / place
            if path == home or home in path.parents:
                get = "Get it with: " + command.format(path=shlex.quote(str(path)), root=shlex.quote(str(self.root)))
                return get if place != "data" else self._rows_there(path) + get
        with contextlib.suppress(ValueError):
            written = path.relative_to(Path.cwd())
            meant = self.root / written
            if what in _FROM_THE_HUB and len(written.parts) == 2 and not path.parent.exists():
                name = shlex.quote(str(written))
                return (
                    f"A folder is wanted; get a model of the Hub with: bash scripts/download/download_model.sh {name}"
                )
            if meant.exists():
                return f"A relative path is taken from the current directory; did you mean {meant}?"
        return "Check the path; a relative one is taken from the current directory."

    def _rows_there(self, path: Path) -> str:
        """What lies in the folder of planning rows instead."""
        names = sorted(row_file.name for row_file in path.parent.glob("[!.]*.jsonl")) if path.suffix == ".jsonl" else []
        listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        return f"In its folder: {listed}. " if names else ""


def runnable(text: str) -> str:
    """`text` with commands that work here: scripts of a checkout, or `leap` where there is none."""
    return text if IS_CHECKOUT else without_checkout(text)


def place_flag(flag: str, place: Path, usual: Path) -> str:
    """ " --flag place", to stand behind a command, or nothing for the usual place."""
    return "" if place == usual else f" {flag} {shlex.quote(str(place))}"


def next_line(command: str) -> str:
    """ "next: ..." with a command that works as it stands, in the workspace of this process."""
    workspace, command = os.environ.get("LEAP_WORKSPACE"), runnable(command)
    return f"next: LEAP_WORKSPACE={shlex.quote(workspace)} {command}" if workspace else f"next: {command}"


def dimension_named(text: str) -> str:
    """The data set's spelling of one dimension; also takes CommonSense, PhysicalLaw, MT and any case."""
    dimension = _SPELLINGS.get(text.strip().lower())
    if dimension is None:
        near = did_you_mean(text, [*DIMENSIONS, *_SPELLINGS])
        raise UserError(f"unknown dimension {text!r};{near} choose from {', '.join(DIMENSIONS)} or all")
    return dimension


def dimensions_named(texts: list[str]) -> list[str]:
    """The dimensions that a command line names, in table order: `all`, or `baseline` as the original has it for the
    base model's, several words, or comma-separated."""
    words = [word for text in texts for word in text.split(",") if word.strip()]
    if not words:
        raise UserError(f"no dimension named; choose from {', '.join(DIMENSIONS)} or all")
    if any(word.strip().lower() in ("all", "baseline") for word in words):
        return list(DIMENSIONS)
    chosen = {dimension_named(word) for word in words}
    return [dimension for dimension in DIMENSIONS if dimension in chosen]
