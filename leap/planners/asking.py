"""Ask planners what a journal does not answer yet: the engine of every run, which can be killed at any moment.

claimed_journals    a folder holds answers under one set of settings; what other processes wrote is taken over
as_recorded         settings in the words of an earlier version
OpenQueries         which queries have no result in the journal, and in which batches they are asked
AnswerLog           each result goes to disk, then into progress and status, before the next is asked for
answer_in_turn      one planner after the other, or several batch by batch
provenance_of       what made the answers
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import Journal, numbered_jsonl, read_json, read_jsonl, write_json
from leap.models.answer import Answer
from leap.planners import MachineFailure, Planner, Query, QueryResult
from leap.planners.settings import other_settings
from leap.progress import Progress, say
from leap.provenance import code_revision, differences, hardware, library_versions, utc_now
from leap.runs.ranks import ALONE, Ranks
from leap.runs.status import Status

SETTINGS_FILE = "settings.json"


class OpenQueries:
    """The queries of one planner, and by `keys` those of them that have no result yet."""

    def __init__(
        self,
        queries: Iterable[Query],
        journaled_keys: Collection[str],
        lines_of: Callable[[Query, Answer | MachineFailure], list[dict]],
    ) -> None:
        """`lines_of` makes the journal's lines of a result."""
        self.queries, self.lines_of = list(queries), lines_of
        self.keys = {query.key for query in self.queries}.difference(journaled_keys)

    def batches(self, planner: Planner, ranks: Ranks = ALONE) -> list[list[Query]]:
        """This process's share of the batches that hold an open query.

        A batch is answered whole also where a part of it is known: an answer must not depend on what was killed when.
        """
        batches = planner.batches(self.queries)
        return ranks.share([batch for batch in batches if any(query.key in self.keys for query in batch)])

    def close(self, results: Iterable[QueryResult]) -> list[QueryResult]:
        """Those of the results whose queries were open, which are open no more."""
        new_results = [(query, result) for query, result in results if query.key in self.keys]
        self.keys -= {query.key for query, _ in new_results}
        return new_results


@dataclass
class AnswerLog:
    """Where results go as they come. Both journals may be the same; only the first of several processes has a status.
    Progress, status and `failed` count lines."""

    answers: Journal
    failures: Journal
    progress: Progress
    status: Status | None
    failed: int = 0

    def add(self, queries: OpenQueries, results: Iterable[QueryResult]) -> None:
        """Have what is new among the results on disk before this returns."""
        answers: list[dict[str, Any]] = []
        failures: list[dict[str, Any]] = []
        for query, result in queries.close(results):
            (answers if isinstance(result, Answer) else failures).extend(queries.lines_of(query, result))
        for journal, lines in ((self.answers, answers), (self.failures, failures)):
            if lines:
                journal.append(lines)
        self.failed += len(failures)
        self.progress.advance(len(answers) + len(failures))
        if self.status:
            self.status.update(self.progress.done, failures=self.failed)


def answer_in_turn(streams: Sequence[tuple[OpenQueries, Iterator[list[QueryResult]]]], log: AnswerLog) -> None:
    """Take the results of one batch from each stream, then of the next, until all are at their end."""
    streams = list(streams)
    while streams:
        for stream in list(streams):
            queries, batch_results = stream
            results = next(batch_results, None)
            if results is None:
                streams.remove(stream)
            else:
                log.add(queries, results)


@dataclass(frozen=True)
class Journals:
    """The journals of answers and of failures that this process writes, and the keys that earlier runs left in those
    of all processes. One that failed first and was answered then counts as answered."""

    answers: Journal
    failures: Journal
    answered_keys: set[str]
    failed_keys: set[str]


@contextmanager
def claimed_journals(
    folder: Path, names: tuple[str, str], settings: dict[str, Any], ranks: Ranks, *, overwrite: bool
) -> Iterator[Journals]:
    """The journals of `folder`, by the `names` of that of answers and that of failures, for answers under `settings`
    only. UserError names what differs, unless it may `overwrite` earlier answers.

    Of several processes the first one claims the folder, then each writes into files of its own, NAME-rank<r>.jsonl.
    """
    if not ranks.first:
        ranks.wait()  # until the first one has taken over what an earlier run left
    paths = [folder / name for name in names]
    suffix = "" if ranks.first else f"-rank{ranks.rank}"
    answers_path, failures_path = (path.with_stem(path.stem + suffix) for path in paths)
    with opened_journal(answers_path) as answers, Journal(failures_path) as failures:
        if ranks.first:
            take_over(answers, failures)
            _claim(folder, answers, failures, settings, overwrite=overwrite)
            ranks.wait()
        answered_keys, failed_keys = map(_journaled_keys, paths)
        ranks.wait()  # nobody writes while another reads
        yield Journals(answers, failures, answered_keys, failed_keys - answered_keys)


def as_recorded(recorded: dict[str, Any] | None, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that an earlier version `recorded`, where they are these but for what is named since: the processor
    and the tokens that end an answer. Otherwise `settings` themselves."""
    planner = {name: value for name, value in settings["planner"].items() if name != "processor_sha256"}
    if "decoding" in planner:
        planner["decoding"] = {name: value for name, value in planner["decoding"].items() if name != "ends_at"}
    return recorded if recorded == settings | {"planner": planner} else settings


def _journaled_keys(path: Path) -> set[str]:
    """The keys of the lines in a journal. UserError names a line without one."""
    keys = set()
    for number, record in numbered_jsonl(path):
        if not isinstance(record.get("key"), str):
            raise UserError(f"{path}:{number}: a line without a key is no answer of ours. Mend or remove the line")
        keys.add(record["key"])
    return keys


def opened_journal(path: Path) -> Journal:
    """A journal, and a word on a last line that was torn."""
    journal = Journal(path)
    if journal.repaired_bytes:
        say(f"{path}: cut off a torn last line of {journal.repaired_bytes} bytes")
    return journal


def provenance_of(folder: Path | None, notes: Iterable[str], **more: Any) -> dict[str, Any]:
    """What makes answers besides their settings, as JSON, with the `folder` of the model."""
    return {
        "checkpoint": str(folder) if folder else None,
        "code_revision": code_revision(),
        "library_versions": library_versions(),
        "hardware": hardware(),
        **more,
        "notes": list(notes),
        "time": utc_now(),
    }


def take_over(*journals: Journal) -> None:
    """Move what other processes have written into these journals of the first one."""
    for journal in journals:
        journaled_keys = _journaled_keys(journal.path)
        for path in sorted(journal.path.parent.glob(f"{journal.path.stem}-rank*.jsonl")):
            with Journal(path) as other:
                journal.append([record for record in other.read() if record["key"] not in journaled_keys])
            path.unlink()


def require_same_settings(answers_path: Path, settings: dict[str, Any]) -> None:
    """UserError if the journal holds answers, and settings.json beside it says that they are not under `settings`."""
    path = answers_path.parent / SETTINGS_FILE
    earlier = read_json(path) if path.is_file() else settings
    changes = differences(earlier, settings)
    if changes and answers_path.is_file() and read_jsonl(answers_path):
        raise other_settings(f"{answers_path.parent} holds results", earlier, changes, "--output_dir")


def _claim(folder: Path, answers: Journal, failures: Journal, settings: dict[str, Any], *, overwrite: bool) -> None:
    path = folder / SETTINGS_FILE
    if not overwrite:
        require_same_settings(answers.path, settings)
    changes = differences(read_json(path), settings) if path.is_file() else []
    if changes:
        answers.rewrite([])
        failures.rewrite([])
    if changes or not path.is_file():
        write_json(path, settings)
