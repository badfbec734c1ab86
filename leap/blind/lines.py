"""Which lines of outputs.jsonl count for the models and rows of a run, and what of earlier runs would be lost.

A line counts for its row and its model as long as its key says so, which is

    <hash of the words and pictures that the model was shown>-<hash of the model's weights and how it decodes>

Where a row or a model cannot be read now, its key is not known. Then an earlier answer stands if it is of the same
model, or of a row with the same words and paths, and what can be read has not changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.blind.outputs import Output
from leap.blind.rows import BlindRow
from leap.files import sha256_json
from leap.models.answer import Answer
from leap.models.names import order_of
from leap.planners import MachineFailure, Query, UnusablePrompt
from leap.planners.asking import OpenQueries
from leap.planners.candidates import Candidate
from leap.planners.settings import other_settings
from leap.provenance import differences

_HASH_LENGTH = 32  # letters of each half of a key


class ModelFailure(MachineFailure):
    """The model cannot be loaded."""

    kind = "model"


@dataclass
class Respondent:
    """A model of a review: by key the queries that it is asked, and the rows that each answers (equal ones are asked
    once); or the `problem` because of which it cannot be asked at all. It is `stale` if its earlier answers were asked
    for in another way than now."""

    model: Candidate
    settings: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    problem: str | None = None
    queries: dict[str, Query] = field(default_factory=dict)
    rows: dict[str, list[BlindRow]] = field(default_factory=dict)
    stale: bool = False

    @property
    def name(self) -> str:
        return self.model.name

    def key(self, row: BlindRow) -> str:
        return f"{_row_hash(row)}-{self.model_hash}"

    @property
    def model_hash(self) -> str:
        return "" if self.settings is None else sha256_json(self.settings)[:_HASH_LENGTH]

    def open_queries(self, settled: Collection[tuple[str, str]]) -> OpenQueries:
        """Those whose (model, key) is not settled."""
        settled_keys = {key for name, key in settled if name == self.name}
        return OpenQueries(self.queries.values(), settled_keys, self._lines)

    def _lines(self, query: Query, result: Answer | MachineFailure) -> list[dict[str, Any]]:
        return [output_of(self, row, result).record() for row in self.rows[query.key]]


def output_of(respondent: Respondent, row: BlindRow, result: Answer | MachineFailure) -> Output:
    """The line of an answer, or of a failure."""
    if isinstance(result, Answer):
        outcome: dict[str, Any] = asdict(result)
    else:
        outcome = {"text": None, "failure": {"kind": result.kind, "reason": str(result)}}
    return Output(respondent.name, key=respondent.key(row), **_fields_of(row), **outcome)


def lines_that_count(
    outputs: Sequence[Output], respondents: Sequence[Respondent], rows: Sequence[BlindRow]
) -> list[Output]:
    """Sorted by model (the base first, then by run and step) and row, with numbers and words of the rows as they are
    now: of each respondent those under its keys, and where it cannot be asked its earlier answers or failures; of
    other models those of the same rows."""
    by_key = {(output.model, output.key): output for output in outputs}
    by_row = {(output.model, _row_hash(output)): output for output in outputs}
    answers = [output for output in outputs if output.text is not None]
    answer_by_row = {(output.model, _row_hash(output)): output for output in answers}
    answer_by_words = {(output.model, _words(output)): output for output in answers}
    by_name = {respondent.name: respondent for respondent in respondents}

    def line(name: str, row: BlindRow) -> Output | None:
        respondent = by_name.get(name)
        if respondent and not (respondent.problem or row.problem):
            return by_key.get((name, respondent.key(row)))
        by_words = answer_by_words.get((name, _words(row)))
        if respondent is None:
            return by_words if row.problem else by_row.get((name, _row_hash(row)))
        earlier = by_words if row.problem else answer_by_row.get((name, _row_hash(row)))
        same_model = respondent.problem or (earlier and _model_hash(earlier) == respondent.model_hash)
        if earlier and same_model and not respondent.stale:
            return earlier
        failure = UnusablePrompt(row.problem) if row.problem else ModelFailure(respondent.problem)
        return output_of(respondent, row, failure)

    names = sorted(by_name.keys() | {output.model for output in outputs}, key=order_of)
    return [_placed(output, row) for name in names for row in rows if (output := line(name, row))]


def standing(outputs: Sequence[Output], respondents: Sequence[Respondent], rows: Sequence[BlindRow]) -> list[str]:
    """In words, the earlier answers among `outputs` that stand although their model or row cannot be read now."""
    answers = [output for output in outputs if output.text is not None]
    notes = []
    for respondent in respondents:
        count = sum(output.model == respondent.name for output in answers)
        if respondent.problem and count:
            notes.append(
                f"{respondent.name} cannot be asked ({respondent.problem}); {count} answers of earlier runs stand"
            )
    for row in rows:
        models = [output.model for output in answers if output.sample == row.sample]
        if row.problem and models:
            notes.append(
                f"row {row.sample} cannot be asked ({row.problem}); the earlier answers of {', '.join(models)} stand"
            )
    return notes


def replaced(earlier: Sequence[Output], counting: Sequence[Output]) -> list[str]:
    """In words, the earlier answers that do not count any more."""
    keys = {(output.model, output.key) for output in counting}
    lost = [output for output in earlier if output.text is not None and (output.model, output.key) not in keys]
    notes = []
    for name in sorted({output.model for output in lost}, key=order_of):
        samples = [str(output.sample) for output in lost if output.model == name]
        notes.append(
            f"{name}: what it wrote for row {', '.join(samples)} counts no more, as the row or the model is another now"
        )
    return notes


def refuse_other_rows(path: Path, earlier: Sequence[Output], rows: Sequence[BlindRow]) -> None:
    """UserError if rows that were answered are not there any more. One with its id or its pictures as before, in the
    same place, is the same row with a change."""
    answers = [output for output in earlier if output.text is not None]
    row_hashes = {_row_hash(row) for row in rows}
    if not answers:
        return
    if not row_hashes & {_row_hash(output) for output in answers}:
        problems = [row.problem for row in rows if row.problem]
        why = f" ({len(problems)} rows cannot be asked, the first: {problems[0]})" if problems else ""
        raise UserError(
            f"{path} holds outputs for none of the rows asked now{why}. "
            "Give --overwrite to replace them, or another --review_dir"
        )
    unreadable = {_words(row) for row in rows if row.problem}
    earlier_hashes = {_row_hash(output) for output in earlier}

    def is_lost(output: Output) -> bool:
        if _row_hash(output) in row_hashes or _words(output) in unreadable:
            return False
        in_its_place = rows[output.sample] if output.sample < len(rows) else None
        return (
            in_its_place is None or _row_hash(in_its_place) in earlier_hashes or not _is_changed(output, in_its_place)
        )

    lost = [output for output in answers if is_lost(output)]
    if lost:
        count = len({_row_hash(output) for output in lost})
        models = ", ".join(sorted({output.model for output in lost}, key=order_of))
        first = f"row {lost[0].sample}, {lost[0].task_name or lost[0].prompt!r:.80}"
        raise UserError(
            f"{path} holds outputs of {models} for {count} {'rows' if count > 1 else 'row'} not asked now (the first: "
            f"{first}). Give --overwrite to drop them, or another --review_dir"
        )


def mark_stale(
    path: Path,
    respondents: Sequence[Respondent],
    earlier_settings: Mapping[str, Any],
    earlier: Sequence[Output],
    *,
    overwrite: bool,
) -> None:
    """Mark the models whose earlier answers were asked for in another way; UserError for the first, unless it may
    `overwrite`. A hash that differs is another model under the name, which is asked again; anything else may be a slip.
    """
    openable = next((respondent.settings for respondent in respondents if respondent.settings), None)
    answered = {output.model for output in earlier if output.text is not None}
    for respondent in respondents:
        settings = earlier_settings.get(respondent.name, {}).get("settings")
        if not settings or respondent.name not in answered:
            continue
        if respondent.settings:
            changes = differences(settings, respondent.settings)
        else:  # it cannot be opened: how it would be asked shows in a model beside it
            changes = differences(_decoding(settings), _decoding(openable)) if openable else []
        changes = [change for change in changes if not change.partition(":")[0].endswith("sha256")]
        if changes and not overwrite:
            raise other_settings(f"{path} holds outputs of {respondent.name}", settings, changes, "--review_dir")
        respondent.stale = bool(changes)


def _decoding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a model's settings that is not its own."""
    return {
        "planner": {"planner": settings["planner"].get("planner"), "decoding": settings["planner"].get("decoding")},
        "drawing": settings.get("drawing"),
    }


def _row_hash(row: BlindRow | Output) -> str:
    return row.sha256[:_HASH_LENGTH] if isinstance(row, BlindRow) else row.key.partition("-")[0]


def _model_hash(output: Output) -> str:
    return output.key.partition("-")[2]


def _words(row: BlindRow | Output) -> tuple[str, ...]:
    """What is known of a row also where its pictures cannot be read."""
    return row.prompt, *row.images


def _is_changed(output: Output, row: BlindRow) -> bool:
    same_id = output.id is not None and output.id == row.row.id
    same_pictures = output.images == row.images if output.images else _words(output) == _words(row)
    return same_id or same_pictures


def _placed(output: Output, row: BlindRow) -> Output:
    """An output as that of a row of the same content."""
    return replace(output, **_fields_of(row))


def _fields_of(row: BlindRow) -> dict[str, Any]:
    """What an output says of its row."""
    return {
        "sample": row.sample,
        "images": row.images,
        "folder": str(row.folder),
        "prompt": row.prompt,
        "reference": row.row.steps,
        "id": row.row.id,
        "task_name": row.task_name,
    }
