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

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import Journal, read_json, read_jsonl, sha256_file, sha256_json, write_json, write_text
from leap.plans.reading import FormatError, check_nesting
from leap.provenance import code_revision, utc_now
from leap.vlabench.examples import Example
from leap.vlabench.results import write_results

# What an evaluation knows of its origin (leap.vlabench.run); None where nobody knows it.
_PROVENANCE = ("checkpoint", "code_revision", "library_versions", "hardware", "time", "data_sha256")

_SHOTS_FOLDER = re.compile(r"(\d+)_shot(_CoT)?")
_SHOTS_SUFFIX = re.compile(r"_(\d+)shot(?=_|$)")


@dataclass(frozen=True)
class Rescored:
    """A results folder that was written anew. `left_out` answers have no example in the benchmark; `changed` ones have
    another ground truth there than when they were scored before."""

    folder: Path
    summary: dict[str, Any]
    left_out: int
    changed: int


@dataclass
class _Imported:
    """What output.json files hold for one results folder."""

    source: Path
    settings: dict[str, Any]
    answers: dict[Example, dict] = field(default_factory=dict)
    failures: list[dict] = field(default_factory=list)
    left_out: int = 0


def journals_in(results: Path, dimensions: Sequence[str], models: Sequence[str] = ()) -> list[Path]:
    """Folders below `results` that hold a journal, of these models or all. UserError if one has none."""
    folders = [path.parent for d in dimensions for path in sorted((results / d).glob("*/generations.jsonl"))]
    there = {folder.name for folder in folders}
    missing = next((name for name in models if name not in there), None)
    if missing or not folders:
        raise UserError(
            f"no answers of {missing or 'any model'} in {results} ({', '.join(dimensions)}); there: "
            f"{', '.join(sorted(there)) or 'none'}. Make some with: python scripts/evaluation/run_vlm_evaluation.py"
        )
    return [folder for folder in folders if not models or folder.name in models]


def rescore_journal(folder: Path, examples: Sequence[Example]) -> Rescored:
    """Score the journal in `folder` = eva_results/<dimension>/<model> again, against `examples`, all of the dimension.

    The last answer to each example counts. The provenance stays, with `rescored` added; its data hash is dropped if the
    answers or their ground truth are not those it was taken of. UserError if there is no journal, or an evaluation is
    writing it.
    """
    path = folder / "generations.jsonl"
    if not path.is_file():
        raise UserError(f"no answers in {folder}: generations.jsonl is missing. Score files of others with --outputs")
    settings = read_json(folder / "settings.json")
    with Journal(path) as journal:
        by_place = {(record["task"], record["example"]): record for record in journal.read()}
        places = {(example.task, example.number): example for example in examples}
        answers = {places[place]: by_place[place] for place in places if place in by_place}
        answers, bad = _scorable(answers)
        before = _failures_in(folder / "failures.jsonl")
        tried = {(example.task, example.number) for example in answers} | {_place(failure) for failure in bad}
        failures = [failure for failure in before if _place(failure) in places and _place(failure) not in tried] + bad
        order = {place: i for i, place in enumerate(places)}
        failures.sort(key=lambda failure: order[_place(failure)])
        if failures != before:
            _write_failures(folder, failures)
        old = read_json(folder / "summary.json") if (folder / "summary.json").is_file() else {}
        provenance = old.get("provenance") or dict.fromkeys(_PROVENANCE)
        same, changed = _changes(folder, answers)
        if not same:
            provenance["data_sha256"] = None
        provenance["rescored"] = _now()
        summary = write_results(folder, answers, failures, len(examples), settings, provenance)
    return Rescored(folder, summary, len(by_place.keys() - places.keys()), changed)


def rescore_outputs(
    files: Sequence[Path],
    benchmark: Mapping[str, Sequence[Example]],
    output_dir: Path,
    model_name: str = "",
    with_cot: bool = False,
) -> list[Rescored]:
    """Score output.json files of VLABench or LEAP into `output_dir`/<dimension>/<model>, by dimension of `benchmark`.

    A task belongs to the dimension whose folder holds it. The model's name is `model_name` or what the file's folders
    say, and so is whether a chain of thought was asked for (`with_cot` says so for all). The official score is that of
    the decoded sequence in the file, as in VLABench's own code; the grounded one is read from the text where it is
    there. UserError for a file of another structure, two files for one place, or a place that holds an evaluation.
    """
    places = {(e.task, e.number): e for examples in benchmark.values() for e in examples}
    found: dict[Path, _Imported] = {}
    for file in files:
        imported = _read_output(file, places, output_dir, model_name, with_cot)
        for folder, content in imported.items():
            if folder in found:
                raise UserError(
                    f"{file} and {found[folder].source} both give {folder}; score them one by one, with --model_name"
                )
            _refuse_others(folder, file)
            found[folder] = content
    done = []
    for folder, content in found.items():
        answers, bad = _scorable(content.answers)
        failures = content.failures + bad
        write_json(folder / "settings.json", content.settings)
        _write_failures(folder, failures)
        provenance = dict.fromkeys(_PROVENANCE) | {
            "imported": {"file": str(content.source), "sha256": sha256_file(content.source)},
            "rescored": _now(),
        }
        total = len(benchmark[folder.parent.name])
        summary = write_results(folder, answers, failures, total, content.settings, provenance)
        done.append(Rescored(folder, summary, content.left_out, 0))
    return done


def _now() -> dict[str, Any]:
    return {"time": utc_now(), "code_revision": code_revision()}


def _place(record: Mapping[str, Any]) -> tuple[str, int]:
    return record["task"], record["example"]


def _failures_in(path: Path) -> list[dict]:
    return read_jsonl(path) if path.is_file() else []


def _write_failures(folder: Path, failures: Sequence[dict]) -> None:
    write_text(folder / "failures.jsonl", "".join(json.dumps(failure) + "\n" for failure in failures))


def _failure(example: Example, kind: str, reason: str, key: str | None = None) -> dict[str, Any]:
    return {"key": key, "task": example.task, "example": example.number, "kind": kind, "reason": reason}


def _scorable(answers: Mapping[Example, dict]) -> tuple[dict[Example, dict], list[dict]]:
    """Answers whose ground truth can be scored, and a failure of kind "data" for each of the others."""
    good, bad = {}, []
    for example, record in answers.items():
        try:
            example.ground_truth()
        except UserError as error:
            bad.append(_failure(example, "data", str(error), record.get("key")))
        else:
            good[example] = record
    return good, bad


def _changes(folder: Path, answers: Mapping[Example, dict]) -> tuple[bool, int]:
    """Whether the very examples in `answers` were scored before with the same ground truth, and how many with another.

    An earlier version of this project kept no hashes: then the examples alone are compared.
    """
    if not (folder / "final_score.json").is_file():
        return False, 0
    scored = {(task, number) for task, found in read_json(folder / "final_score.json").items() for number in found}
    path = folder / "diagnosis.json"
    known = read_json(path) if path.is_file() else {}
    changed = 0
    for example in answers:
        before = known.get(example.task, {}).get(str(example.number), {}).get("truth_sha256")
        changed += before is not None and before != sha256_json(example.ground_truth())
    return not changed and scored == {(example.task, str(example.number)) for example in answers}, changed


def _read_output(
    file: Path, places: Mapping[tuple[str, int], Example], output_dir: Path, model_name: str, with_cot: bool
) -> dict[Path, _Imported]:
    """The answers and failures in one output.json, by results folder."""
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(entries, dict) for entries in content.values()):
        raise UserError(f"{file} is no output.json: expected {{task: {{example: entry}}}}")
    name, settings = _origin(file, with_cot)
    found: dict[Path, _Imported] = {}
    left_out = 0
    for task, entries in content.items():
        if task == "benchmeatinfo":
            continue
        for number, entry in entries.items():
            example = places.get((task, int(number))) if number.isdecimal() else None
            if example is None:
                left_out += 1
                continue
            folder = output_dir / example.dimension / (model_name or name)
            imported = found.setdefault(folder, _Imported(file, settings))
            if not isinstance(entry, dict):
                raise UserError(f"{file}: example {number} of {task} is no object but {entry!r:.60}")
            reason = _no_answer(entry)
            if reason:
                imported.failures.append(_failure(example, "machine", reason))
            else:
                imported.answers[example] = _record(entry)
    if not found:
        tasks = ", ".join(task for task in content if task != "benchmeatinfo") or "none"
        raise UserError(f"no example of {file} is in the benchmark (tasks there: {tasks:.200}); check --data_path")
    next(iter(found.values())).left_out = left_out
    return found


def _no_answer(entry: Mapping[str, Any]) -> str | None:
    if entry.get("format_error") == "inference_error":
        return "inference_error: the run that wrote this file failed on the example"
    if "format_error" not in entry and "skill_sequence" not in entry:
        return "no answer in the file: the run that wrote it stopped here"
    return None


def _record(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry as `write_results` takes it."""
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
    return {"text": output.get("origin_output"), "stop": None, "output": output}


def _origin(file: Path, with_cot: bool) -> tuple[str, dict[str, Any]]:
    """The model's name in results and the settings, as the file's folders tell them."""
    folder = file.resolve().parent
    official = next((each for each in (folder, folder.parent) if _SHOTS_FOLDER.fullmatch(each.name)), None)
    if official is not None:
        shots, cot = _SHOTS_FOLDER.fullmatch(official.name).groups()
        language, name = official.parent.name, official.parent.parent.name
        name += (f"_{shots}shot" if int(shots) else "") + (cot or "") + (f"_{language}" if language != "en" else "")
    else:
        name, language = folder.name, "en"
        found = _SHOTS_SUFFIX.search(name)
        shots, cot = (found.group(1) if found else "0"), "_CoT" in name
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
    if (folder / "generations.jsonl").exists():
        raise UserError(f"{folder} holds an evaluation of its own; give another --output_dir or --model_name")
