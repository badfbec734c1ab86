"""Completions of rows: written once, the same ones after a kill, none after half of the time."""

import pytest

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.files import read_json, read_jsonl
from leap.rows.records import read_rows
from leap.training.held_out_plans import terms_of
from leap.training.rewards import reward
from leap.training.rollouts import COMPLETIONS_FILE, group_rollouts
from tests.training.test_held_out_plans import recipe_of

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(beginner, tmp_path):
    knobs = {"num_generations": 4, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    return recipe_of(beginner, output_dir=tmp_path / "run", max_completion_length=48, temperature=1.3, **knobs)


def test_completions_are_judged_and_those_of_an_interrupted_run_are_kept(recipe, workspace):
    place = WorkspaceConfig(workspace)
    rows = read_rows(recipe.train_file)[:6]
    rollouts, seconds = group_rollouts(recipe, rows, place)
    assert {len(group) for group in rollouts.values()} == {4}
    texts = {rollout.text for group in rollouts.values() for rollout in group}
    assert len(texts) > 6, "they are drawn"
    for row in rows:
        for rollout in rollouts[row.where]:
            terms = terms_of(rollout.text, row, recipe)
            assert rollout.reward == reward(terms, recipe.reward_weights)
            assert rollout.right == (terms["plan"] == 1)
    path = recipe.output_dir / "rollouts" / COMPLETIONS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:9]) + lines[9][:10])  # torn in the middle of a batch
    again, more_seconds = group_rollouts(recipe, rows, place)
    assert again == rollouts
    assert more_seconds > seconds
    assert len(read_jsonl(path)) == 24
    assert read_json(path.with_name("seconds.json"))["seconds"] > 0


def test_other_settings_do_not_mix_with_earlier_completions(recipe, workspace, beginner):
    place, rows = WorkspaceConfig(workspace), read_rows(recipe.train_file)[:1]
    group_rollouts(recipe, rows, place)
    hotter = recipe_of(
        beginner, output_dir=recipe.output_dir, max_completion_length=48, num_generations=4, temperature=2
    )
    with pytest.raises(UserError, match="temperature"):
        group_rollouts(hotter, rows, place)


def test_no_more_than_half_of_the_seconds_are_spent_on_completions(recipe, workspace, beginner):
    brief = recipe_of(beginner, output_dir=recipe.output_dir, max_seconds=1e-3, num_generations=8)
    rows = read_rows(recipe.train_file)[:10]
    rollouts, _ = group_rollouts(brief, rows, WorkspaceConfig(workspace))
    assert any(not group for group in rollouts.values())
