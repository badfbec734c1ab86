"""Score answers that are there already, without a model: journals of this project's evaluations, and output.json files
that VLABench or the original LEAP wrote.

Where those lie, and what their folders say (each file may hold tasks of several dimensions):
    VLABench   <folder>/<model>/<language>/<n>_shot[_CoT]/[<dimension>/]output.json
    LEAP       <folder>/<dimension>/<model>[_<n>shot][_CoT]/output.json
What they hold: {task: {example number: entry}, "benchmeatinfo": ...}, where an entry has `origin_output`, the text, and
`skill_sequence`, the JSON read from it, or `format_error` instead. Either may come without `origin_output`. An entry
with neither (the run was stopped there), or with the format error "inference_error" (LEAP writes it for any exception,
running out of memory included), is no answer of the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import Journal, read_json, sha256_file, sha256_json, write_json
from leap.models.names import checked_name
from leap.planners.asking import SETTINGS_FILE
from leap.plans.reading import FormatError, check_nesting
from leap.provenance import code_revision, utc_now
from leap.runs.jobs import JobKnobs, list_folder, run_jobs
from leap.runs.workers import Failure
from leap.vlabench.examples import Example, find_examples
from leap.vlabench.folder import (
    JOURNAL_FILE,
    RUN_INFO,
    AnswerRecord,
    ExampleKey,
    FailureRecord,
    ResultFolder,
    Summary,
    write_failures,
)
from leap.vlabench.results import write_results

# What an evaluation knows of its origin (leap.vlabench.run); None where nobody knows it.
_PROVENANCE = ("checkpoint", "code_revision", "library_versions", "hardware", "time", "data_sha256")

_SHOTS_FOLDER = re.compile(r"(\d+)_shot(_CoT)?")
_SHOTS_SUFFIX = re.compile(r"_(\d+)shot(?=_|$)")


@dataclass(frozen=True)
class RescoredFolder:
    """A results folder that was written anew. `left_out` answers have no example in the benchmark; `changed` ones have
    another ground truth there than when they were scored before."""

    folder: Path
    summary: Summary
    left_out: int
    changed: int


@dataclass
class _OutputContent:
    """What output.json files hold for one results folder."""

    source: Path
    settings: dict[str, Any]
    answers: dict[Example, AnswerRecord] = field(default_factory=dict)
    failures: list[FailureRecord] = field(default_factory=list)
    left_out: int = 0


def journals_in(results: Path, dimensions: Sequence[str], models: Sequence[str] = ()) -> list[Path]:
    """Folders below `results` that hold a journal, of these models or all. UserError if one has none."""
    folders = [path.parent for d in dimensions for path in sorted((results / d).glob(f"*/{JOURNAL_FILE}"))]
    journaled_models = {folder.name for folder in folders}
    missing = next((name for name in models if name not in journaled_models), None)
    if missing or not folders:
        raise UserError(
            f"no answers of {missing or 'any model'} in {results} ({', '.join(dimensions)}); there: "
            f"{', '.join(sorted(journaled_models)) or 'none'}. Make some with: "
            "python scripts/evaluation/run_vlm_evaluation.py"
        )
    return [folder for folder in folders if not models or folder.name in models]


@dataclass(frozen=True)
class RescoreJob:
    """A results folder to score again against the examples of its dimension in a benchmark folder."""

    folder: Path
    data_path: Path

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"


def rescored_journals(
    jobs: Sequence[RescoreJob], knobs: JobKnobs, logs: Path
) -> Iterator[tuple[RescoreJob, RescoredFolder | Failure]]:
    """What came of each, as they end; without knobs that ask for jobs one after another in this process, which a
    UserError ends."""
    if not knobs.as_jobs:
        yield from ((job, rescore_job(job)) for job in jobs)
        return
    without_gpu = replace(knobs, gpus_per_job=0)
    yield from run_jobs(rescore_job, jobs, without_gpu, list_folder(logs, "rescore", jobs))


def rescore_job(job: RescoreJob) -> RescoredFolder:
    return rescore_journal(job.folder, _examples_of(job.data_path, job.folder.parent.name))


@cache
def _examples_of(data_path: Path, dimension: str) -> Sequence[Example]:
    return find_examples(data_path, [dimension])[dimension]


def rescore_journal(folder: Path, examples: Sequence[Example]) -> RescoredFolder:
    """Score the journal in `folder` = eva_results/<dimension>/<model> again, against `examples`, all of the dimension.

    The last answer to each example counts. The provenance stays, with `rescored` added; its data hash is dropped if the
    answers or their ground truth are not those it was taken of. UserError if there is no journal, or an evaluation is
    writing it.
    """
    path = folder / JOURNAL_FILE
    if not path.is_file():
        raise UserError(f"no answers in {folder}: {JOURNAL_FILE} is missing. Score files of others with --outputs")
    settings = read_json(folder / SETTINGS_FILE)
    with Journal(path):
        journaled = ResultFolder(folder)
        benchmark = {(example.task, example.number): example for example in examples}
        answers, bad = _scorable(
            {benchmark[key]: journaled.answers[key] for key in benchmark if key in journaled.answers}
        )
        by_key = {key: failure for key, failure in journaled.failures.items() if key not in journaled.answers}
        by_key |= {(failure.task, failure.example): failure for failure in bad}
        failures = [by_key[key] for key in benchmark if key in by_key]
        if failures != list(journaled.failures.values()):
            write_failures(folder, failures)
        provenance = (journaled.summary and journaled.summary.provenance) or dict.fromkeys(_PROVENANCE)
        same, changed = _changes(journaled, answers)
        if not same:
            provenance["data_sha256"] = None
        provenance["rescored"] = _time_and_code()
        count = journaled.summary.draws.get("count", 1) if journaled.summary else None
        further = {example: _further(journaled.samples[example.task, example.number], count) for example in answers}
        summary = write_results(folder, answers, failures, len(examples), settings, provenance, further)
    return RescoredFolder(folder, summary, len(journaled.answers.keys() - benchmark.keys()), changed)


def _further(samples: Mapping[int, AnswerRecord], count: int | None) -> list[AnswerRecord]:
    """The second and later of the answers that were drawn to an example, of the first `count` or all."""
    return [samples[number] for number in sorted(samples)[1:count]]


def rescore_outputs(
    files: Sequence[Path],
    benchmark: Mapping[str, Sequence[Example]],
    output_dir: Path,
    model_name: str = "",
    with_cot: bool = False,
) -> list[RescoredFolder]:
    """Score output.json files of VLABench or LEAP into `output_dir`/<dimension>/<model>, by dimension of `benchmark`.

    A task belongs to the dimension whose folder holds it. The model's name is `model_name` or what the file's folders
    say, and so is whether a chain of thought was asked for (`with_cot` says so for all). The official score is that of
    the decoded sequence in the file, as in VLABench's own code; the grounded one is read from the text where it is
    there. UserError for a file of another structure, two files for one place, or a place that holds an evaluation.
    """
    checked_name(model_name, "--model_name")
    by_key = {(e.task, e.number): e for examples in benchmark.values() for e in examples}
    contents: dict[Path, _OutputContent] = {}
    for file in files:
        for folder, content in _read_output(file, by_key, output_dir, model_name, with_cot).items():
            if folder in contents:
                raise UserError(
                    f"{file} and {contents[folder].source} both give {folder}; score them one by one, with --model_name"
                )
            _refuse_others(folder, file)
            contents[folder] = content
    return [
        _write_imported(folder, content, len(benchmark[folder.parent.name])) for folder, content in contents.items()
    ]


def _write_imported(folder: Path, content: _OutputContent, total: int) -> RescoredFolder:
    answers, bad = _scorable(content.answers)
    failures = content.failures + bad
    write_json(folder / SETTINGS_FILE, content.settings)
    write_failures(folder, failures)
    provenance = dict.fromkeys(_PROVENANCE) | {
        "imported": {"file": str(content.source), "sha256": sha256_file(content.source)},
        "rescored": _time_and_code(),
    }
    summary = write_results(folder, answers, failures, total, content.settings, provenance)
    return RescoredFolder(folder, summary, content.left_out, 0)


def _time_and_code() -> dict[str, Any]:
    return {"time": utc_now(), "code_revision": code_revision()}


def _scorable(answers: Mapping[Example, AnswerRecord]) -> tuple[dict[Example, AnswerRecord], list[FailureRecord]]:
    """Answers whose ground truth can be scored, and a failure of kind "data" for each of the others."""
    good, bad = {}, []
    for example, answer in answers.items():
        try:
            example.ground_truth()
        except UserError as error:
            bad.append(FailureRecord(answer.key, example.task, example.number, "data", str(error)))
        else:
            good[example] = answer
    return good, bad


def _changes(folder: ResultFolder, answers: Mapping[Example, AnswerRecord]) -> tuple[bool, int]:
    """Whether the very examples in `answers` were scored before with the same ground truth, and how many with another.

    An earlier version of this project kept no hashes: then the examples alone are compared.
    """
    changed = 0
    for example in answers:
        old_sha256 = folder.truth_sha256s.get((example.task, example.number))
        changed += old_sha256 is not None and old_sha256 != sha256_json(example.ground_truth())
    return not changed and folder.official_scores.keys() == {(e.task, e.number) for e in answers}, changed


def _read_output(
    file: Path, benchmark: Mapping[ExampleKey, Example], output_dir: Path, model_name: str, with_cot: bool
) -> dict[Path, _OutputContent]:
    """The answers and failures in one output.json, by results folder."""
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(entries, dict) for entries in content.values()):
        raise UserError(f"{file} is no output.json: expected {{task: {{example: entry}}}}")
    name, settings = _origin(file, with_cot)
    contents: dict[Path, _OutputContent] = {}
    left_out = 0
    for task, entries in content.items():
        if task == RUN_INFO:
            continue
        for number, entry in entries.items():
            example = benchmark.get((task, int(number))) if number.isdecimal() else None
            if example is None:
                left_out += 1
                continue
            folder = output_dir / example.dimension / (model_name or name)
            in_dimension = contents.setdefault(folder, _OutputContent(file, settings))
            if not isinstance(entry, dict):
                raise UserError(f"{file}: example {number} of {task} is no object but {entry!r:.60}")
            reason = _no_answer(entry)
            if reason:
                in_dimension.failures.append(FailureRecord(None, task, example.number, reason=reason))
            else:
                in_dimension.answers[example] = _record(example, entry)
    if not contents:
        tasks = ", ".join(task for task in content if task != RUN_INFO) or "none"
        raise UserError(f"no example of {file} is in the benchmark (tasks there: {tasks:.200}); check --data_path")
    next(iter(contents.values())).left_out = left_out
    return contents


def _no_answer(entry: Mapping[str, Any]) -> str | None:
    if entry.get("format_error") == "inference_error":
        return "inference_error: the run that wrote this file failed on the example"
    if "format_error" not in entry and "skill_sequence" not in entry:
        return "no answer in the file: the run that wrote it stopped here"
    return None


def _record(example: Example, entry: Mapping[str, Any]) -> AnswerRecord:
    text = entry.get("origin_output")
    output: dict[str, Any] = {"origin_output": text} if isinstance(text, str) else {}
    if "format_error" in entry:
        output["format_error"] = entry["format_error"] if isinstance(entry["format_error"], str) else "format_error"
    else:
        try:
            check_nesting(entry["skill_sequence"])
            output["skill_sequence"] = entry["skill_sequence"]
        except FormatError:
            output["format_error"] = "format_error"
    return AnswerRecord(example.task, example.number, output.get("origin_output"), output=output)


def _origin(file: Path, with_cot: bool) -> tuple[str, dict[str, Any]]:
    """The model's name in results and the settings, as the file's folders tell them."""
    folder = file.resolve().parent
    official = folder if _SHOTS_FOLDER.fullmatch(folder.name) else folder.parent
    if match := _SHOTS_FOLDER.fullmatch(official.name):
        shots, cot = match.groups()
        language, name = official.parent.name, official.parent.parent.name
        name += (f"_{shots}shot" if int(shots) else "") + (cot or "") + (f"_{language}" if language != "en" else "")
    else:
        name, language = folder.name, "en"
        suffix = _SHOTS_SUFFIX.search(name)
        shots, cot = (suffix.group(1) if suffix else "0"), "_CoT" in name
    settings = {
        "planner": {"planner": "imported"},
        "prompt": {
            "style": None,
            "language": language,
            "few_shot_num": int(shots),
            "with_cot": with_cot or bool(cot),
            "shot_seed": None,
            "text_sha256": None,
        },
        "pictures": {},
    }
    return name, settings


def _refuse_others(folder: Path, file: Path) -> None:
    """UserError if writing to `folder` would replace the file that is read, or an evaluation of this project."""
    if folder.resolve() == file.resolve().parent:
        raise UserError(f"{file} lies where its results would go; give another --output_dir or --model_name")
    if (folder / JOURNAL_FILE).exists():
        raise UserError(f"{folder} holds an evaluation of its own; give another --output_dir or --model_name")
