"""Pairs of completions, and DPO on them."""

import pytest

from leap.files import read_jsonl
from leap.models.checkpoints import read_manifest
from leap.rows.records import read_rows
from leap.training.preference import PAIRS_FILE, Pair, pairs_of
from leap.training.rewards import reward_terms
from leap.training.rollouts import Rollout
from tests.conftest import run_script
from tests.training.trainings import REINFORCE, reinforcement

pytestmark = pytest.mark.slow


def test_a_pair_is_the_best_right_and_the_best_wrong_completion_of_a_row(beginner):
    rows = read_rows(beginner / "train.jsonl")[:3]
    rollouts = {
        rows[0].where: [
            Rollout("bad", 0.1, False, 5),
            Rollout("near", 0.4, False, 5),
            Rollout("right in bad form", 0.9, True, 5),
            Rollout("right", 1.0, True, 5),
        ],
        rows[1].where: [Rollout("right", 1.0, True, 5)],
        rows[2].where: [Rollout("bad", 0.1, False, 5)],
    }
    assert pairs_of(rows, rollouts) == [Pair(rows[0].where, "right", "near")]


def test_a_run_prefers_right_plans_to_wrong_ones(beginner, workspace):
    run = workspace / "output" / "dpo"
    sizes = ("--per_device_train_batch_size", 4, "--gradient_accumulation_steps", 1, "--max_steps", 4)
    command = reinforcement(beginner, run, "--method", "dpo", "--max_train_samples", 40, *sizes, "--temperature", "1.2")
    done = run_script(REINFORCE, *command)
    assert done.returncode == 0, done.stderr
    truths = {row.where: row.steps for row in read_rows(beginner / "train.jsonl")}
    pairs = read_jsonl(run / PAIRS_FILE)
    assert pairs
    for pair in pairs:
        right, wrong = (reward_terms(pair[which], truths[pair["where"]])["plan"] for which in ("chosen", "rejected"))
        assert (right, wrong) == (1, 0)
    manifest = read_manifest(run / "checkpoint-4")
    assert manifest.kind == "adapter"
    assert "grounded_total" in manifest.validation
    again = run_script(REINFORCE, *command)
    assert "nothing to do" in again.stdout
