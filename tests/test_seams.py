"""What people add is one file or one entry in one table: a toy one of each is put into a copy of the code and used."""

import json
import shutil
import subprocess
import sys

import pytest

from configs.config import REPOSITORY
from tests.judge.review import write_review

PLANNER = """
from leap.models.answer import Answer

PLAN = '```json\\n[{"name": "pick", "params": {"target_entity_name": 1}}]\\n```'

class ToyPlanner:
    notes = ()

    def identity(self):
        return {"planner": "toy"}

    def batches(self, queries):
        return [[query] for query in queries]

    def answer(self, batches):
        for batch in batches:
            yield [(query, Answer(PLAN, new_tokens=4, stop="end")) for query in batch]

def open_planner(options, folder):
    return ToyPlanner()
"""
JUDGE = """
def scores_of(plan, reference):
    return dict.fromkeys(("completeness", "logical_sequence", "hallucination_redundancy", "granularity"), 2.5)
"""
# file -> (a line of a table, what stands behind it then)
ENTRIES = {
    "leap/planners/__init__.py": ("PLANNERS = {", '    "toy": "leap.planners.toy",'),
    "leap/judge/judgements.py": ("PROGRAMS = {", '    "toy": "leap.judge.toy",'),
    "leap/plans/scoring.py": (
        "EXTRA_METRICS: dict[str, Callable[[list[Step], list[Step], bool], float]] = {",
        '    "toy": lambda true, steps, free: 42.0,',
    ),
    "leap/plans/measures.py": (
        "MEASURES: dict[str, Measure] = {",
        '    "grounded.toy": Measure("toy", "always 42", 100, "grounded"),',
    ),
    "configs/config.py": ("DIMENSIONS = (", '    "Toy",'),
}
FILES = {
    "leap/planners/toy.py": PLANNER,
    "leap/judge/toy.py": JUDGE,
    "configs/lora/toy.yaml": "lora_r: 3\n",
}


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the code with a toy of everything."""
    root = tmp_path_factory.mktemp("extended")
    for folder in ("configs", "leap", "scripts"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in FILES.items():
        (root / name).write_text(content)
    for name, (line, entry) in ENTRIES.items():
        content = (root / name).read_text()
        assert line in content
        (root / name).write_text(content.replace(line, f"{line}\n{entry}\n", 1))
    return root


def use(root, script, *arguments, workspace):
    done = subprocess.run(
        [sys.executable, root / "scripts" / script, *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "LEAP_WORKSPACE": str(workspace)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_planner_a_benchmark_a_dimension_and_a_metric(extended, demo, tmp_path):
    benchmark = tmp_path / "another benchmark"
    shutil.copytree(demo / "dataset" / "vlm_evaluation_v1.0" / "Spatial", benchmark / "Toy")
    asked = ["--planner", "toy", "--data_path", benchmark, "--dimension", "Toy", "--num_episodes", 2]
    asked += ["--base_model", demo / "models" / "tiny-planner"]
    table = use(extended, "evaluation/run_vlm_evaluation.py", *asked, workspace=tmp_path)
    [summary] = (tmp_path / "eva_results" / "Toy").glob("*/summary.json")
    assert json.loads(summary.read_text())["scores"]["grounded"]["toy"]["mean"] == 42.0
    assert " Toy " in table


@pytest.mark.slow
def test_a_judge_that_is_a_program(extended, tmp_path):
    outputs = write_review(tmp_path / "eva_results" / "blind_10", rows=2)
    shown = use(
        extended, "evaluation/analyze_output_results.py", "--judge", "toy", "--outputs", outputs, workspace=tmp_path
    )
    assert "### toy" in shown
    assert "2.50" in shown


def test_a_lora_preset(extended, tmp_path):
    assert "toy" in use(extended, "ablation/run-lora-finetuning.py", "--help", workspace=tmp_path)
