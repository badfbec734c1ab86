"""Supervised training on the best completions, and on rows' own plans."""

import json

import pytest

from leap.files import read_jsonl
from leap.models.checkpoints import read_manifest
from leap.rows.records import read_rows
from leap.training.rejection import BEST_FILE, best_rows
from leap.training.rewards import reward_terms
from leap.training.rollouts import Rollout
from tests.conftest import assert_one_line_error, run_script
from tests.training.test_held_out_plans import recipe_of
from tests.training.trainings import REINFORCE, reinforcement

pytestmark = pytest.mark.slow
BRIEF = ("--tuning", "full", "--save_steps", 50, "--per_device_train_batch_size", 8)


def test_the_best_right_completion_of_a_row_becomes_its_plan(beginner):
    recipe = recipe_of(beginner)
    rows = read_rows(recipe.train_file)[:3]
    rollouts = {
        rows[0].where: [
            Rollout("wrong", 0.9, False, 5),
            Rollout("right", 0.8, True, 5),
            Rollout("better", 0.9, True, 5),
        ],
        rows[1].where: [Rollout("wrong", 0.4, False, 5)],
        rows[2].where: [],
    }
    [record] = best_rows(recipe, rows, rollouts)
    original = json.loads(recipe.train_file.read_text().splitlines()[0])
    assert record == original | {"target": {"steps": "better"}}


def test_a_row_is_found_by_its_line_whatever_breaks_its_text_holds(beginner, tmp_path):
    records = [json.loads(line) for line in (beginner / "train.jsonl").read_text().splitlines()[:2]]
    records[0]["task_name"] = "before\u2028after\u0085it"
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    rows = read_rows(path)
    rollouts = {row.where: [Rollout(f"plan {row.id}", 1.0, True, 5)] for row in rows}
    best = best_rows(recipe_of(beginner, train_file=path), rows, rollouts)
    assert [(record["id"], record["target"]["steps"]) for record in best] == [(r.id, f"plan {r.id}") for r in rows]


def test_a_run_trains_on_right_completions_only_and_goes_on_where_it_was(beginner, workspace):
    run = workspace / "output" / "rft"
    command = reinforcement(beginner, run, "--method", "rft", *BRIEF, "--max_train_samples", 24, "--max_steps", 2)
    done = run_script(REINFORCE, *command)
    assert done.returncode == 0, done.stderr
    best = read_jsonl(run / BEST_FILE)
    assert 0 < len(best) <= 24
    truths = {json.loads(line)["id"]: json.loads(line) for line in (beginner / "train.jsonl").read_text().splitlines()}
    for record in best:
        truth = truths[record["id"]]["target"]["steps"]
        assert reward_terms(record["target"]["steps"], truth)["plan"] == 1
    assert read_manifest(run / "checkpoint-2").recipe["train_file"] == str(run / BEST_FILE)
    completions = (run / "rollouts" / "completions.jsonl").read_bytes()
    again = run_script(REINFORCE, *command)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout
    assert (run / "rollouts" / "completions.jsonl").read_bytes() == completions


def test_without_a_right_completion_there_is_nothing_to_train_on(beginner, workspace, demo):
    untrained = ("--checkpoint", demo / "models" / "tiny-planner", "--max_train_samples", 4)
    done = run_script(REINFORCE, *reinforcement(beginner, workspace / "run", "--method", "rft", *BRIEF, *untrained))
    assert_one_line_error(done, "no completion is right")


def test_training_on_rows_own_plans_takes_the_same_knobs(beginner, workspace):
    run = workspace / "output" / "sft"
    done = run_script(REINFORCE, *reinforcement(beginner, run, "--method", "sft", *BRIEF, "--max_steps", 2))
    assert done.returncode == 0, done.stderr
    recipe = read_manifest(run / "checkpoint-2").recipe
    assert recipe["train_file"] == str(beginner / "train.jsonl")
    assert (recipe["learning_rate"], recipe["per_device_train_batch_size"]) == (1e-3, 8)
