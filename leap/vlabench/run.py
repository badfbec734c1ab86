"""The evaluation run: answer every example of a dimension into a journal, then score the journal.

Generation can be killed at any moment; the same command answers what is missing. A batch always holds the same
examples, also after a restart, so that an interrupted run ends with the very files of an undisturbed one. Of several
processes each answers its share of the batches into a journal of its own, generations-rank<r>.jsonl, which the first
one takes over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from leap.files import Journal, read_json, sha256_json
from leap.models.answer import Answer
from leap.planners import MachineFailure, Planner, Query
from leap.planners.asking import (
    SETTINGS_FILE,
    AnswerLog,
    Journals,
    OpenQueries,
    answer_in_turn,
    as_recorded,
    claimed_journals,
    provenance_of,
    take_over,
)
from leap.progress import Progress
from leap.provenance import hardware
from leap.runs.ranks import ALONE, Ranks
from leap.runs.status import Status
from leap.vlabench.examples import Example
from leap.vlabench.folder import FAILURES_FILE, JOURNAL_FILE, Summary, answer_record, failure_record
from leap.vlabench.prompts import PromptWriter, prompt_text
from leap.vlabench.results import write_results


@dataclass(frozen=True)
class DimensionQueries:
    """What a dimension comes to: a query for each answer that is wanted of an example that can be asked, and why the
    others cannot."""

    by_example: dict[Example, list[Query]]
    unusable: dict[Example, str]
    writer: PromptWriter

    def record(self, example: Example, query: Query, result: Answer | MachineFailure) -> dict[str, Any]:
        """One line of the journal or, for a failure of the machine, of failures.jsonl."""
        if isinstance(result, MachineFailure):
            return _failure(example, query.key, result.kind, str(result))
        prompt, donor = prompt_text(query.messages[-1]["content"]), self.writer.donor(example)
        return {
            "key": query.key,
            "task": example.task,
            "example": example.number,
            **({"sample": sample} if (sample := self.by_example[example].index(query)) else {}),
            **asdict(result),
            "prompt": prompt,
            "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
            "shots": [shot.place for shot in self.writer.shots_for(example)],
            **({"pictures_from": donor.place} if donor != example else {}),
        }


def queries_for(
    examples: Sequence[Example], writer: PromptWriter, settings: dict[str, Any], num_samples: int = 1
) -> DimensionQueries:
    """The queries of `examples`, `num_samples` of each, keyed by all that an answer depends on; reads every file, asks
    nobody."""
    queries = DimensionQueries({}, {}, writer)
    with Progress("checking examples", len(examples), "example") as progress:
        for example in examples:
            problem = example.problem()
            if problem:
                queries.unusable[example] = problem
            else:
                queries.by_example[example] = _queries(example, writer, settings, num_samples)
            progress.advance()
    return queries


def evaluate_dimension(
    planner: Planner,
    writer: PromptWriter,
    examples: Sequence[Example],
    all_examples: Sequence[Example],
    folder: Path,
    model_path: Path | None,
    *,
    overwrite: bool = False,
    retry_failed: bool = False,
    drawing: Mapping[str, Any] | None = None,
    num_samples: int = 1,
    ranks: Ranks = ALONE,
) -> Summary | None:
    """Answer `examples` (of one dimension) and write the results to `folder` = eva_results/<dimension>/<model>.

    Results cover everything the journal holds under these settings, so that runs over parts add up; `all_examples` are
    those of the dimension. `retry_failed` asks again where the machine failed in an earlier run. With `drawing` (the
    seed) answers are drawn, `num_samples` to each example, of which no example counts with fewer. Returns the summary
    (None on all processes but the first). UserError if the folder holds answers under other settings, which `overwrite`
    throws away.
    """
    settings = settings_of(planner, writer, folder, drawing)
    queries = queries_for(examples, writer, settings, num_samples)
    with claimed_journals(folder, (JOURNAL_FILE, FAILURES_FILE), settings, ranks, overwrite=overwrite) as journals:
        settled_keys = journals.answered_keys | (set() if retry_failed else journals.failed_keys)
        _answer(planner, queries, settled_keys, journals, ranks)
        if ranks.first:
            ranks.wait()  # for the others, who have closed their journals then
            take_over(journals.answers, journals.failures)
            answers = _answers_of(journals.answers, queries, all_examples, num_samples)
            failures = _failures_of(journals.failures, queries, answers, all_examples)
            journals.answers.rewrite(sorted(journals.answers.read(), key=_place))  # whoever answered in whichever order
            journals.failures.rewrite(failures)
            provenance = provenance_of(model_path, planner.notes, processes=ranks.world)
            provenance["data_sha256"] = sha256_json([example.sha256() for example in answers])
            records = {example: [answer_record(line) for line in lines] for example, lines in answers.items()}
            failed = [failure_record(line) for line in failures]
            firsts = {example: samples[0] for example, samples in records.items()}
            further = {example: samples[1:] for example, samples in records.items()}
            return write_results(folder, firsts, failed, len(all_examples), settings, provenance, further)
    ranks.wait()
    return None


def settings_of(
    planner: Planner, writer: PromptWriter, folder: Path, drawing: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Everything that decides the answers in `folder`, as its settings.json has it."""
    settings = {"planner": planner.identity(), "prompt": writer.fingerprint()}
    settings |= {"drawing": dict(drawing)} if drawing else {}
    recorded = folder / SETTINGS_FILE
    return as_recorded(read_json(recorded), settings) if recorded.is_file() else settings


def _answer(
    planner: Planner, queries: DimensionQueries, settled_keys: set[str], journals: Journals, ranks: Ranks
) -> None:
    """Have this process's share of the open queries answered."""
    examples = {query.key: example for example, samples in queries.by_example.items() for query in samples}
    open_queries = OpenQueries(
        [query for samples in queries.by_example.values() for query in samples],
        settled_keys,
        lambda query, result: [queries.record(examples[query.key], query, result)],
    )
    if not open_queries.keys:
        return
    batches = open_queries.batches(planner, ranks)
    folder, settled = journals.answers.path.parent, len(examples) - len(open_queries.keys)
    share = len({query.key for batch in batches for query in batch} & open_queries.keys)
    status = Status(
        folder / "status.json",
        "evaluation",
        {"model": folder.name, "dimension": folder.parent.name, "processes": ranks.world},
        total=len(examples),
        unit="example",
        done=settled,
        other_lines=len(journals.answered_keys - examples.keys()),
        device=hardware()["gpu"],
    )
    with (
        Progress(f"{folder.parent.name} {folder.name}", settled + share, "example", settled) as progress,
        status if ranks.first else nullcontext(),
    ):
        log = AnswerLog(journals.answers, journals.failures, progress, status if ranks.first else None)
        answer_in_turn([(open_queries, planner.answer(batches))], log)


def _queries(example: Example, writer: PromptWriter, settings: dict[str, Any], num_samples: int) -> list[Query]:
    """A query for each of the answers that are drawn to an example, whose keys are their seeds."""
    items = writer.write(example)
    words = hashlib.sha256(prompt_text(items).encode()).hexdigest()
    pictures = [source.picture_sha256s() for source in (*writer.shots_for(example), writer.donor(example))]
    question = [settings, example.task, example.number, words, pictures]
    keys = [sha256_json([*question, number] if number else question) for number in range(num_samples)]
    messages = [{"role": "user", "content": items}]
    blank = writer.pictures == "blank"
    return [Query(key, example.task, messages, blank, seed=int(key[:8], 16) % 2**31) for key in keys]


def _failure(example: Example, key: str | None, kind: str, reason: str) -> dict[str, Any]:
    """One line of failures.jsonl; `kind` is "machine" or "data", the `key` is null where nothing could be asked."""
    return {"key": key, "task": example.task, "example": example.number, "kind": kind, "reason": reason}


def _place(record: Mapping[str, Any]) -> tuple[str, int, int]:
    return record["task"], record["example"], record.get("sample", 0)


def _records_of(
    journal: Journal, queries: DimensionQueries, examples: Sequence[Example], num_samples: int = 1
) -> dict[Example, list[dict]]:
    """The last records of each example that has any, one an answer wanted: of one that is asked now, those of its
    queries; of another, those of its place."""
    records = journal.read()
    by_key = {record["key"]: record for record in records}
    by_place = {_place(record): record for record in records}
    latest = {}
    for example in examples:
        samples = queries.by_example.get(example)
        places = [(example.task, example.number, sample) for sample in range(num_samples)]
        lines = [by_key.get(query.key) for query in samples] if samples else [by_place.get(place) for place in places]
        if any(lines):
            latest[example] = [line for line in lines if line is not None]
    return latest


def _answers_of(
    journal: Journal, queries: DimensionQueries, all_examples: Sequence[Example], num_samples: int
) -> dict[Example, list[dict]]:
    """The journal records of every answered example, `num_samples` of each. One whose pictures or words changed since
    counts by its present answers, or not at all; one that cannot be scored any more does not count."""
    records = _records_of(journal, queries, all_examples, num_samples)
    return {
        example: lines for example, lines in records.items() if len(lines) == num_samples and example.problem() is None
    }


def _failures_of(
    journal: Journal, queries: DimensionQueries, answers: Mapping[Example, list[dict]], all_examples: Sequence[Example]
) -> list[dict]:
    """Why the examples that were asked, in this run or an earlier one, have no answer."""
    records = {example: lines[0] for example, lines in _records_of(journal, queries, all_examples).items()}
    for example, problem in queries.unusable.items():
        records[example] = _failure(example, None, "data", problem)
    return [records[example] for example in all_examples if example in records and example not in answers]
