"""Model and data set cards: what they state, what they must not, and that the code they show runs."""

import json
import re
import shutil
from dataclasses import replace

import huggingface_hub
import pytest

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.files import write_json
from leap.models.checkpoints import MANIFEST, read_manifest, weights_sha256, why_incomplete, write_manifest
from leap.models.image_budget import pixel_budget
from leap.plans.scoring import METRICS
from leap.publish.model_card import model_card, portable, write_model_card
from leap.vlabench.folder import SCORE_FILES
from leap.vlabench.tables import overall
from tests.conftest import REPOSITORY, linked_workspace, run_script, unaligned
from tests.publish.cards import front_matter

STEPS = (
    *("--max_steps", 2, "--warmup_steps", 0, "--save_steps", 2, "--logging_steps", 1, "--dataloader_num_workers", 0),
    *("--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 1),
)


@pytest.fixture(scope="module")
def trained(demo, tmp_path_factory) -> WorkspaceConfig:
    """A workspace with a full checkpoint and an adapter, each of a run of two steps. Tests copy what they change."""
    root = linked_workspace(demo, tmp_path_factory.mktemp("cards") / "work space")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAP_WORKSPACE", str(root))
        for script, run in (("training/run-finetuning.py", "full"), ("ablation/run-lora-finetuning.py", "lora")):
            recipe = REPOSITORY / "configs/training/quickstart.yaml"
            done = run_script(script, "--config", recipe, "--output_dir", root / "output" / run, *STEPS)
            assert done.returncode == 0, done.stderr
    return WorkspaceConfig(root)


def estimate(mean):
    return {"total_score": {"mean": mean, "low": mean - 1, "high": mean + 1}}


def evaluated(workspace, model, dimension, weights, base=None, official=30.0):
    """Leave the summary of an evaluation."""
    summary = {
        "examples": {"in_benchmark": 60, "answered": 20},
        "scores": {"official": estimate(official), "grounded": estimate(40.25)},
        "settings": {"planner": {"weights_sha256": weights, "base_weights_sha256": base}},
    }
    write_json(workspace.results / dimension / model / "summary.json", summary)


@pytest.mark.parametrize("run", ["full", "lora"])
def test_the_code_of_a_card_runs_as_it_is_without_a_network(trained, tmp_path, monkeypatch, capsys, run):
    """Where folders lie under the names that a published card uses: the repository's, and the base model's."""
    card = model_card(trained.output / run / "checkpoint-2", trained, repo_id="me/my-planner")
    code = re.search(r"````python\n(.*?)````", card, re.DOTALL).group(1)
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "my-planner").symlink_to(trained.output / run / "checkpoint-2")
    (tmp_path / "tiny-planner").symlink_to(trained.models / "tiny-planner")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    names = {}
    assert "max_new_tokens=512" in code
    exec(code.replace("max_new_tokens=512", "max_new_tokens=4"), names)  # as it is, but sooner done
    assert names["output"].shape[1] > names["inputs"]["input_ids"].shape[1]
    assert capsys.readouterr().out.strip()
    budget = read_manifest(trained.output / run / "checkpoint-2").pixel_budget
    assert pixel_budget(names["processor"]) == budget


def test_a_card_that_is_not_published_yet_loads_from_its_own_folder(trained):
    card = model_card(trained.output / "full" / "checkpoint-2", trained)
    assert 'checkpoint = "."' in card
    assert "(../loss.png)" in card
    assert "(loss.png)" in model_card(trained.output / "full" / "checkpoint-2", trained, repo_id="me/p")


def test_the_prompt_shown_is_that_of_the_training_rows_while_these_are_there(trained, tmp_path):
    folder = shutil.copytree(trained.output / "full" / "checkpoint-2", tmp_path / "checkpoint-2")
    first = json.loads((trained.data / "train.jsonl").read_text().splitlines()[0])
    asked = [item["text"] for item in first["messages"][0]["content"] if item["type"] == "text"]
    assert all(json.dumps(text) in model_card(folder, trained) for text in asked)
    write_manifest(folder, replace(read_manifest(folder), data_sha256="of other rows"))
    card = model_card(folder, trained)
    assert json.dumps(asked[0]) not in card
    assert "rows were not at hand" in card


def test_the_front_matter_is_what_the_hub_reads_and_names_a_base_only_by_its_id(trained):
    full, adapter = (trained.output / run / "checkpoint-2" for run in ("full", "lora"))
    data = front_matter(model_card(full, trained))
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "image-text-to-text")
    assert not {"base_model", "base_model_relation", "datasets", "license"} & set(data), "tiny-planner has no id"
    data = front_matter(model_card(adapter, trained, base_id="you/base", datasets=["you/rows"]))
    assert (data["library_name"], data["base_model"]) == ("peft", "you/base")
    assert (data["base_model_relation"], data["datasets"]) == ("adapter", ["you/rows"])


def test_the_known_base_gets_its_id_and_the_licence_is_what_its_own_card_states(trained, tmp_path):
    folder = shutil.copytree(trained.output / "full" / "checkpoint-2", tmp_path / "checkpoint-2")
    base = tmp_path / "Qwen3-VL-2B-Instruct"
    base.mkdir()
    write_manifest(folder, replace(read_manifest(folder), base_model=str(base)))
    data = front_matter(model_card(folder, trained))
    assert data["base_model"] == "Qwen/Qwen3-VL-2B-Instruct"
    assert data["base_model_relation"] == "finetune"
    assert "license" not in data
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Qwen\n")
    assert front_matter(model_card(folder, trained))["license"] == "apache-2.0"
    (base / "README.md").write_text("---\nlicense: [\n---\n")
    assert "license" not in front_matter(model_card(folder, trained))


def test_no_path_of_this_machine_is_in_a_card(trained):
    for run in ("full", "lora"):
        card = model_card(trained.output / run / "checkpoint-2", trained)
        assert str(trained.root) not in card
        assert not re.search(r"/(home|tmp|root|Users)/", card)
        assert "`train.jsonl`" in card


def test_a_path_is_cut_to_its_part_inside_the_workspace_or_to_its_last(tmp_path):
    recipe = {"a": str(tmp_path / "data/x.jsonl"), "b": ["/home/me/y.jsonl"], "c": {"d": 1}, "e": "q_proj", "f": None}
    cut = {"a": "data/x.jsonl", "b": ["y.jsonl"], "c": {"d": 1}, "e": "q_proj", "f": None}
    assert portable(recipe, tmp_path) == cut


def test_losses_and_validation_are_those_of_the_run(trained):
    folder = trained.output / "full" / "checkpoint-2"
    card = model_card(folder, trained)
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    losses = {entry["step"]: entry["loss"] for entry in history if "loss" in entry}
    assert f"| 1 | {losses[1]:.4f} | - |" in unaligned(card)
    assert f"| 2 | {losses[2]:.4f} | {read_manifest(folder).validation['loss']:.4f} |" in unaligned(card)


def test_only_scores_of_these_very_weights_are_shown_and_the_rest_is_named_as_not_measured(trained, tmp_path):
    folder = trained.output / "full" / "checkpoint-2"
    workspace = WorkspaceConfig(tmp_path)
    (tmp_path / "output").symlink_to(trained.output)
    assert "Not measured on a benchmark yet." in model_card(folder, workspace)
    evaluated(workspace, "checkpoint-2", "Spatial", "of an older checkpoint-2")
    evaluated(workspace, "full-checkpoint-2", "Spatial", "of an older run", official=77.0)
    assert "Not measured on a benchmark yet." in model_card(folder, workspace)
    evaluated(workspace, "full-checkpoint-2", "Spatial", weights_sha256(folder))
    card = model_card(folder, workspace)
    assert "| Spatial | 30.0 (29.0 to 31.0) | 40.2 (39.2 to 41.2) | 20 of 60 |" in unaligned(card)
    assert "No benchmark score on: M&T, CommenSence, Semantic, PhysicsLaw, Complex." in card
    assert "Not measured with blank images" in card


def test_the_hub_reads_the_scores_with_their_intervals_out_of_the_front_matter(trained, tmp_path):
    folder = trained.output / "full" / "checkpoint-2"
    workspace = WorkspaceConfig(tmp_path)
    (tmp_path / "output").symlink_to(trained.output)
    assert "model-index" not in front_matter(model_card(folder, workspace))
    evaluated(workspace, "full-checkpoint-2", "Spatial", weights_sha256(folder))
    card = model_card(folder, workspace, repo_id="me/my-planner")
    official, grounded = huggingface_hub.ModelCard(card).data.eval_results
    assert (official.metric_type, official.metric_value) == ("official_total_score", 30.0)
    assert official.metric_name == "total score, official (of 80), 95 % 29.0 to 31.0"
    assert official.metric_args == {"low": 29.0, "high": 31.0}
    assert official.dataset_args == {"answered": 20, "in_benchmark": 60}
    assert (grounded.metric_type, grounded.metric_value) == ("grounded_total_score", 40.25)
    assert "/" not in official.dataset_type, "the benchmark is not known to be one of the Hub"
    assert [entry["name"] for entry in front_matter(card)["model-index"]] == ["my-planner"]


def test_a_card_shows_the_bounds_of_the_results_table(trained, tmp_path):
    folder = trained.output / "full" / "checkpoint-2"
    workspace = WorkspaceConfig(tmp_path)
    (tmp_path / "output").symlink_to(trained.output)
    evaluated(workspace, "full-checkpoint-2", "Spatial", weights_sha256(folder))
    for scorer, names in METRICS.items():
        scores = {str(i): dict.fromkeys(names, 80.0 * (i % 3 > 0)) for i in range(20)}
        write_json(workspace.results / "Spatial" / "full-checkpoint-2" / SCORE_FILES[scorer], {"task": scores})
    total = overall(workspace.results, "full-checkpoint-2", "official").dimensions["Spatial"]["total_score"]
    assert total.low < total.mean < total.high
    assert f"| Spatial | {total.text()} |" in unaligned(model_card(folder, workspace))


def test_an_adapters_scores_count_on_its_own_base_only(trained, tmp_path):
    folder = trained.output / "lora" / "checkpoint-2"
    workspace = WorkspaceConfig(tmp_path)
    (tmp_path / "output").symlink_to(trained.output)
    evaluated(workspace, "lora-checkpoint-2", "Spatial", weights_sha256(folder), base="another")
    assert "Not measured on a benchmark yet." in model_card(folder, workspace)
    base = read_manifest(folder).base_weights_sha256
    evaluated(workspace, "lora-checkpoint-2", "Spatial", weights_sha256(folder), base=base)
    assert "| Spatial | 30.0" in unaligned(model_card(folder, workspace))


@pytest.mark.parametrize("run", ["full", "lora"])
def test_writing_a_card_leaves_the_checkpoint_complete(trained, tmp_path, run):
    folder = shutil.copytree(trained.output / run / "checkpoint-2", tmp_path / "checkpoint-2")
    manifest = read_manifest(folder)
    write_json(
        folder / MANIFEST, json.loads((folder / MANIFEST).read_text()) | {"files": manifest.files | {"README.md": 1}}
    )
    for _ in range(2):
        written = write_model_card(folder, trained)
        assert written.read_text() == model_card(folder, trained)
        assert why_incomplete(folder, to_resume=True) is None
    write_manifest(folder, manifest)
    assert "README.md" not in read_manifest(folder).files


def test_a_folder_without_a_manifest_has_no_card(trained):
    with pytest.raises(UserError, match="leap_manifest.json"):
        model_card(trained.models / "tiny-planner", trained)
