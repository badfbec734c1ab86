"""Where trainings by rewards start, and what they must not see."""

import json

import pytest

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.models.checkpoints import weights_sha256
from leap.training.held_out_plans import made_from_start, refuse_adapter, reward_collator, training_rows
from leap.training.recipes import ReinforcementRecipe
from leap.vlabench.examples import find_examples
from tests.conftest import assert_one_line_error, run_script
from tests.training.trainings import REINFORCE, reinforcement


def recipe_of(beginner, **knobs):
    sizes = {"image_tokens_min": 1, "image_tokens_max": 16, "model_max_length": 512}
    paths = {"train_file": beginner / "train.jsonl", "val_file": beginner / "val.jsonl"}
    start = {"model_name_or_path": beginner / "run" / "checkpoint-60", "shared_instructions": True}
    return ReinforcementRecipe(**(sizes | paths | start | knobs))


@pytest.mark.slow
def test_rows_of_the_test_set_are_refused_by_line_and_others_are_counted(beginner, workspace, capsys):
    place = WorkspaceConfig(workspace)
    recipe = recipe_of(beginner)
    collator = reward_collator(recipe, place)
    rows = training_rows(recipe, collator, place).rows
    assert f"held out: {len(rows)} rows with" in capsys.readouterr().out
    with pytest.raises(UserError, match="instruction"):
        training_rows(recipe_of(beginner, shared_instructions=False), collator, place)

    example = next(iter(find_examples(place.benchmark, ["Spatial"])["Spatial"]))
    record = json.loads((beginner / "train.jsonl").read_text().splitlines()[0])
    pictures = [item for item in record["messages"][0]["content"] if item["type"] == "image"]
    pictures[-1]["image"] = str(example.tagged_image)
    path = workspace / "leaked.jsonl"
    path.write_text(json.dumps(record) + "\n")
    (workspace / "images").symlink_to(beginner / "images")
    done = run_script(REINFORCE, *reinforcement(beginner, workspace / "run", "--rows", path))
    assert_one_line_error(done, "leaked.jsonl:1", "picture")
    assert not (workspace / "run").exists()


@pytest.mark.slow
def test_a_start_is_recorded_by_name_and_weights(beginner):
    sources = made_from_start(recipe_of(beginner))
    start = beginner / "run" / "checkpoint-60"
    assert (sources.parent, sources.base_model) == (str(start), str(start))
    assert sources.parent_weights_sha256 == sources.base_weights_sha256 == weights_sha256(start)


def test_an_adapter_is_refused_where_a_full_model_is_wanted(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="merge_adapter.py"):
        refuse_adapter(ReinforcementRecipe(model_name_or_path=tmp_path))
