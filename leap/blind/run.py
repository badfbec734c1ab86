"""Ask models for the rows of a blind review, into one journal: outputs.jsonl.

Each line is on disk before the next is asked, so a killed run goes on with the same command and ends with the very file
of an undisturbed one: sorted by model (the base first, then by run and step) and row, one line each. A line counts for
its row and its model as long as its key says so, which is

    <hash of the words and pictures that the model was shown>-<hash of the model's weights and how it decodes>

Lines of models that are not asked this time stay if their row is still there; those of changed rows go.
settings.json holds the settings and provenance of each model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.blind.outputs import CSV_FILE, OUTPUTS_FILE, Output, read_outputs, write_csv
from leap.blind.rows import BlindRow
from leap.files import Journal, read_json, sha256_json, write_json
from leap.models import UnusableModel, free_memory
from leap.planners import Answer, Answered, MachineFailure, Planner, Query
from leap.planners.candidates import Candidate
from leap.progress import Progress, say
from leap.provenance import code_revision, differences, hardware, library_versions, utc_now
from leap.status import Status
from leap.vlabench.names import order_of

Opener = Callable[[Path | None], Planner]  # UnusableModel for one that cannot be loaded

SETTINGS_FILE = "settings.json"
_HASH_LENGTH = 32  # letters of each half of a key


@dataclass
class Asked:
    """What one model comes to: by key a query, and the rows that it answers (equal ones are asked once); or the
    `problem` because of which it cannot be asked at all."""

    model: Candidate
    settings: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    problem: str | None = None
    queries: dict[str, Query] = field(default_factory=dict)
    rows: dict[str, list[BlindRow]] = field(default_factory=dict)

    def key(self, row: BlindRow) -> str:
        of_model = "" if self.settings is None else sha256_json(self.settings)[:_HASH_LENGTH]
        return f"{row.sha256[:_HASH_LENGTH]}-{of_model}"


def write_outputs(
    models: Sequence[Candidate],
    rows: Sequence[BlindRow],
    open_model: Opener,
    folder: Path,
    drawing: dict[str, Any] | None = None,
    at_once: int = 1,
    overwrite: bool = False,
    retry_failed: bool = False,
) -> list[Output]:
    """Have each model answer each row into `folder`, and return what they wrote, failures among it.

    `drawing` holds temperature, top_p and seed, None for greedy decoding. `at_once` models are in memory together and
    answer batch by batch in turn. `retry_failed` asks again where a machine or a model failed in an earlier run.
    UserError if the folder holds outputs of these models under other settings, or of other rows only, which `overwrite`
    throws away. Other weights under the same name, and changed rows, are asked again.
    """
    asked = [_look_at(model, rows, open_model, drawing) for model in models]
    with Journal(folder / OUTPUTS_FILE) as journal:
        if journal.repaired_bytes:
            print(f"{journal.path}: cut off a torn last line of {journal.repaired_bytes} bytes")
        _claim(journal, asked, rows, overwrite, retry_failed)
        _answer(journal, asked, len(asked) * len(rows), open_model, at_once)
        outputs = _lines(_outputs_in(journal), asked, rows)
        journal.rewrite([output.record() for output in outputs])
        write_csv(folder / CSV_FILE, outputs)
    mine = {model.name for model in models}
    return [output for output in outputs if output.model in mine]


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
    if before and not overwrite:
        _refuse_other_rows(journal.path, before, rows)
        for one in asked:
            _refuse_other_settings(journal.path, one, known, before)
    mine = {one.model.name for one in asked}
    again = [output for output in before if retry_failed and output.model in mine and output.failure]
    kept = _lines([output for output in before if output not in again], asked, rows)
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


def _refuse_other_rows(path: Path, before: Sequence[Output], rows: Sequence[BlindRow]) -> None:
    if {output.key.partition("-")[0] for output in before} & {row.sha256[:_HASH_LENGTH] for row in rows}:
        return
    problems = [row.problem for row in rows if row.problem]
    why = f" ({len(problems)} rows cannot be asked, the first: {problems[0]})" if problems else ""
    raise UserError(
        f"{path} holds outputs for none of the rows asked now{why}. "
        "Give --overwrite to replace them, or another --save_dir"
    )


def _refuse_other_settings(path: Path, one: Asked, known: dict[str, Any], before: Sequence[Output]) -> None:
    """A hash that differs is another model under the name, which is asked again; anything else may be a slip."""
    earlier = known.get(one.model.name, {}).get("settings")
    answered = any(output.model == one.model.name and output.text is not None for output in before)
    if not (one.settings and earlier and answered):
        return
    changes = [
        change for change in differences(earlier, one.settings) if not change.partition(":")[0].endswith("sha256")
    ]
    if changes:
        raise UserError(
            f"{path} holds outputs of {one.model.name} under other settings ({'; '.join(changes)}). "
            "Give --overwrite to replace them, --suffix to name these apart, or another --save_dir"
        )


def _lines(found: Sequence[Output], asked: Sequence[Asked], rows: Sequence[BlindRow]) -> list[Output]:
    """The lines that count, sorted, with numbers and words of the rows as they are now: of each model asked those under
    its keys, and failures where row or model cannot be asked; of other models those of the same rows."""
    by_key = {(output.model, output.key): output for output in found}
    by_row = {(output.model, output.key.partition("-")[0]): output for output in found}
    mine = {one.model.name: one for one in asked}
    others = {output.model for output in found} - mine.keys()
    lines: list[Output] = []
    for name in sorted(mine.keys() | others, key=order_of):
        for row in rows:
            if name in others:
                output = by_row.get((name, row.sha256[:_HASH_LENGTH]))
            else:
                one = mine[name]
                output = _unaskable(one, row) or by_key.get((name, one.key(row)))
            if output is not None:
                lines.append(_placed(output, row))
    return lines


def _unaskable(one: Asked, row: BlindRow) -> Output | None:
    if row.problem:
        return _output(one, row, failure={"kind": "data", "reason": row.problem})
    if one.problem:
        return _output(one, row, failure={"kind": "model", "reason": one.problem})
    return None


def _output(one: Asked, row: BlindRow, result: Answer | None = None, failure: dict[str, str] | None = None) -> Output:
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
                        lines.append(_output(one, row, result))
                    else:
                        kind = "model" if isinstance(result, str) else result.kind
                        lines.append(_output(one, row, failure={"kind": kind, "reason": str(result)}))
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


def _answers(one: Asked, still_open: set[str], open_model: Opener) -> Iterator[list[Answered]]:
    """The answers of a model; nothing but this generator holds it, so that it is freed with it.

    A batch is answered whole also where a part of it is known: an answer must not depend on what was killed when.
    """
    planner = open_model(one.model.folder)
    assert one.settings is not None, "only models that could be opened are asked"
    if planner.identity() != one.settings["planner"]:
        raise UnusableModel(f"{one.model.folder} changed while the run went on; start it again")
    batches = planner.batches(list(one.queries.values()))
    yield from planner.answer([batch for batch in batches if any(query.key in still_open for query in batch)])
