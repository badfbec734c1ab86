"""Which models the two scripts that ask planners come to, from the same folders and flags."""

import shutil

import pytest

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.blind.options import OutputOptions
from leap.models.checkpoints import SAVING, Manifest, write_manifest
from leap.planners.candidates import models_to_ask
from leap.vlabench.options import EvaluationOptions


@pytest.fixture
def workspace(demo, tmp_path, write_checkpoint):
    """A base, a run of two checkpoints of which one is torn, and two runs with one each."""
    workspace = WorkspaceConfig(tmp_path)
    write_checkpoint(workspace.base_model)
    for name in ("checkpoint-9", "a/checkpoint-10", "a/checkpoint-20", "b/checkpoint-5"):
        write_checkpoint(workspace.output / name)
    (workspace.output / "a" / "checkpoint-20" / SAVING).touch()
    return workspace


@pytest.fixture
def write_checkpoint(demo):
    def write(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        for path in (demo / "models" / "tiny-planner").iterdir():
            (folder / path.name).symlink_to(path)

    return write


def evaluated(workspace, **knobs):
    options = EvaluationOptions(**knobs)
    base = options.all_checkpoints or not options.checkpoint
    complete = options.all_checkpoints
    return models_to_ask(options, workspace, workspace.output, with_base=base, with_complete=complete)


def reviewed(workspace, most=None, **knobs):
    options = OutputOptions(**knobs)
    complete = not options.checkpoint
    return models_to_ask(
        options, workspace, workspace.output, with_base=True, with_complete=complete, max_checkpoints=most
    )


def names(models):
    return [model.name for model in models]


COMPLETE = ["checkpoint-9", "a-checkpoint-10", "b-checkpoint-5"]


def test_the_base_and_every_complete_checkpoint_are_asked_and_torn_ones_named(workspace, capsys):
    assert names(reviewed(workspace)) == names(evaluated(workspace, all_checkpoints=True)) == ["baseline", *COMPLETE]
    assert capsys.readouterr().out.count("checkpoint-20: saving it was interrupted") == 2
    assert names(evaluated(workspace)) == ["baseline"]


def test_named_checkpoints_take_the_place_of_those_found(workspace):
    named = [workspace.output / "b" / "checkpoint-5", workspace.output / "a" / "checkpoint-10"]
    assert names(evaluated(workspace, checkpoint=named)) == ["b-checkpoint-5", "a-checkpoint-10"]
    assert names(reviewed(workspace, checkpoint=named)) == ["baseline", "b-checkpoint-5", "a-checkpoint-10"]


def test_the_newest_checkpoints_keep_their_order_and_a_full_one_comes_before_an_adapter(workspace):
    assert names(reviewed(workspace, most=2)) == ["baseline", "checkpoint-9", "a-checkpoint-10"]
    assert names(reviewed(workspace, most=0)) == ["baseline"]
    (workspace.output / "a" / "checkpoint-10" / "adapter_config.json").write_text("{}")
    shutil.copy(
        workspace.base_model / "model.safetensors", workspace.output / "a/checkpoint-10/adapter_model.safetensors"
    )
    assert names(reviewed(workspace, most=1)) == ["baseline", "checkpoint-9"]


def test_a_runs_folder_means_its_last_complete_checkpoint_which_is_said(workspace, capsys):
    assert names(evaluated(workspace, checkpoint=[workspace.output / "a"])) == ["a-checkpoint-10"]
    assert "a/checkpoint-10, the last" in capsys.readouterr().out
    assert names(evaluated(workspace, checkpoint=[workspace.output])) == ["checkpoint-9"]


def test_a_runs_folder_means_its_best_checkpoint_where_it_was_validated(workspace, write_checkpoint, capsys):
    for step, loss in ((3, 0.2), (6, 0.5)):
        folder = workspace.output / "scored" / f"checkpoint-{step}"
        write_checkpoint(folder)
        nothing = dict.fromkeys(("base_model", "base_weights_sha256", "data_sha256", "chat_template_sha256"), "")
        made = {"kind": "full", "recipe": {"best_metric": "loss"}, "pixel_budget": {}, "library_versions": {}}
        write_manifest(folder, Manifest(**nothing, **made, steps=step, validation={"loss": loss, "step": step}))
    assert names(evaluated(workspace, checkpoint=[workspace.output / "scored"])) == ["scored-checkpoint-3"]
    assert "the best by validation loss" in capsys.readouterr().out


def test_a_missing_checkpoint_lists_those_there_are(workspace):
    with pytest.raises(UserError, match=r"checkpoint-200\. .* There are: .*output/checkpoint-9, .*b/checkpoint-5$"):
        evaluated(workspace, checkpoint=[workspace.output / "checkpoint-200"])


def test_a_model_named_twice_is_asked_once_and_the_base_keeps_its_name(workspace):
    folder, link = workspace.output / "checkpoint-9", workspace.output / "best"
    link.symlink_to(folder)
    assert names(evaluated(workspace, checkpoint=[folder, link])) == ["checkpoint-9"]
    assert names(evaluated(workspace, checkpoint=[workspace.base_model])) == ["baseline"]
    assert names(reviewed(workspace, checkpoint=[workspace.base_model, folder])) == ["baseline", "checkpoint-9"]


def test_two_models_of_one_name_and_folders_that_are_not_there_are_errors(workspace, write_checkpoint, tmp_path):
    other = tmp_path / "other" / "a" / "checkpoint-10"
    write_checkpoint(other)
    named = [workspace.output / "a" / "checkpoint-10", other]
    for models in (evaluated, reviewed):
        with pytest.raises(UserError, match="two models would be called a-checkpoint-10.*--suffix"):
            models(workspace, checkpoint=named)
        with pytest.raises(UserError, match="checkpoint not found"):
            models(workspace, checkpoint=[tmp_path / "nowhere"])


def test_an_endpoint_is_asked_for_the_model_it_serves_and_for_no_folder(workspace):
    for models in (evaluated, reviewed):
        assert names(models(workspace, planner="openai", model="org/Model-2B/")) == ["Model-2B"]
        with pytest.raises(UserError, match="wants --model"):
            models(workspace, planner="openai")
        with pytest.raises(UserError, match="leave out --checkpoint"):
            models(workspace, planner="openai", model="m", checkpoint=[workspace.output])
    with pytest.raises(UserError, match="leave out --checkpoint"):
        evaluated(workspace, planner="openai", model="m", all_checkpoints=True)
