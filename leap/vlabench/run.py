"""The evaluation run: answer every example of a dimension into a journal, then score the journal.

Generation can be killed at any moment; the same command answers what is missing. A batch always holds the same
examples, also after a restart, so that an interrupted run ends with the very files of an undisturbed one. Of several
processes each answers its share of the batches into a journal of its own, generations-rank<r>.jsonl, which the first
one takes over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import Journal, read_json, read_jsonl, sha256_json, write_json
from leap.models.answer import Answer
from leap.planners import MachineFailure, Planner, Query
from leap.progress import Progress
from leap.provenance import code_revision, differences, hardware, library_versions, utc_now
from leap.runs.ranks import ALONE, Ranks
from leap.runs.status import Status
from leap.vlabench.examples import Example
from leap.vlabench.folder import FAILURES_FILE, JOURNAL_FILE, SETTINGS_FILE, Summary, answer_record, failure_record
from leap.vlabench.prompts import PromptWriter, prompt_text
from leap.vlabench.results import write_results


@dataclass(frozen=True)
class Asked:
    """What a dimension comes to: a query for each example that can be asked, and why the others cannot."""

    queries: dict[Example, Query]
    unusable: dict[Example, str]
    writer: PromptWriter

    def record(self, example: Example, query: Query, answer: Answer) -> dict[str, Any]:
        """One journal line."""
        prompt, donor = prompt_text(query.messages[-1]["content"]), self.writer.donor(example)
        return {
            "key": query.key,
            "task": example.task,
            "example": example.number,
            **asdict(answer),
            "prompt": prompt,
            "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
            "shots": [shot.place for shot in self.writer.shots_for(example)],
            **({"pictures_from": donor.place} if donor != example else {}),
        }


def ask(examples: Sequence[Example], writer: PromptWriter, settings: dict[str, Any]) -> Asked:
    """The queries of `examples`, keyed by all that an answer depends on; reads every file, asks nobody."""
    asked = Asked({}, {}, writer)
    with Progress("checking examples", len(examples), "example") as progress:
        for example in examples:
            problem = example.problem()
            if problem:
                asked.unusable[example] = problem
            else:
                asked.queries[example] = _query(example, writer, settings)
            progress.advance()
    return asked


def evaluate_dimension(
    planner: Planner,
    writer: PromptWriter,
    examples: Sequence[Example],
    all_examples: Sequence[Example],
    folder: Path,
    model_path: Path | None,
    overwrite: bool = False,
    retry_failed: bool = False,
    ranks: Ranks = ALONE,
) -> Summary | None:
    """Answer `examples` (of one dimension) and write the results to `folder` = eva_results/<dimension>/<model>.

    Results cover everything the journal holds under these settings, so that runs over parts add up; `all_examples` are
    those of the dimension. `retry_failed` asks again where the machine failed in an earlier run. Returns the summary
    (None on all processes but the first). UserError if the folder holds answers under other settings, which `overwrite`
    throws away.
    """
    settings = {"planner": planner.identity(), "prompt": writer.fingerprint()}
    asked = ask(examples, writer, settings)
    with _journals(folder, settings, overwrite, ranks) as (journal, failures, before):
        _answer(planner, asked, before, journal, failures, retry_failed, ranks)
        if ranks.first:
            ranks.wait()  # for the others, who have closed their journals then
            _take_over(folder, journal, failures)
            answers = _answers_of(journal, asked, all_examples)
            left_out = _failures_of(failures, asked, answers, all_examples)
            journal.rewrite(sorted(journal.read(), key=_place))  # whoever answered in whichever order
            failures.rewrite(left_out)
            provenance = {
                "checkpoint": str(model_path) if model_path else None,
                "code_revision": code_revision(),
                "library_versions": library_versions(),
                "hardware": hardware(),
                "processes": ranks.world,
                "notes": list(planner.notes),
                "time": utc_now(),
                "data_sha256": sha256_json([example.sha256() for example in answers]),
            }
            records = {example: answer_record(line) for example, line in answers.items()}
            failed = [failure_record(line) for line in left_out]
            return write_results(folder, records, failed, len(all_examples), settings, provenance)
    ranks.wait()
    return None


@dataclass(frozen=True)
class Before:
    """Keys of what an earlier run has answered, and of what it could not have answered."""

    answered: set[str]
    failed: set[str]


@contextmanager
def _journals(
    folder: Path, settings: dict[str, Any], overwrite: bool, ranks: Ranks
) -> Iterator[tuple[Journal, Journal, Before]]:
    """The journals of answers and of failures that this process writes, in a folder that holds these settings."""
    if not ranks.first:
        ranks.wait()  # until the first one has taken over what an earlier run left
    with (
        Journal(_journal_path(folder, JOURNAL_FILE, ranks)) as journal,
        Journal(_journal_path(folder, FAILURES_FILE, ranks)) as failures,
    ):
        if journal.repaired_bytes:
            print(f"{journal.path}: cut off a torn last line of {journal.repaired_bytes} bytes")
        if ranks.first:
            _take_over(folder, journal, failures)
            _claim(folder, journal, failures, settings, overwrite)
            ranks.wait()
        answered, failed = (
            {record["key"] for record in read_jsonl(folder / name)} for name in (JOURNAL_FILE, FAILURES_FILE)
        )
        ranks.wait()  # nobody writes while another reads
        yield journal, failures, Before(answered, failed - answered)


def _journal_path(folder: Path, name: str, ranks: Ranks) -> Path:
    path = folder / name
    return path if ranks.first else path.with_stem(f"{path.stem}-rank{ranks.rank}")


def _take_over(folder: Path, journal: Journal, failures: Journal) -> None:
    """Move what other processes have written into the first one's journals."""
    for own in (journal, failures):
        known = {record["key"] for record in own.read()}
        for path in sorted(folder.glob(f"{own.path.stem}-rank*.jsonl")):
            with Journal(path) as other:
                own.append([record for record in other.read() if record["key"] not in known])
            path.unlink()


def _claim(folder: Path, journal: Journal, failures: Journal, settings: dict[str, Any], overwrite: bool) -> None:
    """Let `folder` hold answers under these settings only; UserError names what differs."""
    path = folder / SETTINGS_FILE
    changes = differences(read_json(path), settings) if path.is_file() else []
    if changes and journal.read() and not overwrite:
        raise UserError(
            f"{folder} holds results under other settings ({'; '.join(changes)}). "
            "Give --overwrite to replace them, --suffix to name these apart, or another --output_dir"
        )
    if changes:
        journal.rewrite([])
        failures.rewrite([])
    if changes or not path.is_file():
        write_json(path, settings)


def _answer(
    planner: Planner,
    asked: Asked,
    before: Before,
    journal: Journal,
    failures: Journal,
    retry_failed: bool,
    ranks: Ranks,
) -> None:
    """Have this process's share of the open queries answered, each stored before the next is asked."""
    folder = journal.path.parent
    settled = before.answered if retry_failed else before.answered | before.failed
    examples = {query.key: example for example, query in asked.queries.items()}
    if examples.keys() <= settled:
        return
    batches = planner.batches(list(asked.queries.values()))
    # A batch is answered whole also where a part of it is known: an answer must not depend on what was killed when.
    todo = ranks.share([batch for batch in batches if any(query.key not in settled for query in batch)])
    open_here = {query.key for batch in todo for query in batch} - settled
    known = len(examples.keys() & settled)
    status = Status(
        folder / "status.json",
        "evaluation",
        {"model": folder.name, "dimension": folder.parent.name, "processes": ranks.world},
        total=len(examples),
        unit="example",
        done=known,
        other_lines=len(before.answered - examples.keys()),
        device=hardware()["gpu"],
    )
    failed = 0
    with (
        Progress(f"{folder.parent.name} {folder.name}", known + len(open_here), "example", known) as progress,
        status if ranks.first else nullcontext(),
    ):
        for results in planner.answer(todo):
            new = [(examples[query.key], query, result) for query, result in results if query.key in open_here]
            journal.append([asked.record(e, q, r) for e, q, r in new if isinstance(r, Answer)])
            lost = [_failure(e, q.key, r.kind, str(r)) for e, q, r in new if isinstance(r, MachineFailure)]
            failures.append(lost)
            progress.advance(len(new))
            failed += len(lost)
            if ranks.first:
                status.update(progress.done, failures=failed)


def _query(example: Example, writer: PromptWriter, settings: dict[str, Any]) -> Query:
    items = writer.write(example)
    words = hashlib.sha256(prompt_text(items).encode()).hexdigest()
    pictures = [shown.picture_sha256s() for shown in (*writer.shots_for(example), writer.donor(example))]
    key = sha256_json([settings, example.task, example.number, words, pictures])
    return Query(key, example.task, [{"role": "user", "content": items}], writer.pictures == "blank")


def _failure(example: Example, key: str | None, kind: str, reason: str) -> dict[str, Any]:
    """One line of failures.jsonl; `kind` is "machine" or "data", the `key` is null where nothing could be asked."""
    return {"key": key, "task": example.task, "example": example.number, "kind": kind, "reason": reason}


def _place(record: Mapping[str, Any]) -> tuple[str, int]:
    return record["task"], record["example"]


def _answers_of(journal: Journal, asked: Asked, all_examples: Sequence[Example]) -> dict[Example, dict]:
    """The journal record of every answered example. One whose pictures or words changed since counts by its present
    answer, or not at all; one that cannot be scored any more does not count."""
    records = journal.read()
    by_key = {record["key"]: record for record in records}
    by_place = {_place(record): record for record in records}
    found = {}
    for example in all_examples:
        query = asked.queries.get(example)
        record = by_key.get(query.key) if query else by_place.get((example.task, example.number))
        if record is not None and example.problem() is None:
            found[example] = record
    return found


def _failures_of(
    failures: Journal, asked: Asked, answers: Mapping[Example, dict], all_examples: Sequence[Example]
) -> list[dict]:
    """Why the examples that were asked, in this run or an earlier one, have no answer."""
    records = failures.read()
    by_key = {record["key"]: record for record in records if record["key"]}
    by_place = {_place(record): record for record in records}
    found = []
    for example in all_examples:
        query = asked.queries.get(example)
        if example in answers:
            continue
        if example in asked.unusable:
            found.append(_failure(example, None, "data", asked.unusable[example]))
        elif record := (by_key.get(query.key) if query else by_place.get((example.task, example.number))):
            found.append(record)
    return found
