"""A small benchmark with the results of three models, and the page made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from configs.config import DIMENSIONS
from leap.demo.build import build_benchmark
from leap.files import write_json, write_text
from leap.plans.reading import fenced
from leap.report.build import build_report
from leap.vlabench.examples import Example, find_examples
from leap.vlabench.folder import answer_record, failure_record
from leap.vlabench.results import write_results

HOSTILE = '</script><img src=x onerror="window.hacked = 1"><!-- <script>window.hacked = 1</script> \'\\u0000'
HOSTILE_PLACE = ("Spatial", "select_fruit_spatial", 1)

# What a model gives for an example: a text, or a failure as (kind, reason), or None: it was not asked.
Given = str | tuple[str, str] | None

PROVENANCE = {"checkpoint": "output/run", "code_revision": "abc", "library_versions": {"torch": "2.9"}, "time": "then"}


@dataclass(frozen=True)
class Evaluated:
    """A workspace with a benchmark and results in it."""

    benchmark: Path
    results: Path

    def report(self, output: Path, models: list[str], **options) -> list[str]:
        """Make the page with the usual options, or others; returns its notes."""
        usual = {"benchmark": self.benchmark, "title": "A report", "max_megabytes": 60.0, "images_folder": False}
        return build_report(results=self.results, models=models, output=output, **usual | options)


def write_model(place: Evaluated, name: str, give: Callable[[Example], Given], dimensions=DIMENSIONS) -> None:
    """Result folders of a model, as an evaluation writes them."""
    settings = {
        "planner": {"planner": "huggingface", "model_sha256": name},
        "prompt": {"style": "builtin", "with_cot": False},
    }
    for dimension, examples in find_examples(place.benchmark, list(dimensions)).items():
        folder = place.results / dimension / name
        answers, failures = {}, []
        for example in examples:
            given = give(example)
            where = {"key": "k", "task": example.task, "example": example.number}
            if isinstance(given, tuple):
                failures.append(where | {"kind": given[0], "reason": given[1]})
            elif given is not None:
                prompt = f"Plan. <image><image> {example.instruction()}"
                answers[example] = where | {
                    "text": given,
                    "new_tokens": 9,
                    "stop": "end",
                    "prompt": prompt,
                    "shots": [],
                }
        for file, lines in (("generations.jsonl", answers.values()), ("failures.jsonl", failures)):
            write_text(folder / file, "".join(json.dumps(line) + "\n" for line in lines))
        write_json(folder / "settings.json", settings)
        answers = {example: answer_record(line) for example, line in answers.items()}
        failures = list(map(failure_record, failures))
        write_results(folder, answers, failures, len(examples), settings, PROVENANCE)


def right(example: Example) -> str:
    return fenced(example.ground_truth())


def with_other_ids(example: Example) -> str:
    """The right skills on objects that are not there."""
    plan = example.ground_truth()
    return fenced([{**step, "params": dict.fromkeys(step["params"], 99)} for step in plan])


def baseline(example: Example) -> Given:
    """Prose for the first example of a task, a failure of the machine for the second, else the right skills."""
    if example.number == 0:
        return "I would pick it up."
    if example.number == 1:
        return ("machine", "out of memory")
    return with_other_ids(example)


def trained(example: Example) -> Given:
    """Right, but for a hostile answer, and an extra step in Complex."""
    if (example.dimension, example.task, example.number) == HOSTILE_PLACE:
        return HOSTILE + right(example)
    if example.dimension == "Complex":
        return fenced([*example.ground_truth(), {"name": "lift", "params": {}}])
    return right(example)


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Three examples a task; `baseline`, `checkpoint-200`, and `constant`, which has no Complex. Tests only read it."""
    root = tmp_path_factory.mktemp("report space")
    place = Evaluated(root / "benchmark", root / "eva_results")
    build_benchmark(place.benchmark, 3, seed=0)
    dimension, task, number = HOSTILE_PLACE
    write_text(place.benchmark / dimension / task / f"example{number}" / "input" / "instruction.txt", HOSTILE)
    write_model(place, "baseline", baseline)
    write_model(place, "checkpoint-200", trained)
    write_model(place, "constant", with_other_ids, DIMENSIONS[:-1])
    return place


MODELS = ["baseline", "checkpoint-200", "constant"]


@pytest.fixture(scope="session")
def page(evaluated: Evaluated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of all three models."""
    path = tmp_path_factory.mktemp("page") / "report #1.html"
    evaluated.report(path, MODELS)
    return path
