"""The folder of one model's results in one dimension: the names of its files, what they hold, and the one reader.

eva_results/<dimension>/<model>/
    generations.jsonl      the journal: an `AnswerRecord` a line, one an answer (several an example with --num_samples)
    failures.jsonl         a `FailureRecord` a line, one an example without an answer
    settings.json          what decided the answers: planner, prompt, pictures
    output.json            answers in VLABench's structure
    final_score.json       official scores  {task: {example: {metric: 0..100}}}, VLABench's structure
    grounded_score.json    grounded scores, same structure
    diagnosis.json         {task: {example: {"labels": [error label, ...], "truth_sha256": hash of the ground truth,
                           "template" and "scene": hashes of instruction and picture (leap.vlabench.sampling)}}}
    summary.json           a `Summary`
    status.json            how far the evaluation is (leap.runs.status)

The evaluation may still be running: a torn last line of a journal is passed over, any file may be missing.
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from configs.config import DIMENSIONS
from configs.errors import UserError
from leap.files import json_object, read_json, write_json, write_jsonl
from leap.models.names import order_of
from leap.planners.asking import SETTINGS_FILE
from leap.statistics import Estimate

JOURNAL_FILE, FAILURES_FILE = "generations.jsonl", "failures.jsonl"
SUMMARY_FILE = "summary.json"
OUTPUT_FILE, DIAGNOSIS_FILE = "output.json", "diagnosis.json"
SCORE_FILES = {"official": "final_score.json", "grounded": "grounded_score.json"}

RUN_INFO = "benchmeatinfo"  # VLABench's own key (and spelling) among the tasks of its files

# What names the model in the settings; two models always differ here.
_MODEL_SETTINGS = ("planner", "model", "weights_sha256", "base_weights_sha256", "plans_sha256")

ExampleKey = tuple[str, int]  # task, example number

ORIGIN_KINDS = ("template", "scene")  # what examples may share, in diagnosis.json


@dataclass(frozen=True)
class AnswerRecord:
    """What a model answered to an example. One of an imported output.json carries its entry there as `output`, which
    then decides the official score, and may have None as `text`."""

    task: str
    example: int
    text: str | None
    stop: str | None = None  # "length" where the answer was cut off
    key: str | None = None
    sample: int = 0  # which of the answers drawn to the example, from 0
    new_tokens: int | None = None
    prompt: str | None = None
    prompt_sha256: str | None = None
    shots: Sequence[str] = ()
    pictures_from: str | None = None
    output: Mapping[str, Any] | None = None

    @property
    def readable_text(self) -> str:
        """The text; of an imported answer that has none, its skill list."""
        return json.dumps((self.output or {}).get("skill_sequence", "")) if self.text is None else self.text


@dataclass(frozen=True)
class FailureRecord:
    """Why an example has no answer: `kind` is "machine" (it failed) or "data" (the example is bad). The `key` is None
    where nothing could be asked."""

    key: str | None
    task: str
    example: int
    kind: str = "machine"  # that of failures written before there were kinds
    reason: str = ""


T = TypeVar("T", AnswerRecord, FailureRecord)


@dataclass(frozen=True)
class ExampleCounts:
    """How many examples the dimension has in the benchmark, and what became of those that were asked."""

    in_benchmark: int = 0
    answered: int = 0
    machine_failure: int = 0
    bad_example: int = 0
    cut_by_length: int = 0


@dataclass(frozen=True)
class Summary:
    """summary.json. `outcomes` count by scorer and status, `scores` are means by scorer and metric, `tasks` the same by
    task without intervals. `scorers` are the versions of the scorers (leap.plans.scoring.SCORER_VERSIONS): an earlier
    version of this project wrote none, and none of `diagnosis`. `average_scores` are the official means once more,
    flat, as the original LEAP's drawing script reads them."""

    model: str
    dimension: str
    examples: ExampleCounts = field(default_factory=ExampleCounts)
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    scores: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    scorers: dict[str, int] = field(default_factory=dict)
    average_scores: dict[str, float] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    diagnosis: dict[str, Any] = field(default_factory=dict)
    draws: dict[str, Any] = field(default_factory=dict)  # leap.vlabench.draws says what
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


class ResultFolder:
    """Reads eva_results/<dimension>/<model>, each file once, when it is needed first; what is not there is empty.

    UserError names the line or file that is not as it should be.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.model, self.dimension = path, path.name, path.parent.name

    @cached_property
    def answers(self) -> Mapping[ExampleKey, AnswerRecord]:
        """The last answer to each example; of several that were drawn, the first."""
        path = self.path / JOURNAL_FILE
        return JournaledAnswers(path) if path.is_file() else {}

    @cached_property
    def samples(self) -> dict[ExampleKey, dict[int, AnswerRecord]]:
        """The last answer to each example by the number of its draw."""
        return _by_key(self.path / JOURNAL_FILE, answer_record)

    @cached_property
    def failures(self) -> dict[ExampleKey, FailureRecord]:
        """Why examples have no answer; a running evaluation may have answered one since."""
        return {key: records[0] for key, records in _by_key(self.path / FAILURES_FILE, failure_record).items()}

    @cached_property
    def official_scores(self) -> dict[ExampleKey, dict[str, float]]:
        return self._by_example(SCORE_FILES["official"])

    @cached_property
    def grounded_scores(self) -> dict[ExampleKey, dict[str, float]]:
        """As the version of the scorer in `scorers` gave them."""
        entries = self._by_example(SCORE_FILES["grounded"])
        # Version 1 had the recall of steps under another name.
        return {key: {"recall": entry["skill_with_entity_match_score"]} | entry for key, entry in entries.items()}

    @property
    def scorers(self) -> dict[str, int]:
        """The versions of the scorers that made these scores."""
        return (self.summary and self.summary.scorers) or dict.fromkeys(SCORE_FILES, 1)

    def scores(self, scorer: str) -> dict[ExampleKey, dict[str, float]]:
        return self.official_scores if scorer == "official" else self.grounded_scores

    @cached_property
    def labels(self) -> dict[ExampleKey, list[str]]:
        """The error labels of each answer."""
        return {key: entry["labels"] for key, entry in self._by_example(DIAGNOSIS_FILE).items()}

    @cached_property
    def truth_sha256s(self) -> dict[ExampleKey, str]:
        """The hash of each ground truth that an answer was scored by; an earlier version kept none."""
        entries = self._by_example(DIAGNOSIS_FILE)
        return {key: entry["truth_sha256"] for key, entry in entries.items() if "truth_sha256" in entry}

    @cached_property
    def origins(self) -> dict[ExampleKey, dict[str, str]]:
        """What each example may share with others (leap.vlabench.sampling); an earlier version kept none."""
        entries = self._by_example(DIAGNOSIS_FILE)
        origins = {key: {kind: entry[kind] for kind in ORIGIN_KINDS if kind in entry} for key, entry in entries.items()}
        return {key: origin for key, origin in origins.items() if origin}

    @cached_property
    def settings(self) -> dict[str, Any]:
        return self._json(SETTINGS_FILE)

    @cached_property
    def summary(self) -> Summary | None:
        return _summary(self._json(SUMMARY_FILE), self) if (self.path / SUMMARY_FILE).is_file() else None

    def _by_example(self, name: str) -> dict[ExampleKey, Any]:
        """{task: {number: entry}} of a JSON file as {(task, number): entry}."""
        return {
            (task, int(number)): entry
            for task, entries in self._json(name).items()
            if task != RUN_INFO
            for number, entry in entries.items()
        }

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        return read_json(path) if path.is_file() else {}


class JournaledAnswers(Mapping[ExampleKey, AnswerRecord]):
    """The answers in a journal, each read when it is asked for: kept is where its line stands.

    The file stays open, so that these are its lines also where another one takes its place.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._places: dict[ExampleKey, tuple[int, int]] = {}  # first byte and length of the line
        start = 0
        with open(self._file, "rb", closefd=False) as lines:
            for number, line in enumerate(lines, 1):
                if line.endswith(b"\n") and line.strip():
                    record = _record(answer_record, line, f"{path}:{number}")
                    if record.sample == 0:
                        self._places[record.task, record.example] = start, len(line)
                start += len(line)

    def __getitem__(self, key: ExampleKey) -> AnswerRecord:
        start, length = self._places[key]
        return _record(answer_record, os.pread(self._file, length, start), str(self._path))

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[ExampleKey]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _summary(content: Mapping[str, Any], folder: ResultFolder) -> Summary:
    values = {"model": folder.model, "dimension": folder.dimension} | _fields_of(Summary, content)
    values["examples"] = ExampleCounts(**_fields_of(ExampleCounts, content.get("examples", {})))
    values["scores"] = {
        scorer: {name: Estimate(**estimate) for name, estimate in metrics.items()}
        for scorer, metrics in content.get("scores", {}).items()
    }
    return Summary(**values)


def _fields_of(record: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """What a JSON object holds of the fields of a record; another version may have written more or less."""
    return {each.name: content[each.name] for each in fields(record) if each.name in content}


def answer_record(line: Mapping[str, Any]) -> AnswerRecord:
    """A line of generations.jsonl. KeyError, TypeError or ValueError if it names no example."""
    return AnswerRecord(**_fields_of(AnswerRecord, line) | {"example": int(line["example"])})


def failure_record(line: Mapping[str, Any]) -> FailureRecord:
    """A line of failures.jsonl. KeyError, TypeError or ValueError if it names no example."""
    return FailureRecord(**{"key": None} | _fields_of(FailureRecord, line) | {"example": int(line["example"])})


def _by_key(path: Path, record_of: Callable[[Mapping[str, Any]], T]) -> dict[ExampleKey, dict[int, T]]:
    """The records in a journal by example and number of the draw, the last one of each."""
    records: dict[ExampleKey, dict[int, T]] = {}
    for where, line in _finished_lines(path):
        record = _record(record_of, line, where)
        records.setdefault((record.task, record.example), {})[getattr(record, "sample", 0)] = record
    return records


def _record(record_of: Callable[[Mapping[str, Any]], T], line: bytes, where: str) -> T:
    content = json_object(line, where)
    try:
        return record_of(content)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: not a line with task and example ({error}). Mend or remove the line") from error


def _finished_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """("file:line", bytes) of the lines that are whole: the last one may be torn, a later one is not there yet."""
    if not path.is_file():
        return
    *lines, _ = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{path}:{number}", line


def write_failures(folder: Path, failures: Sequence[FailureRecord]) -> None:
    write_jsonl(folder / FAILURES_FILE, map(asdict, failures))


def write_summary(folder: Path, summary: Summary) -> None:
    write_json(folder / SUMMARY_FILE, asdict(summary))


def differing_settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings, other than what names the model, in which two evaluations differ: {"group.key": (of a, of b)}."""
    differences = {}
    for group in sorted(a.keys() | b.keys()):
        flat_a, flat_b = (_flat(settings.get(group, {}), group) for settings in (a, b))
        for key in sorted(flat_a.keys() | flat_b.keys()):
            values, in_both = (flat_a.get(key), flat_b.get(key)), key in flat_a and key in flat_b
            is_model = group == "planner" and (key.split(".")[1] in _MODEL_SETTINGS or not in_both)
            if values[0] != values[1] and not is_model:
                differences[key] = values
    return differences


def _flat(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {key: item for part, inner in value.items() for key, item in _flat(inner, f"{name}.{part}").items()}


def models_in(results: Path) -> list[str]:
    """Names of all models with a summary, or official scores alone, in any dimension: the base first, then by name and
    step."""
    names = (SUMMARY_FILE, SCORE_FILES["official"])
    paths = (path for dimension in DIMENSIONS for name in names for path in (results / dimension).glob(f"*/{name}"))
    return sorted({path.parent.name for path in paths}, key=order_of)


def result_folders(results: Path, model: str) -> dict[str, ResultFolder]:
    """The folder of a model in each dimension, whether it is there or not."""
    return {dimension: ResultFolder(results / dimension / model) for dimension in DIMENSIONS}


def summaries_of(results: Path, model: str) -> dict[str, Summary]:
    """The summaries of a model by dimension, as far as there are any."""
    folders = result_folders(results, model).items()
    return {dimension: folder.summary for dimension, folder in folders if folder.summary is not None}
