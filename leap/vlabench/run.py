"""The evaluation run: answer every example of a dimension into a journal, then score the journal.

Generation can be killed at any moment; the same command answers what is missing. A batch always holds the same
examples, also after a restart, so that an interrupted run gives the very answers of an undisturbed one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import Journal, read_json, sha256_json, write_json, write_text
from leap.images import intact_problem
from leap.planners import Answer, MachineFailure, Planner, Query
from leap.progress import Progress
from leap.provenance import code_revision, hardware, library_versions, utc_now
from leap.vlabench.examples import VERIFY_ADVICE, Example
from leap.vlabench.prompts import PromptWriter, prompt_text
from leap.vlabench.results import write_results


def evaluate_dimension(
    planner: Planner,
    writer: PromptWriter,
    examples: Sequence[Example],
    all_examples: Sequence[Example],
    folder: Path,
    model_path: Path | None,
    batch_size: int,
) -> dict[str, Any]:
    """Answer `examples` (of one dimension) and write the results to `folder` = eva_results/<dimension>/<model>.

    Results cover everything the journal holds under these settings, so that runs over parts add up; `all_examples` are
    those of the dimension. Returns the summary. UserError if the folder holds results under other settings.
    """
    settings = {"planner": planner.identity(), "prompt": writer.fingerprint()}
    keys = {example: _key(example, writer, settings) for example in examples}
    _claim(folder, settings)
    failures: list[dict] = []
    with Journal(folder / "generations.jsonl") as journal:
        if journal.repaired_bytes:
            print(f"{journal.path}: cut off a torn last line of {journal.repaired_bytes} bytes")
        records = {record["key"]: record for record in journal.read()}
        done = sum(key in records for key in keys.values())
        with Progress(f"{folder.parent.name} {folder.name}", len(examples), "example", done) as progress:
            for start in range(0, len(examples), batch_size):
                batch = examples[start : start + batch_size]
                if all(keys[example] in records for example in batch):
                    continue
                new = []
                for example, query, result in _answers(planner, batch, writer):
                    if isinstance(result, MachineFailure):
                        failures.append({"task": example.task, "example": example.number, "reason": str(result)})
                    elif keys[example] not in records:
                        new.append(_record(example, query, keys[example], result))
                journal.append(new)
                records |= {record["key"]: record for record in new}
                progress.advance(len(new))
        write_text(folder / "failures.jsonl", "".join(json.dumps(failure) + "\n" for failure in failures))

        by_place = {(record["task"], record["example"]): record for record in records.values()}
        answers = {e: by_place[e.task, e.number] for e in all_examples if (e.task, e.number) in by_place}
        for (
            example
        ) in examples:  # an example whose pictures or words changed counts by its present answer, or not at all
            answers.pop(example, None)
            if keys[example] in records:
                answers[example] = records[keys[example]]
        provenance = {
            "checkpoint": str(model_path) if model_path else None,
            "code_revision": code_revision(),
            "library_versions": library_versions(),
            "hardware": hardware(),
            "time": utc_now(),
            "data_sha256": sha256_json(sorted(keys.values())),
        }
        return write_results(folder, folder.name, answers, failures, len(examples), settings, provenance)


def check_examples(examples: Iterable[Example]) -> None:
    """Raise a UserError for the first example that cannot be asked or scored, before a model is loaded for it."""
    for example in examples:
        example.instruction()
        example.ground_truth()
        for path in (example.plain_image, example.tagged_image):
            _intact_picture(path)


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Let `folder` hold results under these settings only; UserError names what differs."""
    path = folder / "settings.json"
    if path.is_file():
        before = read_json(path)
        changes = _differences(before, settings)
        if changes:
            raise UserError(
                f"{folder} holds results under other settings ({'; '.join(changes)}). "
                "Give --overwrite to replace them, --suffix to name these apart, or another --output_dir"
            )
    else:
        write_json(path, settings)


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [d for key in keys for d in _differences(before.get(key), now.get(key), f"{name}.{key}".strip("."))]
    return [] if before == now else [f"{name}: {before} -> {now}"]


def _key(example: Example, writer: PromptWriter, settings: dict[str, Any]) -> str:
    """What an answer depends on: settings, words and picture contents. UserError for an unreadable picture."""
    items = writer.write(example)
    pictures = []
    for item in items:
        if item["type"] == "image":
            pictures.append(hashlib.sha256(_intact_picture(Path(item["image"]))).hexdigest())
    place = [example.task, example.number]
    return sha256_json([settings, place, hashlib.sha256(prompt_text(items).encode()).hexdigest(), pictures])


def _intact_picture(path: Path) -> bytes:
    content = _read_picture(path)
    problem = intact_problem(content)
    if problem:
        raise UserError(f"unreadable image: {path} ({problem}). {VERIFY_ADVICE}")
    return content


def _read_picture(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}). {VERIFY_ADVICE}") from error


def _query(example: Example, writer: PromptWriter) -> Query:
    items = [
        {"type": "image", "image": _read_picture(Path(item["image"]))} if item["type"] == "image" else item
        for item in writer.write(example)
    ]
    return Query(example.dimension, example.task, example.number, items)


def _answers(
    planner: Planner, batch: Sequence[Example], writer: PromptWriter
) -> Iterator[tuple[Example, Query, Answer | MachineFailure]]:
    """Answers of a batch; where the machine fails on several at once, halves are tried down to single examples."""
    queries = [_query(example, writer) for example in batch]
    try:
        yield from zip(batch, queries, planner.answer(queries), strict=True)
    except MachineFailure as failure:
        if len(batch) == 1:
            yield batch[0], queries[0], failure
            return
        half = len(batch) // 2
        yield from _answers(planner, batch[:half], writer)
        yield from _answers(planner, batch[half:], writer)


def _record(example: Example, query: Query, key: str, answer: Answer) -> dict[str, Any]:
    """One journal line."""
    return {
        "key": key,
        "task": example.task,
        "example": example.number,
        "text": answer.text,
        "stop": answer.stop,
        "new_tokens": answer.new_tokens,
        "prompt_sha256": hashlib.sha256(prompt_text(query.items).encode()).hexdigest(),
        "time": utc_now(),
    }
