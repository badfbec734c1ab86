"""Which lines of outputs.jsonl count for the models and rows of a run, and what of earlier runs would be lost.

A line counts for its row and its model as long as its key says so, which is

    <hash of the words and pictures that the model was shown>-<hash of the model's weights and how it decodes>

Where a row or a model cannot be read now, its key is not known. Then an earlier answer stands if it is of the same
model, or of a row with the same words and paths, and what can be read has not changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.blind.outputs import Output
from leap.blind.rows import BlindRow
from leap.files import sha256_json
from leap.models.answer import Answer
from leap.models.names import order_of
from leap.planners import Query
from leap.planners.candidates import Candidate
from leap.provenance import differences

_HASH_LENGTH = 32  # letters of each half of a key


@dataclass
class Asked:
    """What one model comes to: by key a query, and the rows that it answers (equal ones are asked once); or the
    `problem` because of which it cannot be asked at all. It is `stale` if its earlier answers were asked for in another
    way than now."""

    model: Candidate
    settings: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    problem: str | None = None
    queries: dict[str, Query] = field(default_factory=dict)
    rows: dict[str, list[BlindRow]] = field(default_factory=dict)
    stale: bool = False

    def key(self, row: BlindRow) -> str:
        return f"{_row_hash(row)}-{self.model_hash}"

    @property
    def model_hash(self) -> str:
        return "" if self.settings is None else sha256_json(self.settings)[:_HASH_LENGTH]


def output_of(one: Asked, row: BlindRow, result: Answer | None = None, failure: dict[str, str] | None = None) -> Output:
    """The line of an answer, or of a failure."""
    said = {"text": result.text, "new_tokens": result.new_tokens, "stop": result.stop} if result else {"text": None}
    return Output(
        one.model.name,
        row.sample,
        row.images,
        str(row.folder),
        row.prompt,
        row.row.steps,
        id=row.row.id,
        task_name=row.task_name,
        key=one.key(row),
        failure=failure,
        **said,
    )


def lines_that_count(found: Sequence[Output], asked: Sequence[Asked], rows: Sequence[BlindRow]) -> list[Output]:
    """Sorted by model (the base first, then by run and step) and row, with numbers and words of the rows as they are
    now: of each model asked those under its keys, and where it cannot be asked its earlier answers or failures; of
    other models those of the same rows."""
    by_key = {(output.model, output.key): output for output in found}
    by_row = {(output.model, _row_hash(output)): output for output in found}
    answers = [output for output in found if output.text is not None]
    answer_by_row = {(output.model, _row_hash(output)): output for output in answers}
    answer_by_words = {(output.model, _words(output)): output for output in answers}
    mine = {one.model.name: one for one in asked}

    def line(name: str, row: BlindRow) -> Output | None:
        one = mine.get(name)
        if one and not (one.problem or row.problem):
            return by_key.get((name, one.key(row)))
        by_words = answer_by_words.get((name, _words(row)))
        if one is None:
            return by_words if row.problem else by_row.get((name, _row_hash(row)))
        earlier = by_words if row.problem else answer_by_row.get((name, _row_hash(row)))
        if earlier and not one.stale and (one.problem or _model_hash(earlier) == one.model_hash):
            return earlier
        kind, reason = ("data", row.problem) if row.problem else ("model", one.problem)
        return output_of(one, row, failure={"kind": kind, "reason": str(reason)})

    names = sorted(mine.keys() | {output.model for output in found}, key=order_of)
    return [_placed(output, row) for name in names for row in rows if (output := line(name, row))]


def standing(outputs: Sequence[Output], asked: Sequence[Asked], rows: Sequence[BlindRow]) -> list[str]:
    """In words, the earlier answers among `outputs` that stand although their model or row cannot be read now."""
    answers = [output for output in outputs if output.text is not None]
    found = []
    for one in asked:
        count = sum(output.model == one.model.name for output in answers)
        if one.problem and count:
            found.append(f"{one.model.name} cannot be asked ({one.problem}); {count} answers of earlier runs stand")
    for row in rows:
        models = [output.model for output in answers if output.sample == row.sample]
        if row.problem and models:
            found.append(
                f"row {row.sample} cannot be asked ({row.problem}); the earlier answers of {', '.join(models)} stand"
            )
    return found


def replaced(before: Sequence[Output], kept: Sequence[Output]) -> list[str]:
    """In words, the earlier answers that do not count any more."""
    still = {(output.model, output.key) for output in kept}
    lost = [output for output in before if output.text is not None and (output.model, output.key) not in still]
    found = []
    for name in sorted({output.model for output in lost}, key=order_of):
        samples = [str(output.sample) for output in lost if output.model == name]
        found.append(
            f"{name}: what it wrote for row {', '.join(samples)} counts no more, as the row or the model is another now"
        )
    return found


def refuse_other_rows(path: Path, before: Sequence[Output], rows: Sequence[BlindRow]) -> None:
    """UserError if rows that were answered are not there any more. One with its id or its pictures as before, in the
    same place, is the same row with a change."""
    answers = [output for output in before if output.text is not None]
    there = {_row_hash(row) for row in rows}
    if not answers:
        return
    if not there & {_row_hash(output) for output in answers}:
        problems = [row.problem for row in rows if row.problem]
        why = f" ({len(problems)} rows cannot be asked, the first: {problems[0]})" if problems else ""
        raise UserError(
            f"{path} holds outputs for none of the rows asked now{why}. "
            "Give --overwrite to replace them, or another --save_dir"
        )
    unreadable = {_words(row) for row in rows if row.problem}
    before_hashes = {_row_hash(output) for output in before}

    def is_gone(output: Output) -> bool:
        if _row_hash(output) in there or _words(output) in unreadable:
            return False
        in_its_place = rows[output.sample] if output.sample < len(rows) else None
        return in_its_place is None or _row_hash(in_its_place) in before_hashes or not _is_changed(output, in_its_place)

    gone = [output for output in answers if is_gone(output)]
    if gone:
        count = len({_row_hash(output) for output in gone})
        models = ", ".join(sorted({output.model for output in gone}, key=order_of))
        first = f"row {gone[0].sample}, {gone[0].task_name or gone[0].prompt!r:.80}"
        raise UserError(
            f"{path} holds outputs of {models} for {count} {'rows' if count > 1 else 'row'} not asked now (the first: "
            f"{first}). Give --overwrite to drop them, or another --save_dir"
        )


def refuse_other_settings(
    path: Path,
    asked: Sequence[Asked],
    known: Mapping[str, Any],
    before: Sequence[Output],
    overwrite: bool,
) -> None:
    """UserError, unless told to `overwrite`, if a model's earlier answers were asked for in another way; `known` is
    settings.json. A hash that differs is another model under the name, which is asked again; anything else may be a
    slip."""
    openable = next((one.settings for one in asked if one.settings), None)
    for one in asked:
        name = one.model.name
        earlier = known.get(name, {}).get("settings")
        if not (earlier and any(output.model == name and output.text is not None for output in before)):
            continue
        if one.settings:
            changes = differences(earlier, one.settings)
        else:  # it cannot be opened: how it would be asked shows in a model beside it
            changes = differences(_decoding(earlier), _decoding(openable)) if openable else []
        changes = [change for change in changes if not change.partition(":")[0].endswith("sha256")]
        if changes and not overwrite:
            raise UserError(
                f"{path} holds outputs of {name} under other settings ({'; '.join(changes)}). "
                "Give --overwrite to replace them, --suffix to name these apart, or another --save_dir"
            )
        one.stale = bool(changes)


def _decoding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a model's settings that is not its own."""
    return {
        "planner": {"planner": settings["planner"].get("planner"), "decoding": settings["planner"].get("decoding")},
        "drawing": settings.get("drawing"),
    }


def _row_hash(of: BlindRow | Output) -> str:
    return of.sha256[:_HASH_LENGTH] if isinstance(of, BlindRow) else of.key.partition("-")[0]


def _model_hash(output: Output) -> str:
    return output.key.partition("-")[2]


def _words(of: BlindRow | Output) -> tuple[str, ...]:
    """What is known of a row also where its pictures cannot be read."""
    return of.prompt, *of.images


def _is_changed(output: Output, row: BlindRow) -> bool:
    same_id = output.id is not None and output.id == row.row.id
    same_pictures = output.images == row.images if output.images else _words(output) == _words(row)
    return same_id or same_pictures


def _placed(output: Output, row: BlindRow) -> Output:
    """An output as that of a row of the same content."""
    return replace(
        output,
        sample=row.sample,
        images=row.images,
        folder=str(row.folder),
        prompt=row.prompt,
        reference=row.row.steps,
        id=row.row.id,
        task_name=row.task_name,
    )
