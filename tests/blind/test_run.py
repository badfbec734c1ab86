"""Asking models for a review's plans: planners of the test's own where the bookkeeping is tested, tiny ones else."""

import csv
import gc
import json
import shlex
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from configs.config import next_line
from configs.errors import UserError
from leap.blind.outputs import CSV_FILE, OUTPUTS_FILE, items_of, read_outputs
from leap.files import read_json, read_jsonl
from leap.models.checkpoints import SAVING
from leap.planners import MachineFailure, huggingface
from leap.planners.asking import SETTINGS_FILE
from leap.planners.candidates import Candidate
from tests.blind.asking import MODELS, edit
from tests.conftest import assert_one_line_error, kill_when, read_status, run_script, start_script
from tests.planners.lively import write_lively

SCRIPT = "evaluation/run_vlm_output.py"


def test_every_model_answers_every_row_into_journal_and_csv(asking, data, folder):
    outputs = asking()
    assert [(o.model, o.sample) for o in outputs] == [(m.name, i) for m in MODELS for i in range(10)]
    assert read_outputs(folder / OUTPUTS_FILE) == sorted(outputs, key=lambda output: output.sample)
    rows = read_jsonl(data)
    for output in outputs:
        record = rows[output.sample]
        [picture, text] = record["messages"][0]["content"]
        assert (output.prompt, output.reference) == (text["text"], record["target"]["steps"])
        assert (output.id, output.task_name) == (record["id"], record["task_name"])
        assert (output.images, Path(output.folder)) == ([picture["image"]], data.parent)
    assert len(items_of(outputs, folder)) == 10
    with open(folder / CSV_FILE, newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["model_output"] for line in lines] == [output.text for output in outputs]
    settings = read_json(folder / SETTINGS_FILE)
    assert list(settings) == ["baseline", "checkpoint-20"]
    assert settings["baseline"]["settings"] == {"planner": {"planner": "writer", "weights_sha256": "base"}}
    status = read_status(folder / "status.json")
    assert (status.kind, status.state, status.done, status.total) == ("outputs", "finished", 20, 20)


def test_a_second_run_asks_nobody_and_changes_nothing(asking, folder):
    asking()
    before = (folder / OUTPUTS_FILE).read_bytes()
    asking()
    assert asking.said == []
    assert (folder / OUTPUTS_FILE).read_bytes() == before


def test_a_run_that_was_cut_anywhere_ends_with_the_same_file(asking, folder):
    asking()
    whole = (folder / OUTPUTS_FILE).read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in (0, 3, 13):
        (folder / OUTPUTS_FILE).write_bytes(b"".join(lines[:kept]) + lines[kept][:40])
        asking()
        # Batches keep their members: one of which a row is known is asked whole.
        assert [sum(asking.asked(name)) for name in ("base", "b")] == {0: [10, 10], 3: [8, 10], 13: [0, 8]}[kept]
        assert (folder / OUTPUTS_FILE).read_bytes() == whole


def test_equal_rows_are_asked_once(asking, data):
    edit(data, lambda records: records.append(records[0]))
    outputs = asking(MODELS[:1])
    assert sum(asking.asked("base")) == 10
    assert outputs[10] == replace(outputs[0], sample=10)


def test_a_machine_failure_holds_no_plan_and_is_asked_again_when_told_to(asking, folder):
    def give_out(query):
        if "fruit" in query.task:
            raise MachineFailure("out of memory")
        return "1) Do it."

    asking.answers = {"b": give_out}
    outputs = asking()
    failed = [output for output in outputs if output.failure]
    assert failed
    assert {output.model for output in failed} == {"checkpoint-20"}
    for output in failed:
        assert (output.text, output.failure) == (None, {"kind": "machine", "reason": "out of memory"})
    assert (folder / CSV_FILE).read_text().count("checkpoint-20") == 10 - len(failed)
    assert read_status(folder / "status.json").failures == len(failed)

    asking.answers = {}
    asking()
    assert asking.said == []
    outputs = asking(retry_failed=True)
    assert asking.asked("base") == []
    assert not any(output.failure for output in outputs)


def test_a_model_that_cannot_be_opened_fails_each_of_its_rows_and_the_next_goes_on(asking):
    asking.unusable = {"base": "cannot use base: saving it was interrupted"}
    outputs = asking()
    assert {output.failure["kind"] for output in outputs[:10]} == {"model"}
    assert all(output.text for output in outputs[10:])
    asking.unusable = {}
    outputs = asking()
    assert asking.asked("b") == []
    assert all(output.text for output in outputs)


def test_models_in_memory_at_once_answer_batch_by_batch_in_turn(asking, folder):
    asking()
    assert [name for name, _ in asking.said] == ["base"] * 5 + ["b"] * 5
    alone = (folder / OUTPUTS_FILE).read_bytes()
    (folder / OUTPUTS_FILE).unlink()
    asking(max_models=2)
    assert [name for name, _ in asking.said] == ["base", "b"] * 5
    assert (folder / OUTPUTS_FILE).read_bytes() == alone


def test_a_model_is_gone_before_the_next_is_opened(asking):
    living, counts = [], []
    open_model = asking.open

    class Heavy:
        """Weights that refer to themselves, as a torch module's do."""

        def __init__(self):
            self.itself = self

    def opened(folder):
        planner = open_model(folder)
        planner.weights = Heavy()
        counts.append(sum(weights() is not None for weights in living))
        living.append(weakref.ref(planner.weights))
        return planner

    asking.open = opened
    gc.collect()
    gc.disable()  # what is collected in time by chance shows nothing
    try:
        asking([*MODELS, Candidate(Path("d"), "checkpoint-30")])
    finally:
        gc.enable()
    looked_at, asked = counts[:3], counts[3:]
    assert len(asked) == 3
    assert asked[1:] == [0, 0], (looked_at, asked)


def test_a_drawn_answer_has_the_seed_of_its_row_wherever_that_stands(asking, data):
    seeds = {}

    def note(query):
        seeds.setdefault(query.messages[-1]["content"][-1]["text"], []).append(query.seed)
        return "1) Do it."

    how = {"temperature": 0.7, "top_p": 0.9, "seed": 1}
    with pytest.raises(UserError, match="--planner writer decodes greedily only; leave out --temperature"):
        asking(**how)
    asking.settings, asking.answers = {"decoding": {"temperature": 0.7}}, {"base": note, "b": note}
    asking(**how)
    assert all(len(of_row) == 2 and len(set(of_row)) == 1 for of_row in seeds.values())
    assert len({of_row[0] for of_row in seeds.values()}) == 10
    with pytest.raises(UserError, match="drawing.seed: 1 -> 2"):
        asking(**how | {"seed": 2})
    edit(data, lambda records: records.reverse())
    asking(**how | {"seed": 2}, overwrite=True)
    asking(**how, overwrite=True)
    assert all(first == last != other for first, _, other, _, last, _ in seeds.values())


@pytest.fixture(scope="module")
def checkpoints(demo, tmp_path_factory):
    """Two tiny planners as checkpoints of a folder of output."""
    output = tmp_path_factory.mktemp("trained") / "output"
    for name in ("checkpoint-9", "checkpoint-10"):
        write_lively(demo / "models" / "tiny-planner", output / name)
    return output


def arguments(demo, output, folder, *more):
    base = demo / "models" / "tiny-planner"
    return [
        *("--baseline_model", base, "--checkpoints_dir", output, "--save_dir", folder, "--device", "cpu"),
        *("--max_new_tokens", 8, "--batch_size", 2, "--temperature", 2.0, "--top_p", 0.9, *more),
    ]


def written(folder):
    """Lines of the journal so far."""
    path = folder / OUTPUTS_FILE
    return path.read_bytes().count(b"\n") if path.is_file() else 0


@pytest.mark.slow
def test_a_run_killed_twice_ends_with_the_file_of_an_undisturbed_one(demo, checkpoints, workspace, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = run_script(SCRIPT, *arguments(demo, checkpoints, whole))
    assert done.returncode == 0, done.stderr
    assert "checkpoint-10: 10 of 10 rows answered" in done.stdout
    names = [record["model"] for record in read_jsonl(whole / OUTPUTS_FILE)]
    assert names == ["baseline"] * 10 + ["checkpoint-9"] * 10 + ["checkpoint-10"] * 10

    for lines in (3, 14):
        process = start_script(SCRIPT, *arguments(demo, checkpoints, killed))
        kill_when(process, lambda lines=lines: written(killed) >= lines)
        assert written(killed) < 30, "killed too late to show anything"
        assert read_status(killed / "status.json").state == "died"
    done = run_script(SCRIPT, *arguments(demo, checkpoints, killed))
    assert done.returncode == 0, done.stderr
    for name in (OUTPUTS_FILE, CSV_FILE):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_the_weights_of_a_model_are_gone_before_those_of_the_next_are_loaded(
    demo, checkpoints, workspace, folder, monkeypatch
):
    loaded, load = [], huggingface.load_for_planning

    def watched(*arguments):
        assert [model() for model in loaded] == [None] * len(loaded)
        model = load(*arguments)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(huggingface, "load_for_planning", watched)
    done = run_script(SCRIPT, *arguments(demo, checkpoints, folder, "--max_new_tokens", 1))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(loaded) == 3


def test_torn_and_damaged_models_are_named_earlier_answers_stand_and_the_others_answer(
    demo, checkpoints, workspace, tmp_path, folder
):
    output = tmp_path / "output"
    shutil.copytree(checkpoints, output)
    few = ("--max_new_tokens", 2)
    named = ("--checkpoint", output / "checkpoint-9", *few)
    assert run_script(SCRIPT, *arguments(demo, output, folder, *named)).returncode == 0
    (output / "checkpoint-9" / SAVING).touch()
    damaged = output / "checkpoint-10" / "config.json"
    config = read_json(damaged)
    config["text_config"]["intermediate_size"] *= 2
    damaged.write_text(json.dumps(config))

    done = run_script(SCRIPT, *arguments(demo, output, folder, *few))
    assert f"skipping {output / 'checkpoint-9'}: saving it was interrupted" in done.stdout
    assert done.returncode == 1
    assert "10 outputs failed and hold no plan" in done.stdout
    all_rows = ", ".join(map(str, range(10)))
    assert f"checkpoint-10, row {all_rows}: cannot load a model from {output / 'checkpoint-10'}" in done.stdout

    done = run_script(SCRIPT, *arguments(demo, output, folder, *named))
    assert done.returncode == 1
    assert "checkpoint-9 cannot be asked (" in done.stdout
    assert "saving it was interrupted); 10 answers of earlier runs stand" in done.stdout
    outputs = {(o.model, o.sample): o for o in read_outputs(folder / OUTPUTS_FILE)}
    for sample in range(10):
        assert all(outputs[name, sample].text is not None for name in ("baseline", "checkpoint-9"))
        assert outputs["checkpoint-10", sample].failure["kind"] == "model"
        assert "cannot load a model" in outputs["checkpoint-10", sample].failure["reason"]
    assert "checkpoint-10" not in (folder / CSV_FILE).read_text()


def test_what_a_user_can_mend_is_one_line_before_any_model_is_loaded(demo, checkpoints, workspace, folder):
    for more, words in (
        (("--checkpoint", checkpoints / "checkpoint-11"), ("checkpoint not found", "checkpoint-11")),
        (("--data_file", checkpoints / "rows.jsonl"), ("planning rows not found",)),
        (("--image_root", checkpoints / "images"), ("folder of the images not found",)),
        (("--top_p", "1.5"), ("--top_p is a probability, at most 1, found 1.5",)),
        (("--temperature", "0"), ("--top_p 0.9 draws nothing without --temperature",)),
        (("--planner", "openai"), ("--planner openai wants --model",)),
        (("--planner", "constant"), ("invalid choice: 'constant'",)),
        (("--device", "gpu"), ("unknown device 'gpu'",)),
    ):
        assert_one_line_error(run_script(SCRIPT, *arguments(demo, checkpoints, folder, *more)), *words)
    assert not folder.exists()


def test_the_newest_checkpoint_is_asked(demo, checkpoints, workspace, folder):
    few = ("--max_checkpoints", 1, "--max_new_tokens", 1, "--suffix", "T2")
    done = run_script(SCRIPT, *arguments(demo, checkpoints, folder, *few))
    assert done.returncode == 0, done.stderr
    assert list(read_json(folder / SETTINGS_FILE)) == ["baseline_T2", "checkpoint-10_T2"]


def test_each_command_printed_runs_as_it_stands(demo, workspace, tmp_path):
    review = tmp_path / "re view"
    ask = ["--base_model", workspace / "models/tiny-planner", "--max_checkpoints", 0, "--max_new_tokens", 1]
    done = run_script(SCRIPT, *ask, "--review_dir", review)
    for script in ("analyze_output_results.py --judge reference", "draw_blind10_scores.py"):
        assert done.returncode == 0, done.stderr
        command = done.stdout.splitlines()[-1]
        assert command == next_line(f"python scripts/evaluation/{script} --review_dir '{review}'")
        path, *flags = shlex.split(command.partition("python ")[2])
        done = run_script(path.removeprefix("scripts/"), *flags)
    assert (done.returncode, (review / "figures").is_dir()) == (0, True), done.stderr
