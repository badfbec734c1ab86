"""Ask models for the rows of a blind review, into one journal: outputs.jsonl.

Each line is on disk before the next is asked, so a killed run goes on with the same command and ends with the very file
of an undisturbed one: sorted by model (the base first, then by run and step) and row, one line each. Which lines count
is said in leap/blind/lines.py: those of models not asked this time stay, those of changed rows go, with a word.
settings.json holds the settings and provenance of each model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from configs.errors import UserError
from leap.blind.lines import (
    Asked,
    lines_that_count,
    output_of,
    refuse_other_rows,
    refuse_other_settings,
    replaced,
    standing,
)
from leap.blind.outputs import CSV_FILE, OUTPUTS_FILE, Output, read_outputs, write_csv
from leap.blind.rows import BlindRow
from leap.files import Journal, read_json, write_json
from leap.models.answer import Answer
from leap.models.loading import UnusableModel, free_memory
from leap.planners import MachineFailure, Planner, Query, QueryResult
from leap.planners.candidates import Candidate
from leap.progress import Progress, say
from leap.provenance import code_revision, hardware, library_versions, utc_now
from leap.runs.status import Status

Opener = Callable[[Path | None], Planner]  # UnusableModel for one that cannot be loaded

SETTINGS_FILE = "settings.json"


class Written(NamedTuple):
    """What the models of a run wrote, failures among it; `standing` names in words those outputs that are of earlier
    runs because their model or row cannot be asked now."""

    outputs: list[Output]
    standing: list[str]


def write_outputs(
    models: Sequence[Candidate],
    rows: Sequence[BlindRow],
    open_model: Opener,
    folder: Path,
    drawing: dict[str, Any] | None = None,
    at_once: int = 1,
    overwrite: bool = False,
    retry_failed: bool = False,
) -> Written:
    """Have each model answer each row into `folder`.

    `drawing` holds temperature, top_p and seed, None for greedy decoding. `at_once` models are in memory together and
    answer batch by batch in turn. `retry_failed` asks again where a machine or a model failed in an earlier run.
    UserError if the folder holds outputs of these models under other settings, or of rows that are not there any more,
    which `overwrite` throws away. Other weights under the same name, and changed rows, are asked again.
    """
    asked = [_look_at(model, rows, open_model, drawing) for model in models]
    with Journal(folder / OUTPUTS_FILE) as journal:
        if journal.repaired_bytes:
            print(f"{journal.path}: cut off a torn last line of {journal.repaired_bytes} bytes")
        _claim(journal, asked, rows, overwrite, retry_failed)
        _answer(journal, asked, len(asked) * len(rows), open_model, at_once)
        outputs = lines_that_count(_outputs_in(journal), asked, rows)
        journal.rewrite([output.record() for output in outputs])
        write_csv(folder / CSV_FILE, outputs)
    mine = {model.name for model in models}
    return Written([output for output in outputs if output.model in mine], standing(outputs, asked, rows))


def _look_at(model: Candidate, rows: Sequence[BlindRow], open_model: Opener, drawing: dict[str, Any] | None) -> Asked:
    """Open a model without loading its weights, to know what was asked of it before."""
    try:
        planner = open_model(model.folder)
    except UnusableModel as error:
        return Asked(model, problem=str(error))
    for note in planner.notes:
        say(f"warning: {note}")
    identity = planner.identity()
    if drawing and identity.get("decoding", {}).get("temperature") != drawing["temperature"]:
        raise UserError(f"--planner {identity['planner']} decodes greedily only; leave out --temperature")
    asked = Asked(model, {"planner": identity, **({"drawing": drawing} if drawing else {})}, list(planner.notes))
    for row in rows:
        if row.problem is None:
            key, seed = asked.key(row), row.seed(drawing["seed"]) if drawing else 0
            asked.queries[key] = Query(key, row.task_name or "", row.messages, seed=seed)
            asked.rows.setdefault(key, []).append(row)
    return asked


def _outputs_in(journal: Journal) -> list[Output]:
    return read_outputs(journal.path) if journal.read() else []


def _claim(
    journal: Journal, asked: Sequence[Asked], rows: Sequence[BlindRow], overwrite: bool, retry_failed: bool
) -> None:
    """Leave in the journal what still counts; UserError if that would throw away what other settings or rows gave."""
    before = _outputs_in(journal)
    path = journal.path.parent / SETTINGS_FILE
    known = read_json(path) if path.is_file() else {}
    if not overwrite:
        refuse_other_rows(journal.path, before, rows)
    refuse_other_settings(journal.path, asked, known, before, overwrite)
    mine = {one.model.name for one in asked}
    again = [output for output in before if retry_failed and output.model in mine and output.failure]
    kept = lines_that_count([output for output in before if output not in again], asked, rows)
    for words in replaced(before, kept):
        say(words)
    settled = {(output.model, output.key) for output in kept}
    for one in asked:
        if one.model.name not in known or any((one.model.name, key) not in settled for key in one.queries):
            known[one.model.name] = _described(one)
    names = mine | {output.model for output in kept}
    write_json(path, {name: of_model for name, of_model in known.items() if name in names})
    journal.rewrite([output.record() for output in kept])


def _described(one: Asked) -> dict[str, Any]:
    """What settings.json says of a model that is about to be asked."""
    return {
        "settings": one.settings,
        "provenance": {
            "checkpoint": str(one.model.folder) if one.model.folder else None,
            "code_revision": code_revision(),
            "library_versions": library_versions(),
            "hardware": hardware(),
            "notes": one.notes,
            "time": utc_now(),
        },
    }


def _answer(journal: Journal, asked: Sequence[Asked], total: int, open_model: Opener, at_once: int) -> None:
    """Have every open query answered, each stored before the next is asked."""
    before = _outputs_in(journal)
    settled = {(output.model, output.key) for output in before}
    mine = {one.model.name for one in asked}
    done = sum(output.model in mine for output in before)
    failed = sum(output.model in mine and output.text is None for output in before)
    still_open = {one.model.name: {key for key in one.queries if (one.model.name, key) not in settled} for one in asked}
    folder = journal.path.parent
    with (
        Status(
            folder / "status.json",
            "outputs",
            {"run": folder.name, "models": [one.model.name for one in asked]},
            total=total,
            unit="row",
            done=done,
            device=hardware()["gpu"],
        ) as status,
        Progress(folder.name, total, "row", done) as progress,
    ):
        status.update(failures=failed)

        def store(one: Asked, results: Sequence[tuple[str, Answer | MachineFailure | str]]) -> None:
            """A text in place of a result says why the model cannot be loaded."""
            nonlocal failed
            lines = []
            for key, result in results:
                if key not in still_open[one.model.name]:
                    continue  # answered again so that its batch is whole
                still_open[one.model.name].remove(key)
                for row in one.rows[key]:
                    if isinstance(result, Answer):
                        lines.append(output_of(one, row, result))
                    else:
                        kind = "model" if isinstance(result, str) else result.kind
                        lines.append(output_of(one, row, failure={"kind": kind, "reason": str(result)}))
            journal.append([line.record() for line in lines])
            failed += sum(line.text is None for line in lines)
            progress.advance(len(lines))
            status.update(progress.done, failures=failed)

        unfinished = [one for one in asked if still_open[one.model.name]]
        for start in range(0, len(unfinished), at_once):
            group = unfinished[start : start + at_once]
            status.update(phase="asking " + ", ".join(one.model.name for one in group))
            _in_turn(group, still_open, open_model, store)
            free_memory()


def _in_turn(
    group: Sequence[Asked],
    still_open: dict[str, set[str]],
    open_model: Opener,
    store: Callable[[Asked, Sequence[tuple[str, Any]]], None],
) -> None:
    """A batch of each model of the group, then the next of each, until all are through."""
    answering = [(one, _answers(one, still_open[one.model.name], open_model)) for one in group]
    while answering:
        for one, answers in list(answering):
            try:
                results = next(answers, None)
            except UnusableModel as error:
                say(f"{one.model.name} failed: {error}")
                results = None
                store(one, [(key, str(error)) for key in one.queries])
            if results is None:
                answering.remove((one, answers))
            else:
                store(one, [(query.key, result) for query, result in results])


def _answers(one: Asked, still_open: set[str], open_model: Opener) -> Iterator[list[QueryResult]]:
    """The answers of a model; nothing but this generator holds it, so that it is freed with it.

    A batch is answered whole also where a part of it is known: an answer must not depend on what was killed when.
    """
    planner = open_model(one.model.folder)
    assert one.settings is not None, "only models that could be opened are asked"
    if planner.identity() != one.settings["planner"]:
        raise UnusableModel(f"{one.model.folder} changed while the run went on; start it again")
    batches = planner.batches(list(one.queries.values()))
    yield from planner.answer([batch for batch in batches if any(query.key in still_open for query in batch)])
