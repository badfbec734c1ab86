"""The table of an evaluation in TensorBoard, and in Weights & Biases by a stand-in for its package."""

import sys
from types import SimpleNamespace

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs.config import DIMENSIONS
from leap.files import write_json
from leap.plans.scoring import GROUNDED_METRICS
from leap.vlabench.tracking import track
from tests.conftest import assert_one_line_error, run_script


@pytest.fixture
def results(tmp_path):
    """Scores of one checkpoint in all dimensions, 10 in the first and 20 in the others, and of another one in one."""
    for model, dimensions in (("checkpoint-7", DIMENSIONS), ("checkpoint-9", ["Spatial"])):
        for dimension in dimensions:
            scores = dict.fromkeys(GROUNDED_METRICS, 10.0 if dimension == DIMENSIONS[0] else 20.0)
            for name in ("final_score.json", "grounded_score.json"):
                write_json(tmp_path / dimension / model / name, {"task": {"0": scores, "1": scores}})
            write_json(tmp_path / dimension / model / "summary.json", {})
    return tmp_path


def test_tensorboard_has_means_at_the_step_of_the_checkpoint_the_table_and_the_settings(results, tmp_path):
    track(["tensorboard"], results, ["checkpoint-7", "checkpoint-9"], {"prompt": "builtin"}, tmp_path / "logs")
    events = EventAccumulator(str(tmp_path / "logs" / "evaluation" / "checkpoint-7")).Reload()
    (macro,) = events.Scalars("grounded/total_score/macro")
    assert (macro.step, macro.value) == (7, pytest.approx(110 / 6))
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    assert "| checkpoint-7 |" in texts["results/text_summary"]
    assert yaml.safe_load(texts["settings/text_summary"]) == {"prompt": "builtin"}
    other = EventAccumulator(str(tmp_path / "logs" / "evaluation" / "checkpoint-9")).Reload()
    assert {tag.split("/")[2] for tag in other.Tags()["scalars"]} == {"Spatial"}, "a mean of one dimension is no macro"


def test_wandb_has_a_row_a_mean_with_its_interval_and_the_settings(results, tmp_path, monkeypatch):
    runs = []

    class Run:
        def __init__(self, **options):
            self.options = options

        def __enter__(self):
            runs.append(self)
            return self

        def __exit__(self, *error):
            self.finished = True

        def log(self, values, step):
            self.values, self.step = values, step

    package = SimpleNamespace(
        init=Run, Table=lambda columns, data: [dict(zip(columns, row, strict=True)) for row in data]
    )
    monkeypatch.setitem(sys.modules, "wandb", package)
    track(["wandb"], results, ["checkpoint-7"], {"prompt": "builtin"}, tmp_path / "logs")
    (run,) = runs
    assert run.finished
    assert (run.options["name"], run.step) == ("checkpoint-7", 7)
    assert run.options["config"] == {"leap": {"prompt": "builtin", "model": "checkpoint-7"}}
    assert run.values["official/skill_match_score/Spatial"] == 20
    rows = [row for row in run.values["results"] if (row["metric"], row["dimension"]) == ("plan_success", "Spatial")]
    assert rows[0]["low"] < rows[0]["mean"] == 20 < rows[0]["high"]


def test_a_package_that_is_missing_is_said_before_anybody_is_asked(workspace, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "wandb" else object())
    done = run_script("evaluation/run_vlm_evaluation.py", "--planner", "constant", "--report_to", "wandb")
    assert_one_line_error(done, "--report_to wandb", "pip install wandb")
    assert not (workspace / "eva_results").exists()


def test_an_evaluation_reports_only_where_it_is_asked_to(workspace):
    arguments = ("--planner", "constant", "--dimension", "Spatial", "--num_episodes", 1)
    assert run_script("evaluation/run_vlm_evaluation.py", *arguments).returncode == 0
    assert not (workspace / "logs").exists()
    assert run_script("evaluation/run_vlm_evaluation.py", *arguments, "--report_to", "tensorboard").returncode == 0
    events = EventAccumulator(str(workspace / "logs" / "evaluation" / "constant")).Reload()
    assert events.Scalars("official/total_score/Spatial")[0].step == 0
    (settings,) = events.Tensors("settings/text_summary")
    assert yaml.safe_load(settings.tensor_proto.string_val[0])["num_episodes"] == 1
