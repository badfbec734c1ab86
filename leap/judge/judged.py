"""What a judgement is of, and whether it still is: a row's task, reference and pictures, and the plans.

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
class Row:
    """A row of the review, and the SHA-256 of those of its pictures that are there and intact, in order."""

    item: Item
    pictures: list[str]


def row_of(item: Item, image_root: Path | None, workspace: Path) -> Row:
    """The row with its pictures, looked for as leap.rows.chat does, in `image_root` alone if it is given."""
    return Row(item, [found for path in picture_files(item, image_root, workspace) if (found := _sha256(path))])


def _sha256(path: Path | None) -> str | None:
    try:
        return hashlib.sha256(intact_bytes(path)).hexdigest() if path else None
    except ValueError:
        return None


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


def read_up_to_date(review: Path, rows: Sequence[Row], models: Sequence[str]) -> tuple[list[Judgement], int]:
    """The judgements in a review's folder that are of these rows and models as they are now, and how many are not."""
    everything = read_judgements(review)
    found = up_to_date(everything, rows, models)
    return found, len(everything) - len(found)


def up_to_date(judgements: Iterable[Judgement], rows: Sequence[Row], models: Sequence[str]) -> list[Judgement]:
    """Those that are of these rows and models, or of a row's control, as they are now. A picture that was shown and is
    not there now shows no change; one that is there now and was not shown does."""
    by_sample = {row.item.sample: row for row in rows}
    known = {*models, *CONTROLS, None}

    def holds(said: Judgement) -> bool:
        row = by_sample.get(said.sample)
        if row is None or said.judged is None or not {said.model, said.base} <= known:
            return False
        return said.judged == judged_hash(row.item, said.model, said.base) and (
            said.pictures is None or _in_order(row.pictures, said.pictures)
        )

    return [said for said in judgements if holds(said)]


def _in_order(some: Sequence[str], of: Sequence[str]) -> bool:
    """Whether all of `some` are in `of`, in the same order."""
    rest = iter(of)
    return all(one in rest for one in some)
