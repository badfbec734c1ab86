"""What trainers are told."""

from dataclasses import replace

from configs.config import WorkspaceConfig
from leap.training.arguments import run_name_of, shared_arguments, supervised_arguments
from leap.training.recipes import TrainingRecipe


def test_a_run_is_named_by_its_place_in_output_or_by_its_folder(tmp_path):
    workspace = WorkspaceConfig(tmp_path)
    assert run_name_of(workspace.output / "sweep" / "light", workspace) == "sweep/light"
    assert run_name_of(workspace.output, workspace) == "output"
    assert run_name_of(tmp_path / "elsewhere" / "run", workspace) == "run"


def test_without_validation_rows_nothing_is_validated(tmp_path):
    workspace = WorkspaceConfig(tmp_path)
    recipe = TrainingRecipe(output_dir=workspace.output, save_steps=7)
    assert shared_arguments(recipe, 10, workspace, validates=True)["eval_steps"] == 7
    assert shared_arguments(recipe, 10, workspace, validates=False)["eval_strategy"] == "no"


def test_a_pack_is_one_row_of_a_batch(tmp_path):
    workspace = WorkspaceConfig(tmp_path)
    recipe = TrainingRecipe(output_dir=workspace.output, report_to=["none"], bf16=False)
    options = {"validates": False, "has_pictures": True}
    packed = supervised_arguments(replace(recipe, packing=True), 10, workspace, **options)
    assert packed.per_device_train_batch_size == 1
    assert supervised_arguments(recipe, 10, workspace, **options).per_device_train_batch_size == 6
