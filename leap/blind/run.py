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
    ModelFailure,
    Respondent,
    lines_that_count,
    mark_stale,
    refuse_other_rows,
    replaced,
    standing,
)
from leap.blind.options import OutputOptions
from leap.blind.outputs import CSV_FILE, OUTPUTS_FILE, Output, read_outputs, write_csv
from leap.blind.rows import BlindRow
from leap.files import Journal, read_json, write_json
from leap.models.loading import UnusableModel, free_memory
from leap.planners import Planner, Query, QueryResult
from leap.planners.asking import (
    SETTINGS_FILE,
    AnswerLog,
    OpenQueries,
    answer_in_turn,
    as_recorded,
    opened_journal,
    provenance_of,
)
from leap.planners.candidates import Candidate
from leap.progress import Progress, say
from leap.provenance import hardware
from leap.runs.status import Status

PlannerFactory = Callable[[Path | None], Planner]  # UnusableModel for one that cannot be loaded


class ReviewOutputs(NamedTuple):
    """What the models of a run wrote, failures among it; `standing` names in words those outputs that are of earlier
    runs because their model or row cannot be asked now."""

    outputs: list[Output]
    standing: list[str]


def write_outputs(
    models: Sequence[Candidate], rows: Sequence[BlindRow], open_model: PlannerFactory, options: OutputOptions
) -> ReviewOutputs:
    """Have each model answer each row into `options.save_dir`.

    `max_models` are in memory together and answer batch by batch in turn. `retry_failed` asks again where a machine or
    a model failed in an earlier run. UserError if the folder holds outputs of these models under other settings, or of
    rows that are not there any more, which `overwrite` throws away. Other weights under the same name, and changed
    rows, are asked again.
    """
    folder = options.save_dir
    described = _described(folder)
    respondents = [
        _respondent(model, rows, open_model, options.drawing, described.get(model.name, {}).get("settings"))
        for model in models
    ]
    with opened_journal(folder / OUTPUTS_FILE) as journal:
        _claim(journal, respondents, rows, options)
        _answer(journal, respondents, len(respondents) * len(rows), open_model, options.max_models)
        outputs = lines_that_count(_outputs_in(journal), respondents, rows)
        journal.rewrite([output.record() for output in outputs])
        write_csv(folder / CSV_FILE, outputs)
    names = {model.name for model in models}
    return ReviewOutputs([output for output in outputs if output.model in names], standing(outputs, respondents, rows))


def _respondent(
    model: Candidate,
    rows: Sequence[BlindRow],
    open_model: PlannerFactory,
    drawing: dict[str, Any] | None,
    recorded: dict[str, Any] | None,
) -> Respondent:
    """Open a model without loading its weights, to know which of its answers are there. `recorded` are the settings of
    its earlier ones."""
    try:
        planner = open_model(model.folder)
    except UnusableModel as error:
        return Respondent(model, problem=str(error))
    for note in planner.notes:
        say(f"warning: {note}")
    identity = planner.identity()
    if drawing and identity.get("decoding", {}).get("temperature") != drawing["temperature"]:
        raise UserError(f"--planner {identity['planner']} decodes greedily only; leave out --temperature")
    settings = as_recorded(recorded, {"planner": identity, **({"drawing": drawing} if drawing else {})})
    respondent = Respondent(model, settings, list(planner.notes))
    for row in rows:
        if row.problem is None:
            key, seed = respondent.key(row), row.seed(drawing["seed"]) if drawing else 0
            respondent.queries[key] = Query(key, row.task_name or "", row.messages, seed=seed)
            respondent.rows.setdefault(key, []).append(row)
    return respondent


def _described(folder: Path) -> dict[str, Any]:
    """Settings and provenance by model, as earlier runs left them."""
    path = folder / SETTINGS_FILE
    return read_json(path) if path.is_file() else {}


def _outputs_in(journal: Journal) -> list[Output]:
    return read_outputs(journal.path) if journal.read() else []


def _claim(
    journal: Journal, respondents: Sequence[Respondent], rows: Sequence[BlindRow], options: OutputOptions
) -> None:
    """Leave in the journal what still counts; UserError if that would throw away what other settings or rows gave."""
    earlier = _outputs_in(journal)
    described = _described(journal.path.parent)
    if not options.overwrite:
        refuse_other_rows(journal.path, earlier, rows)
    mark_stale(journal.path, respondents, described, earlier, overwrite=options.overwrite)
    names = {respondent.name for respondent in respondents}
    retried = [output for output in earlier if options.retry_failed and output.model in names and output.failure]
    counting = lines_that_count([output for output in earlier if output not in retried], respondents, rows)
    for words in replaced(earlier, counting):
        say(words)
    settled = {(output.model, output.key) for output in counting}
    for respondent in respondents:
        if respondent.name not in described or respondent.open_queries(settled).keys:
            provenance = provenance_of(respondent.model.folder, respondent.notes)
            described[respondent.name] = {"settings": respondent.settings, "provenance": provenance}
    names |= {output.model for output in counting}
    write_json(
        journal.path.parent / SETTINGS_FILE,
        {name: description for name, description in described.items() if name in names},
    )
    journal.rewrite([output.record() for output in counting])


def _answer(
    journal: Journal, respondents: Sequence[Respondent], total: int, open_model: PlannerFactory, max_models: int
) -> None:
    """Have every open query answered, by `max_models` at once."""
    outputs = _outputs_in(journal)
    settled = {(output.model, output.key) for output in outputs}
    names = [respondent.name for respondent in respondents]
    counting = [output for output in outputs if output.model in names]
    folder = journal.path.parent
    with (
        Status(
            folder / "status.json",
            "outputs",
            {"run": folder.name, "models": names},
            total=total,
            unit="row",
            done=len(counting),
            device=hardware()["gpu"],
        ) as status,
        Progress(folder.name, total, "row", len(counting)) as progress,
    ):
        log = AnswerLog(journal, journal, progress, status, sum(output.text is None for output in counting))
        status.update(failures=log.failed)
        pairs = [(respondent, respondent.open_queries(settled)) for respondent in respondents]
        unfinished = [(respondent, queries) for respondent, queries in pairs if queries.keys]
        for start in range(0, len(unfinished), max_models):
            group = unfinished[start : start + max_models]
            status.update(phase="asking " + ", ".join(respondent.name for respondent, _ in group))
            answer_in_turn([(queries, _results(asker, queries, open_model)) for asker, queries in group], log)
            free_memory()


def _results(respondent: Respondent, queries: OpenQueries, open_model: PlannerFactory) -> Iterator[list[QueryResult]]:
    """The results of a model, which fails all that is open if it cannot be loaded; nothing but this generator holds it,
    so that it is freed with it."""
    try:
        planner = open_model(respondent.model.folder)
        assert respondent.settings is not None, "only models that could be opened are asked"
        if (
            as_recorded(respondent.settings, respondent.settings | {"planner": planner.identity()})
            != respondent.settings
        ):
            raise UnusableModel(f"{respondent.model.folder} changed while the run went on; start it again")
        yield from planner.answer(queries.batches(planner))
    except UnusableModel as error:
        say(f"{respondent.name} failed: {error}")
        failure = ModelFailure(str(error))
    else:
        return
    yield [(query, failure) for query in queries.queries]
