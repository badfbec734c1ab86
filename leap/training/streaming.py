"""Training on rows that are read as they come (`--streaming`): of sets larger than the disk, or than a check of all
rows has time for.

Rows are taken from the sources in blocks of `shuffle_buffer`; a block is checked row by row and shuffled by the seed
and its number. What a checkpoint keeps of it is the place where its block begins in the sources and how many of its
rows were trained on: a run that goes on reads the block again, and sees the very next rows. Pictures that stand in the
rows themselves are files below the run's folder as long as their block is trained on.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback

from configs.errors import UserError
from leap.files import read_json, write_json
from leap.models.checkpoints import STREAM_FILE, step_of
from leap.progress import say
from leap.rows.arrow import row_of_line
from leap.rows.data_sets import MediaFolder
from leap.rows.places import name_of
from leap.rows.records import PlanningRow
from leap.rows.sources import SKILL_SEQUENCES, sources_in
from leap.rows.streams import LineStream
from leap.text import plural
from leap.training.lengths import PARTS, RowLength
from leap.training.measuring import CheckJob, measure
from leap.training.preflight import fits
from leap.training.recipes import TrainingRecipe
from leap.training.supervision import PlanningCollator

_MEDIA = ".streamed_pictures"  # in the run's folder

MeasuredRow = tuple[PlanningRow, RowLength]


class StreamedRows(Dataset):
    """A dataset whose indices are its rows: they are read in one process, and made a batch of in any."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: Any) -> PlanningRow:
        return row


class StreamedBatches:
    """The batches of a run, step after step; in a step longest rows first. Reading runs ahead of training, so that the
    place of each step is kept until it is trained."""

    def __init__(self, recipe: TrainingRecipe, collator: PlanningCollator) -> None:
        self._recipe, self._collator = recipe, collator
        self._paths = [source.path for source in sources_in(recipe.train_file)]
        self._media = MediaFolder(self._paths[0])
        self._stream = LineStream(self._paths, self._media)
        self._first_step = 1
        self._skipped: set[str] = set()  # places of rows
        # Where a block begins in the sources, its number, how many of its rows were used, which rows were skipped
        # before it.
        self._place: dict[str, Any] = {"begin": self._stream.position(), "block": 0, "used": 0, "skipped": []}
        self._places: dict[int, dict[str, Any]] = {}  # behind each step
        self.epoch = 0  # the Trainer counts the whole run as one

    def __len__(self) -> int:
        return self._recipe.max_steps * self._recipe.gradient_accumulation_steps

    def save(self, checkpoint: Path, step: int) -> None:
        write_json(checkpoint / STREAM_FILE, self._places[step])

    def restore(self, checkpoint: Path) -> None:
        """Go on behind a checkpoint. UserError if it is none of a streamed run."""
        if not (checkpoint / STREAM_FILE).is_file():
            raise UserError(f"{checkpoint} was made without --streaming; use another --output_dir for a streamed run")
        self._place = read_json(checkpoint / STREAM_FILE)
        self._first_step = (step_of(checkpoint) or 0) + 1

    def trained(self, step: int) -> None:
        """Let go of what was kept for earlier steps."""
        for earlier in [number for number in self._places if number < step]:
            del self._places[earlier]
        for folder in self._folder.glob("*"):
            if int(folder.name) < self._places[step]["block"]:
                shutil.rmtree(folder)

    def remove_pictures(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return self._recipe.output_dir / _MEDIA

    def __iter__(self) -> Iterator[list[PlanningRow]]:
        self.remove_pictures()  # of a run that was killed
        size = self._recipe.per_device_train_batch_size
        rows = self._rows()
        for step in range(self._first_step, self._recipe.max_steps + 1):
            taken = list(itertools.islice(rows, size * self._recipe.gradient_accumulation_steps))
            taken.sort(key=lambda entry: -entry[1].total)
            self._places[step] = self._place
            for start in range(0, len(taken), size):
                yield [row for row, _ in taken[start : start + size]]

    def _rows(self) -> Iterator[MeasuredRow]:
        """The rows that can train, without end, from the place on."""
        self._stream.go_to(self._place["begin"])
        self._skipped = set(self._place["skipped"])
        while True:
            for row in self._block_rows()[self._place["used"] :]:
                self._place = self._place | {"used": self._place["used"] + 1}
                yield row
            block = self._place["block"] + 1
            skipped = sorted(self._skipped)
            self._place = {"begin": self._stream.position(), "block": block, "used": 0, "skipped": skipped}

    def _block_rows(self) -> list[MeasuredRow]:
        """The good rows of the next block, shuffled."""
        block = self._place["block"]
        self._media.folder = self._folder / str(block)
        lines = self._stream.read(self._recipe.shuffle_buffer)
        rows: list[MeasuredRow] = []
        for path in self._paths:
            numbered = [(line.number, line.text, None) for line in lines if line.source == path]
            rows += self._good_rows(path, numbered)
        generator = torch.Generator().manual_seed(self._recipe.seed * 1_000_003 + block)  # no two seeds share an order
        return [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]

    def _good_rows(self, path: Path, lines: Sequence[tuple[int, bytes, None]]) -> Iterator[MeasuredRow]:
        job, recipe = CheckJob(path, self._collator, 1), self._recipe
        for record in measure(job, lines).to_pylist() if lines else ():
            if record["defect"]:
                self._skip(f"{name_of(path)}:{record['number']}", record["defect"])
                continue
            if record["form"] == SKILL_SEQUENCES:
                raise UserError(
                    f"{name_of(path)}:{record['number']}: rows of {SKILL_SEQUENCES} are compared with what is tested "
                    "on before they train, which --streaming cannot; leave it out"
                )
            row = row_of_line(record["text"], path, record["number"])
            length = RowLength(*(record[part] for part in PARTS[:3]))
            if length.total > recipe.model_max_length:
                [fit] = fits(recipe.model_max_length, recipe.overlong == "shrink", job, [(row, length)])
                if not fit.length:
                    self._skip(f"{name_of(path)}:{record['number']}", fit.defect)
                    continue
                row, length = row_of_line(record["text"], path, record["number"], fit.image_tokens), fit.length
            yield row, length

    def _skip(self, place: str, defect: str) -> None:
        """Say, the first time, that a row is left out. UserError where there are too many."""
        if place in self._skipped:
            return
        self._skipped.add(place)
        count, most = len(self._skipped), self._recipe.most_bad_rows
        if count > most:
            raise UserError(f"{defect} ({plural(count, 'row')} could not train; --most_bad_rows allows more)")
        say(f"skipped, {count} of at most {most}: {defect}")


class FollowStream(TrainerCallback):
    """Lets the batches know which steps are trained, and a resumed run count as one that was not stopped."""

    def __init__(self, batches: StreamedBatches) -> None:
        self._batches = batches

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._batches.trained(state.global_step)
        state.epoch = state.global_step / state.max_steps

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._batches.remove_pictures()
