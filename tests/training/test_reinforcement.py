"""Training by rewards, as a user runs it: what a run leaves, kills, resumes, what it refuses."""

import json
import shutil

import pytest
from safetensors.torch import load_file

from leap.files import read_json
from leap.models.checkpoints import MANIFEST, read_manifest, weights_sha256
from leap.models.loading import load_processor
from leap.rows.records import read_rows
from leap.training.held_out_plans import terms_of
from leap.training.recipes import ReinforcementRecipe
from leap.training.reinforcement import reward_functions
from leap.training.rewards import reward
from tests.conftest import REPOSITORY, assert_one_line_error, kill_when, made_once, run_script, start_script
from tests.training.trainings import REINFORCE, reinforcement


@pytest.fixture(scope="session")
def undisturbed_reinforcement(beginner, tmp_path_factory):
    """A run of the whole model that nothing disturbed."""

    def make(folder):
        done = run_script(REINFORCE, *reinforcement(beginner, folder, "--tuning", "full"))
        assert done.returncode == 0, done.stderr
        (folder / "stdout.txt").write_text(done.stdout)

    return made_once(tmp_path_factory, "reinforced", make)


@pytest.mark.slow
def test_a_run_leaves_whole_checkpoints_and_says_what_was_learned_from(beginner, undisturbed_reinforcement):
    run, parent = undisturbed_reinforcement, beginner / "run" / "checkpoint-60"
    manifest = read_manifest(run / "checkpoint-4")
    assert (manifest.kind, manifest.steps) == ("full", 4)
    assert manifest.parent == str(parent)
    assert manifest.parent_weights_sha256 == weights_sha256(parent)
    assert {"grounded_total", "grounded_plan_success", "reward"} <= set(manifest.validation)
    assert read_json(run / "run.json")["best_by"] == "validation grounded_total"
    assert (run / "reward.png").is_file()
    card = (run / "checkpoint-4" / "README.md").read_text()
    assert "trained by rewards from `checkpoint-60`" in card
    assert "| held-out reward |" in " ".join(card.split())
    text = (run / "stdout.txt").read_text()
    assert "4 steps of 4 prompts x 4 completions" in text
    assert f"{run / 'checkpoint-4'}" in text


@pytest.mark.slow
def test_the_log_has_reward_and_terms_apart_and_what_went_wrong_with_groups(undisturbed_reinforcement):
    history = read_json(undisturbed_reinforcement / "checkpoint-4" / "trainer_state.json")["log_history"]
    lines = [entry for entry in history if "reward" in entry]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    wanted = {"frac_reward_zero_std", "kl", "entropy", "completions/mean_length", "completions/clipped_ratio"}
    wanted |= {"completions_per_second", "generation_share", "grad_norm"}
    wanted |= {
        f"rewards/{term}/mean" for term in ("total", "format", "skill", "entity", "container", "plan", "brevity")
    }
    assert wanted <= set(lines[0])
    assert not any("thought" in name or "redundancy" in name for name in lines[0]), "terms that no row has"
    weights = ReinforcementRecipe().reward_weights
    for line in lines:
        terms = {
            name: line[f"rewards/{name}/mean"] for name in ("format", "skill", "entity", "container", "plan", "brevity")
        }
        assert line["reward"] == pytest.approx(reward(terms, weights), abs=1e-5)
        assert 0 < line["reward"] < 1
    assert any(line["frac_reward_zero_std"] < 1 for line in lines), "no group had spread, nothing was learned"
    assert any(line["grad_norm"] > 0 for line in lines)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_very_weights_of_an_undisturbed_one(beginner, undisturbed_reinforcement, workspace):
    run = workspace / "output" / "reinforced"
    command = (REINFORCE, *reinforcement(beginner, run, "--tuning", "full"))
    kill_when(start_script(*command), (run / "checkpoint-2" / MANIFEST).is_file)
    assert not (run / "checkpoint-4").exists(), "killed too late to show anything"
    done = run_script(*command)
    assert done.returncode == 0, done.stderr
    assert f"resuming from {run / 'checkpoint-2'}" in done.stdout
    start = load_file(beginner / "run" / "checkpoint-60" / "model.safetensors")
    expected = load_file(undisturbed_reinforcement / "checkpoint-4" / "model.safetensors")
    resumed = load_file(run / "checkpoint-4" / "model.safetensors")
    assert any(not start[name].equal(weights) for name, weights in expected.items())
    for name, weights in expected.items():
        assert weights.equal(resumed[name]), name
    assert (workspace / "logs" / "reinforced" / "train.jsonl").is_file()
    again = run_script(*command)
    assert "nothing to do" in again.stdout
    refused = run_script(*command, "--temperature", "0.9")
    assert_one_line_error(refused, "temperature: 1.0 -> 0.9")


@pytest.mark.slow
def test_an_adapter_trains_on_from_the_adapter_that_it_starts_from(beginner, workspace):
    first, second = workspace / "output" / "first", workspace / "output" / "second"
    done = run_script(REINFORCE, *reinforcement(beginner, first, "--max_steps", 2))
    assert done.returncode == 0, done.stderr
    assert read_manifest(first / "checkpoint-2").kind == "adapter"
    on = reinforcement(beginner, second, "--checkpoint", first / "checkpoint-2")
    kill_when(start_script(REINFORCE, *on), (second / "checkpoint-2" / MANIFEST).is_file)
    done = run_script(REINFORCE, *on)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(second / "checkpoint-4")
    assert manifest.base_model == str(beginner / "run" / "checkpoint-60")
    assert manifest.parent_weights_sha256 == weights_sha256(first / "checkpoint-2")
    assert not (second / "checkpoint-4" / "ref").exists()
    before, after = (
        load_file(f / "adapter_model.safetensors") for f in (first / "checkpoint-2", second / "checkpoint-4")
    )
    assert before.keys() == after.keys()
    assert any(not before[name].equal(after[name]) for name in before)
    whole = run_script(REINFORCE, *on, "--tuning", "full", "--output_dir", workspace / "output" / "third")
    assert_one_line_error(whole, "is an adapter", "merge_adapter.py")


def test_the_trainer_rewards_what_the_scorer_rewards(beginner, demo):
    recipe = ReinforcementRecipe()
    rows = read_rows(beginner / "train.jsonl")[:6]
    processor = load_processor(demo / "models" / "tiny-planner")
    tokenizer = processor.tokenizer
    answers = [rows[(i + i % 2) % 6].steps + ("" if i % 3 else " and more") for i in range(6)]
    ids = [[*tokenizer(answer).input_ids, tokenizer.eos_token_id] for answer in answers]
    functions = {
        f.__name__: f for f in reward_functions(recipe, rows, load_processor(demo / "models" / "tiny-planner"))
    }
    rewards = {name: f(completion_ids=ids, row=list(range(6)), trainer_state=None) for name, f in functions.items()}
    for i, (answer, row) in enumerate(zip(answers, rows, strict=True)):
        terms = terms_of(answer, row, recipe)
        assert rewards["total"][i] == reward(terms, recipe.reward_weights)
        assert {name: values[i] for name, values in rewards.items() if name != "total"} == terms
    assert len(set(rewards["total"])) > 2


BAD_ROWS = {
    "a row without a plan": ("apple 3 plate 5", "no plan to compare with"),
    "an unknown skill": ('[{"name": "pick", "params": {}}, {"name": "fly", "params": {}}]', "unknown skill 'fly'"),
}


@pytest.mark.parametrize(("steps", "problem"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_rows_that_cannot_be_rewarded_are_refused_by_line(beginner, workspace, steps, problem):
    record = json.loads((beginner / "train.jsonl").read_text().splitlines()[0])
    (workspace / "images").symlink_to(beginner / "images")
    path = workspace / "bad.jsonl"
    path.write_text(json.dumps(record | {"target": {"steps": steps}}) + "\n")
    run = workspace / "output" / "bad"
    assert_one_line_error(run_script(REINFORCE, *reinforcement(beginner, run, "--rows", path)), "bad.jsonl:1", problem)
    assert not run.exists() or not list(run.iterdir())


def test_groups_that_do_not_divide_the_batch_are_refused(beginner, workspace):
    done = run_script(REINFORCE, *reinforcement(beginner, workspace / "run", "--num_generations", 5))
    assert_one_line_error(done, "16 completions a step", "no whole groups of num_generations 5")


def test_a_base_without_a_chat_template_is_refused(beginner, workspace):
    base = workspace / "base"
    shutil.copytree(beginner / "run" / "checkpoint-60", base)
    for path in base.glob("chat_template*"):
        path.unlink()
    for name in ("tokenizer_config.json", "processor_config.json"):
        if (base / name).is_file():
            settings = read_json(base / name)
            settings.pop("chat_template", None)
            (base / name).write_text(json.dumps(settings))
    (base / MANIFEST).unlink()
    done = run_script(REINFORCE, *reinforcement(beginner, workspace / "run", "--checkpoint", base))
    assert_one_line_error(done, "no processor with an image processor and a chat template")


def test_without_the_package_the_way_to_install_it_is_said(beginner, workspace, monkeypatch):
    hidden = workspace / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find_spec = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'trl' else find_spec(name, *more)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{hidden}:{REPOSITORY}")
    process = start_script(REINFORCE, *reinforcement(beginner, workspace / "run"))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.startswith("error: training by rewards needs the package trl: pip install -e '.[rl]'"), error
