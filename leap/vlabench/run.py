"""The evaluation run: answer every example of a dimension into a journal, then score the journal.

Generation can be killed at any moment; the same command answers what is missing. A batch always holds the same
examples, also after a restart, so that an interrupted run gives the very answers of an undisturbed one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import Journal, read_json, read_jsonl, sha256_json, write_json, write_text
from leap.planners import Answer, MachineFailure, Planner, Query
from leap.progress import Progress
from leap.provenance import code_revision, hardware, library_versions, utc_now
from leap.vlabench.examples import VERIFY_ADVICE, Example
from leap.vlabench.prompts import PromptWriter, prompt_text
from leap.vlabench.results import write_results


def check_examples(examples: Sequence[Example]) -> None:
    """Raise a UserError for the first example that cannot be asked or scored, before a model is loaded for it."""
    with Progress("checking examples", len(examples), "example") as progress:
        for example in examples:
            example.sha256()
            progress.advance()


def evaluate_dimension(
    planner: Planner,
    writer: PromptWriter,
    examples: Sequence[Example],
    all_examples: Sequence[Example],
    folder: Path,
    model_path: Path | None,
    batch_size: int,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Answer `examples` (of one dimension) and write the results to `folder` = eva_results/<dimension>/<model>.

    Results cover everything the journal holds under these settings, so that runs over parts add up; `all_examples` are
    those of the dimension. Returns the summary. UserError if the folder holds answers under other settings, which
    `overwrite` throws away.
    """
    settings = {"planner": planner.identity(), "prompt": writer.fingerprint()}
    keys = {example: _key(example, writer, settings) for example in examples}
    failed: dict[Example, str] = {}
    with Journal(folder / "generations.jsonl") as journal:
        if journal.repaired_bytes:
            print(f"{journal.path}: cut off a torn last line of {journal.repaired_bytes} bytes")
        _claim(folder, journal, settings, overwrite)
        records = {record["key"]: record for record in journal.read()}
        done = sum(key in records for key in keys.values())
        with Progress(f"{folder.parent.name} {folder.name}", len(examples), "example", done) as progress:
            for start in range(0, len(examples), batch_size):
                batch = examples[start : start + batch_size]
                if all(keys[example] in records for example in batch):
                    continue
                for answered in _answers(planner, batch, writer):
                    new = []
                    for example, query, result in answered:
                        if isinstance(result, MachineFailure):
                            failed[example] = str(result)
                        elif keys[example] not in records:
                            new.append(_record(example, query, keys[example], result))
                    journal.append(new)
                    records |= {record["key"]: record for record in new}
                    progress.advance(len(new))

        answers = _answers_of(records, keys, all_examples)
        failures = _failures_of(folder, failed, answers, keys, all_examples)
        write_text(folder / "failures.jsonl", "".join(json.dumps(failure) + "\n" for failure in failures))
        provenance = {
            "checkpoint": str(model_path) if model_path else None,
            "code_revision": code_revision(),
            "library_versions": library_versions(),
            "hardware": hardware(),
            "time": utc_now(),
            "data_sha256": sha256_json([example.sha256() for example in answers]),
        }
        return write_results(folder, answers, failures, len(all_examples), settings, provenance)


def _claim(folder: Path, journal: Journal, settings: dict[str, Any], overwrite: bool) -> None:
    """Let `folder` hold answers under these settings only; UserError names what differs."""
    path = folder / "settings.json"
    changes = _differences(read_json(path), settings) if path.is_file() else []
    if changes and journal.read():
        if not overwrite:
            raise UserError(
                f"{folder} holds results under other settings ({'; '.join(changes)}). "
                "Give --overwrite to replace them, --suffix to name these apart, or another --output_dir"
            )
        journal.clear()
        (folder / "failures.jsonl").unlink(missing_ok=True)
    if changes or not path.is_file():
        write_json(path, settings)


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [d for key in keys for d in _differences(before.get(key), now.get(key), f"{name}.{key}".strip("."))]
    return [] if before == now else [f"{name}: {before} -> {now}"]


def _key(example: Example, writer: PromptWriter, settings: dict[str, Any]) -> str:
    """What an answer depends on: settings, words and picture contents, also those of the shots."""
    words = hashlib.sha256(prompt_text(writer.write(example)).encode()).hexdigest()
    pictures = [shown.picture_sha256s() for shown in (*writer.shots_for(example), example)]
    return sha256_json([settings, example.task, example.number, words, pictures])


def _query(example: Example, writer: PromptWriter) -> Query:
    items = []
    for item in writer.write(example):
        if item["type"] == "image":
            try:
                item = {"type": "image", "image": Path(item["image"]).read_bytes()}
            except OSError as error:
                raise UserError(f"cannot read {item['image']} ({error.strerror}). {VERIFY_ADVICE}") from error
        items.append(item)
    return Query(example.dimension, example.task, example.number, items)


def _answers(
    planner: Planner, batch: Sequence[Example], writer: PromptWriter
) -> Iterator[list[tuple[Example, Query, Answer | MachineFailure]]]:
    """Answers of a batch; where the machine fails on several at once, halves are tried down to single examples."""
    queries = [_query(example, writer) for example in batch]
    failure = None
    try:
        results = planner.answer(queries)
    except MachineFailure as error:
        failure = MachineFailure(*error.args)  # without its traceback, whose frames may hold the memory that ran out
    if failure is None:
        yield list(zip(batch, queries, results, strict=True))
    elif len(batch) == 1:
        yield [(batch[0], queries[0], failure)]
    else:
        half = len(batch) // 2
        yield from _answers(planner, batch[:half], writer)
        yield from _answers(planner, batch[half:], writer)


def _record(example: Example, query: Query, key: str, answer: Answer) -> dict[str, Any]:
    """One journal line."""
    return {
        "key": key,
        "task": example.task,
        "example": example.number,
        **asdict(answer),
        "prompt_sha256": hashlib.sha256(prompt_text(query.items).encode()).hexdigest(),
        "time": utc_now(),
    }


def _answers_of(
    records: Mapping[str, dict], keys: Mapping[Example, str], all_examples: Sequence[Example]
) -> dict[Example, dict]:
    """The journal record of every answered example. One of this run whose pictures or words changed since counts by
    its present answer, or not at all."""
    by_place = {(record["task"], record["example"]): record for record in records.values()}
    found = {}
    for example in all_examples:
        record = records.get(keys[example]) if example in keys else by_place.get((example.task, example.number))
        if record is not None:
            found[example] = record
    return found


def _failures_of(
    folder: Path,
    failed: Mapping[Example, str],
    answers: Mapping[Example, dict],
    keys: Mapping[Example, str],
    all_examples: Sequence[Example],
) -> list[dict]:
    """The machine failures of this run, and earlier ones of examples that this run did not try."""
    path = folder / "failures.jsonl"
    before = {(f["task"], f["example"]): f["reason"] for f in read_jsonl(path)} if path.is_file() else {}
    reasons = {}
    for example in all_examples:
        reason = failed.get(example) if example in keys else before.get((example.task, example.number))
        if reason is not None and example not in answers:
            reasons[example] = reason
    return [{"task": e.task, "example": e.number, "reason": reason} for e, reason in reasons.items()]
