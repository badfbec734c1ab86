"""What judges see of a row, and whether a judgement is still of it: its task, reference and pictures, and the plans.

A judgement carries the hash of the row's texts and of the plan, and of the base's beside it (`judged_hash`), and the
hashes of the pictures that its judge was shown. Where one of them is another now, it is a word about something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from leap.blind.outputs import Item, picture_files
from leap.files import sha256_json
from leap.judge.judgements import CONTROLS, Judgement, read_judgements
from leap.rows.images import intact_bytes


@dataclass(frozen=True)
class ReviewRow:
    """A row of the review with those of its pictures that are there and intact, in order, and the SHA-256 of each;
    `notes` say what is wrong with the others."""

    item: Item
    pictures: list[Path]
    hashes: list[str]
    notes: list[str]


def review_row(item: Item, image_root: Path | None, workspace: Path) -> ReviewRow:
    """The row with its pictures, looked for as leap.rows.chat does, in `image_root` alone if it is given."""
    row = ReviewRow(item, [], [], [])
    paths = picture_files(item, image_root, workspace)
    for number, (written, path) in enumerate(zip(item.images, paths, strict=True), 1):
        try:
            if path is None:
                raise ValueError("is missing")
            content = intact_bytes(path)
        except ValueError as error:
            row.notes.append(f"picture {number} of {len(paths)} ({written}) {error}")
        else:
            row.pictures.append(path)
            row.hashes.append(hashlib.sha256(content).hexdigest())
    return row


def row_hash(item: Item) -> str:
    """Names what a row shows besides its pictures, of which it has their number: the task and the reference plan."""
    return sha256_json([item.prompt, item.task_name, item.reference, len(item.images)])[:16]


def judged_hash(item: Item, model: str, base: str | None = None) -> str | None:
    """Names a plan for a row, or one beside the base's: by the row's and the plans' texts, a control by its name. None
    where there is no such plan."""
    plans = [_plan(item, name) for name in ((model,) if base is None else (model, base))]
    return None if None in plans else sha256_json([row_hash(item), *plans])[:16]


def _plan(item: Item, model: str) -> str | None:
    if model in CONTROLS:
        return model
    return item.outputs[model].text if model in item.outputs else None


def read_up_to_date(review: Path, rows: Sequence[ReviewRow], models: Sequence[str]) -> tuple[list[Judgement], int]:
    """The judgements in a review's folder that are of these rows and models as they are now, and how many are not."""
    everything = read_judgements(review)
    current = up_to_date(everything, rows, models)
    return current, len(everything) - len(current)


def up_to_date(judgements: Iterable[Judgement], rows: Sequence[ReviewRow], models: Sequence[str]) -> list[Judgement]:
    """Those that are of these rows and models, or of a row's control, as they are now. A picture that was shown and is
    not there now shows no change; one that is there now and was not shown does."""
    by_sample = {row.item.sample: row for row in rows}
    names = {*models, *CONTROLS, None}

    def holds(judgement: Judgement) -> bool:
        row = by_sample.get(judgement.sample)
        if row is None or judgement.judged is None or not {judgement.model, judgement.base} <= names:
            return False
        return judgement.judged == judged_hash(row.item, judgement.model, judgement.base) and (
            judgement.pictures is None or _is_subsequence(row.hashes, judgement.pictures)
        )

    return [judgement for judgement in judgements if holds(judgement)]


def _is_subsequence(part: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether all of `part` are in `whole`, in the same order."""
    rest = iter(whole)
    return all(element in rest for element in part)  # `in` moves the iterator on
