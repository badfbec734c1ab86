"""Asking models for a review's plans: planners of the test's own where the bookkeeping is tested, tiny ones else."""

import csv
import gc
import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import UserError
from leap.blind.outputs import CSV_FILE, OUTPUTS_FILE, items_of, read_outputs
from leap.blind.rows import read_blind_rows
from leap.blind.run import SETTINGS_FILE, write_outputs
from leap.checkpoints import SAVING
from leap.files import read_json, read_jsonl
from leap.models import UnusableModel
from leap.planners import Answer, MachineFailure, huggingface
from leap.planners.candidates import Candidate
from leap.status import read_status
from tests.conftest import assert_one_line_error, kill_when, run_script, start_script
from tests.planners.lively import write_lively

SCRIPT = "evaluation/run_vlm_output.py"
MODELS = [Candidate(Path("base"), "baseline"), Candidate(Path("b"), "checkpoint-20")]


class Writer:
    """A planner that answers two prompts at once with its name and their last words, and notes whom it was asked."""

    notes = ()

    def __init__(self, name, said, settings=None, answer=None):
        self.name, self.said, self.settings, self._answer = name, said, settings or {}, answer

    def identity(self):
        return {"planner": "writer", "weights_sha256": self.name, **self.settings}

    def batches(self, queries):
        return [queries[i : i + 2] for i in range(0, len(queries), 2)]

    def answer(self, batches):
        for batch in batches:
            self.said.append((self.name, [query.task for query in batch]))
            yield [(query, self._result(query)) for query in batch]

    def _result(self, query):
        try:
            text = self._answer(query) if self._answer else f"{self.name}: {query.messages[-1]['content'][-1]['text']}"
            return Answer(text, 5, "end")
        except MachineFailure as failure:
            return failure


@pytest.fixture
def data(demo, tmp_path):
    """A copy of the demo's ten rows with their pictures."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    shutil.copy(demo / "data" / "blind_10.jsonl", folder)
    for picture in (demo / "data" / "images").glob("blind-*.png"):
        shutil.copy(picture, folder / "images")
    return folder / "blind_10.jsonl"


def edit(data, change):
    records = read_jsonl(data)
    change(records)
    data.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "eva_results" / "blind_10"


class Asking:
    """Runs over `data` into `folder`; `said` collects who was asked for which batches."""

    def __init__(self, data, folder):
        self.data, self.folder, self.said, self.settings, self.answers = data, folder, [], {}, {}
        self.unusable = {}

    def __call__(self, models=MODELS, **options):
        self.said.clear()
        rows = read_blind_rows(self.data, None, self.data.parent)
        return write_outputs(models, rows, self.open, self.folder, **options)

    def open(self, folder):
        if folder.name in self.unusable:
            raise UnusableModel(self.unusable[folder.name])
        return Writer(folder.name, self.said, self.settings, self.answers.get(folder.name))

    def asked(self, name):
        return [len(tasks) for model, tasks in self.said if model == name]


@pytest.fixture
def asking(data, folder):
    return Asking(data, folder)


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


def test_only_what_changed_is_asked_again_and_old_lines_go(asking, data, folder):
    asking()

    def change(records):
        records[3]["messages"][0]["content"][1]["text"] = "Task name: Dance.\n"
        records[4]["target"]["steps"] = "1) Another reference."

    edit(data, change)
    picture = data.parent / read_jsonl(data)[7]["messages"][0]["content"][0]["image"]
    shutil.copy(picture.with_name("blind-000000-plain.png"), picture)
    outputs = asking()
    assert asking.asked("base") == asking.asked("b") == [2, 2]
    assert [outputs[i].text for i in (3, 13)] == [f"{name}: Task name: Dance.\n" for name in ("base", "b")]
    assert outputs[4].reference == "1) Another reference."
    assert len(read_jsonl(folder / OUTPUTS_FILE)) == 20


def test_rows_in_another_order_are_numbered_anew_and_not_asked_again(asking, data, folder):
    before = asking()
    edit(data, lambda records: records.reverse())
    after = asking()
    assert asking.said == []
    assert [output.text for output in after[:10]] == [output.text for output in before[9::-1]]
    assert [output.sample for output in after[:10]] == list(range(10))


def test_equal_rows_are_asked_once(asking, data):
    edit(data, lambda records: records.append(records[0]))
    outputs = asking(MODELS[:1])
    assert sum(asking.asked("base")) == 10
    assert outputs[10] == replace(outputs[0], sample=10)


def test_models_of_earlier_runs_stay_as_long_as_their_rows_do(asking, data, folder):
    asking(MODELS[:1])
    asking(MODELS[1:])
    assert asking.asked("base") == []
    names = [record["model"] for record in read_jsonl(folder / OUTPUTS_FILE)]
    assert names == ["baseline"] * 10 + ["checkpoint-20"] * 10
    edit(data, lambda records: records.pop(2))
    asking(MODELS[1:])
    found = read_jsonl(folder / OUTPUTS_FILE)
    assert [(record["model"], record["sample"]) for record in found] == [(m.name, i) for m in MODELS for i in range(9)]
    assert list(read_json(folder / SETTINGS_FILE)) == ["baseline", "checkpoint-20"]


def test_other_settings_want_a_word_and_other_weights_do_not(asking, folder):
    asking()
    before = (folder / OUTPUTS_FILE).read_bytes()
    asking.settings = {"decoding": {"max_new_tokens": 9}}
    with pytest.raises(
        UserError, match=r"baseline under other settings \(planner.decoding: .*9.*--overwrite.*--suffix"
    ):
        asking()
    assert (folder / OUTPUTS_FILE).read_bytes() == before
    asking(overwrite=True)
    assert sum(asking.asked("base")) == 10
    asking()
    assert asking.said == []

    moved = [MODELS[0], Candidate(Path("c"), "checkpoint-20")]
    outputs = asking(moved)
    assert (asking.asked("base"), sum(asking.asked("c"))) == ([], 10)
    assert outputs[10].text.startswith("c: ")
    assert len(read_jsonl(folder / OUTPUTS_FILE)) == 20


def test_rows_of_another_file_do_not_replace_a_review_by_mistake(asking, data, demo):
    asking()
    shutil.copy(demo / "data" / "val.jsonl", data)
    shutil.copytree(demo / "data" / "images", data.parent / "images", dirs_exist_ok=True)
    with pytest.raises(UserError, match="holds outputs for none of the rows asked now. Give --overwrite"):
        asking()
    assert len(asking(overwrite=True)) == 40


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


def missing_picture(record, data):
    record["messages"][0]["content"][0]["image"] = "images/nowhere.png"


def cut_picture(record, data):
    picture = data.parent / record["messages"][0]["content"][0]["image"]
    picture.write_bytes(picture.read_bytes()[:-40])


def video(record, data):
    record["messages"][0]["content"][0] = {"type": "video", "video": "clip.mp4"}


def torn_words(record, data):
    record["messages"][0]["content"][1]["text"] = "Fold \ud800"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (missing_picture, "blind_10.jsonl:6: image not found: images/nowhere.png"),
        (cut_picture, "blind-000005-plain.png is no intact picture"),
        (video, "a review shows no videos"),
        (torn_words, "its words are no Unicode text"),
    ],
)
def test_a_row_that_cannot_be_asked_fails_alone(asking, data, spoil, reason):
    asking()
    edit(data, lambda records: spoil(records[5], data))
    outputs = asking()
    assert asking.said == []
    for output in outputs:
        assert (output.failure is None) == (output.sample != 5)
    assert outputs[5].failure["kind"] == "data"
    assert reason in outputs[5].failure["reason"]


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
    asking(at_once=2)
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
        asking(drawing=how)
    asking.settings, asking.answers = {"decoding": {"temperature": 0.7}}, {"base": note, "b": note}
    asking(drawing=how)
    assert all(len(of_row) == 2 and len(set(of_row)) == 1 for of_row in seeds.values())
    assert len({of_row[0] for of_row in seeds.values()}) == 10
    with pytest.raises(UserError, match="drawing.seed: 1 -> 2"):
        asking(drawing=how | {"seed": 2})
    edit(data, lambda records: records.reverse())
    asking(drawing=how | {"seed": 2}, overwrite=True)
    asking(drawing=how, overwrite=True)
    assert all(first == last != other for first, _, other, _, last, _ in seeds.values())


def test_earlier_turns_and_several_pictures_are_shown(asking, data):
    shown = []

    def note(query):
        shown.append(query.messages)
        return "1) Do it."

    def talk(records):
        del records[1:]
        turns = records[0]["messages"]
        picture = dict(turns[0]["content"][0])
        turns[0]["content"].insert(0, picture)
        records[0]["messages"] = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            *turns,
        ]

    edit(data, talk)
    asking.answers = {"base": note}
    [output] = asking(MODELS[:1])
    assert [turn["role"] for turn in shown[0]] == ["system", "user", "assistant", "user"]
    pictures = [item["image"] for item in shown[0][-1]["content"] if item["type"] == "image"]
    assert pictures == [str(data.parent / "images" / "blind-000000-plain.png")] * 2
    assert output.images == ["images/blind-000000-plain.png"] * 2
    assert output.prompt.startswith("[system] Be brief.\n\n[user] Hello\n\n[assistant] Hi\n\n[user] Task name: ")


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


def test_torn_and_damaged_models_fail_by_name_and_the_others_answer(demo, checkpoints, workspace, tmp_path, folder):
    output = tmp_path / "output"
    shutil.copytree(checkpoints, output)
    (output / "checkpoint-9" / SAVING).touch()
    damaged = output / "checkpoint-10" / "config.json"
    config = read_json(damaged)
    config["text_config"]["intermediate_size"] *= 2
    damaged.write_text(json.dumps(config))
    few = ("--max_new_tokens", 2)

    done = run_script(SCRIPT, *arguments(demo, output, folder, *few))
    assert f"skipping {output / 'checkpoint-9'}: saving it was interrupted" in done.stdout
    assert done.returncode == 1
    assert "10 outputs failed and hold no plan" in done.stdout
    all_rows = ", ".join(map(str, range(10)))
    assert f"checkpoint-10, row {all_rows}: cannot load a model from {output / 'checkpoint-10'}" in done.stdout

    named = ("--checkpoint", output / "checkpoint-9", *few)
    done = run_script(SCRIPT, *arguments(demo, output, folder, *named))
    assert done.returncode == 1
    outputs = {(o.model, o.sample): o for o in read_outputs(folder / OUTPUTS_FILE)}
    assert all(outputs["baseline", sample].text is not None for sample in range(10))
    for name, reason in (("checkpoint-9", "saving it was interrupted"), ("checkpoint-10", "cannot load a model")):
        for sample in range(10):
            assert outputs[name, sample].failure["kind"] == "model"
            assert reason in outputs[name, sample].failure["reason"]
    assert "checkpoint" not in (folder / CSV_FILE).read_text()


def test_what_a_user_can_mend_is_one_line_before_any_model_is_loaded(demo, checkpoints, workspace, folder):
    for more, words in (
        (("--checkpoint", checkpoints / "checkpoint-11"), ("checkpoint not found", "checkpoint-11")),
        (("--data_file", checkpoints / "rows.jsonl"), ("planning rows not found",)),
        (("--image_root", checkpoints / "images"), ("folder of the images not found",)),
        (("--top_p", "1.5"), ("--top_p is a probability, at most 1, found 1.5",)),
        (("--planner", "openai"), ("--planner openai wants --model",)),
        (("--planner", "internvl-chat"), ("--trust_remote_code",)),
        (("--planner", "constant"), ("invalid choice: 'constant'",)),
        (("--device", "gpu"), ("unknown device 'gpu'",)),
    ):
        assert_one_line_error(run_script(SCRIPT, *arguments(demo, checkpoints, folder, *more)), *words)
    assert not folder.exists()


def test_the_first_checkpoints_by_step_are_asked(demo, checkpoints, workspace, folder):
    few = ("--max_checkpoints", 1, "--max_new_tokens", 1, "--suffix", "T2")
    done = run_script(SCRIPT, *arguments(demo, checkpoints, folder, *few))
    assert done.returncode == 0, done.stderr
    assert list(read_json(folder / SETTINGS_FILE)) == ["baseline_T2", "checkpoint-9_T2"]
