from pathlib import Path

import pytest

from configs.commands import without_checkout
from configs.config import DIMENSIONS, REPOSITORY, WorkspaceConfig, dimension_named, dimensions_named, next_line
from configs.errors import UserError


def test_an_id_of_the_hub_where_a_folder_is_wanted_names_the_download(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="download_model.sh Qwen/Qwen3-VL-4B-Instruct"):
        WorkspaceConfig(tmp_path).require(tmp_path / "Qwen/Qwen3-VL-4B-Instruct", "base model")
    with pytest.raises(UserError, match="Check the path"):
        WorkspaceConfig(tmp_path).require(tmp_path / "data2/rows.jsonl", "training file")


def test_the_next_command_works_as_it_stands_in_a_workspace_of_its_own(monkeypatch):
    monkeypatch.setenv("LEAP_WORKSPACE", "/big disk")
    assert next_line("python x.py") == "next: LEAP_WORKSPACE='/big disk' python x.py"
    monkeypatch.delenv("LEAP_WORKSPACE")
    assert next_line("python x.py") == "next: python x.py"


def test_without_a_checkout_commands_are_those_of_leap():
    advice = "Score both again: python scripts/evaluation/rescore.py, or bash scripts/training/run-training.sh --rows x"
    assert without_checkout(advice) == "Score both again: leap rescore, or leap train --rows x"
    assert without_checkout("bash scripts/download/download_model.sh a/b") == "leap download model a/b"
    assert without_checkout('Gradio: pip install -e ".[chat]"') == 'Gradio: pip install "leap-planner[chat]"'
    assert without_checkout("bash scripts/utils/setup-env.sh") == "bash scripts/utils/setup-env.sh"


def test_the_workspace_is_the_repository_unless_the_environment_names_another(monkeypatch, tmp_path):
    monkeypatch.delenv("LEAP_WORKSPACE", raising=False)
    assert WorkspaceConfig.from_environment().root == REPOSITORY
    monkeypatch.setenv("LEAP_WORKSPACE", str(tmp_path))
    assert WorkspaceConfig.from_environment().results == tmp_path / "eva_results"


def test_a_relative_workspace_is_relative_to_the_current_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEAP_WORKSPACE", "some where")
    assert WorkspaceConfig.from_environment().root == tmp_path / "some where"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("CommonSense", "CommenSence"),
        ("commensence", "CommenSence"),
        ("PhysicalLaw", "PhysicsLaw"),
        ("mt", "M&T"),
        ("m&t", "M&T"),
        ("SPATIAL", "Spatial"),
        (" complex ", "Complex"),
    ],
)
def test_dimensions_are_known_by_several_spellings(written, meant):
    assert dimension_named(written) == meant


def test_several_dimensions_come_in_table_order_and_once():
    assert dimensions_named(["Spatial,M&T", "mt"]) == ["M&T", "Spatial"]
    assert dimensions_named(["ALL"]) == list(DIMENSIONS)


@pytest.mark.parametrize("words", [["Spatal"], [""], []])
def test_an_unknown_dimension_is_an_error_that_lists_the_known_ones(words):
    with pytest.raises(UserError, match=r"choose from M&T, CommenSence"):
        dimensions_named(words)


def test_a_missing_input_names_the_path_and_the_command_that_gets_it(tmp_path):
    workspace = WorkspaceConfig(tmp_path / "a b")
    with pytest.raises(UserError, match=r"base model not found: .*download_model.sh --local_dir '"):
        workspace.require(workspace.base_model, "base model")
    with pytest.raises(UserError, match=r"relative one is taken from the current directory"):
        workspace.require(Path("/nowhere/at/all"), "training file")


def test_a_relative_path_that_is_one_of_the_workspace_is_named_as_that(tmp_path, monkeypatch):
    workspace = WorkspaceConfig(tmp_path / "workspace")
    rows = workspace.root / "mine" / "rows.jsonl"
    rows.parent.mkdir(parents=True)
    rows.touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"did you mean .*workspace/mine/rows\.jsonl\?"):
        workspace.require(tmp_path / "mine" / "rows.jsonl", "planning file")


def test_rows_of_another_name_are_listed_where_some_are_missing(tmp_path):
    workspace = WorkspaceConfig(tmp_path)
    workspace.data.mkdir()
    (workspace.data / "agibot_train.jsonl").touch()
    with pytest.raises(UserError, match=r"In its folder: agibot_train\.jsonl\. Get it with: .*download_dataset\.py"):
        workspace.require(workspace.data / "train_151230.jsonl", "training file")
