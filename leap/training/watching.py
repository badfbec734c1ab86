"""The files of a run's rows, looked at while it trains: where one goes or changes, the checkpoints that come would say
of themselves that they were made of what is not there any more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from configs.errors import UserError
from leap.rows.data_sets import files_of
from leap.rows.places import is_of_hub, name_of
from leap.training.recipes import TrainingRecipe
from leap.training.resume import data_content, row_sources

Stamp = tuple[int, int, int]  # of a file: what it is on its disk, its bytes and its time of change


class WatchSources(TrainerCallback):
    """Ends the run by a UserError after the step in which a file of its rows went or changed. One that was written anew
    with the content that it had is the same."""

    def __init__(self, recipe: TrainingRecipe) -> None:
        self._recipe, self._content = recipe, ""
        on_disk = [source for source in row_sources(recipe) if not is_of_hub(source)]
        self._files = [(source, file) for source in on_disk for file in files_of(source)]
        self._stamps = list(map(self._stamp, self._files))

    def begin(self, content: str) -> None:
        """`content` is the hash of what the files held when they were read, after this object was made."""
        self._content = content

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            return
        stamps = list(map(self._stamp, self._files))
        if stamps == self._stamps:
            return
        source, file = next(
            entry for entry, *pair in zip(self._files, stamps, self._stamps, strict=True) if pair[0] != pair[1]
        )
        if data_content(self._recipe) != self._content:
            raise UserError(
                f"{file}{_part_of(source, file)} was changed while the run trained on it. {_ADVICE.format('as it was')}"
            )
        self._stamps = stamps

    def _stamp(self, entry: tuple[Path, Path]) -> Stamp:
        source, file = entry
        try:
            status = os.stat(file)
        except OSError as error:
            raise UserError(
                f"{file}{_part_of(source, file)} cannot be read any more ({error.strerror}), and the run trains on it. "
                + _ADVICE.format("back")
            ) from error
        return status.st_ino, status.st_size, status.st_mtime_ns


_ADVICE = "Put it {}, and the same command goes on from the last checkpoint"


def _part_of(source: Path, file: Path) -> str:
    return "" if source == file else f" (of {name_of(source)})"
