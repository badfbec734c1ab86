"""Which outputs of earlier runs count, and which are never lost by mistake."""

import shutil
from pathlib import Path

import pytest

from configs.errors import UserError
from leap.blind.outputs import OUTPUTS_FILE
from leap.files import read_json, read_jsonl
from leap.planners.asking import SETTINGS_FILE
from leap.planners.candidates import Candidate
from tests.blind.asking import MODELS, edit


def test_only_what_changed_is_asked_again_and_old_lines_go_with_a_word(asking, data, folder, capsys):
    asking()

    def change(records):
        records[3]["messages"][0]["content"][1]["text"] = "Task name: Dance.\n"
        records[4]["target"]["steps"] = "1) Another reference."

    edit(data, change)
    picture = data.parent / read_jsonl(data)[7]["messages"][0]["content"][0]["image"]
    shutil.copy(picture.with_name("blind-000000-plain.png"), picture)
    capsys.readouterr()
    outputs = asking()
    assert "baseline: what it wrote for row 3, 7 counts no more" in capsys.readouterr().out
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


def test_models_of_earlier_runs_stay_as_long_as_their_rows_do(asking, data, folder):
    asking(MODELS[:1])
    asking(MODELS[1:])
    assert asking.asked("base") == []
    names = [record["model"] for record in read_jsonl(folder / OUTPUTS_FILE)]
    assert names == ["baseline"] * 10 + ["checkpoint-20"] * 10
    edit(data, lambda records: records.pop(2))
    asking(MODELS[1:], overwrite=True)
    found = read_jsonl(folder / OUTPUTS_FILE)
    assert [(record["model"], record["sample"]) for record in found] == [(m.name, i) for m in MODELS for i in range(9)]
    assert list(read_json(folder / SETTINGS_FILE)) == ["baseline", "checkpoint-20"]


@pytest.mark.parametrize("without", [slice(2, 10), slice(2, 3)], ids=["only the first two", "all but one"])
def test_fewer_rows_do_not_drop_the_answers_to_the_others_by_mistake(asking, data, folder, without):
    asking()
    before = (folder / OUTPUTS_FILE).read_bytes()
    edit(data, lambda records: records.__delitem__(without))
    with pytest.raises(UserError, match=r"baseline, checkpoint-20 for \d rows? not asked now .*row 2, .*--overwrite"):
        asking(MODELS[:1])
    assert (folder / OUTPUTS_FILE).read_bytes() == before
    assert len(asking(MODELS[:1], overwrite=True)) == len(read_jsonl(data))


def test_other_rows_beside_one_that_stays_do_not_replace_the_rest_by_mistake(asking, data, folder):
    asking()
    before = (folder / OUTPUTS_FILE).read_bytes()

    def exchange(records):
        for record, other in zip(records[1:], records[:0:-1], strict=True):
            record["messages"][0]["content"][1]["text"] = "Task name: Another.\n"
            record["id"] = "another " + other["id"]
            record["messages"][0]["content"][0]["image"] = records[0]["messages"][0]["content"][0]["image"]

    edit(data, exchange)
    with pytest.raises(UserError, match="for 9 rows not asked now"):
        asking()
    assert (folder / OUTPUTS_FILE).read_bytes() == before


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


@pytest.mark.parametrize("lose", [lambda picture: picture.unlink(), lambda picture: picture.write_bytes(b"torn")])
def test_answers_to_a_picture_that_cannot_be_read_any_more_stand_and_the_run_says_so(asking, data, folder, lose):
    models = [*MODELS, Candidate(Path("c"), "checkpoint-30")]
    asking(models)
    before = (folder / OUTPUTS_FILE).read_bytes()
    picture = data.parent / read_jsonl(data)[3]["messages"][0]["content"][0]["image"]
    whole = picture.read_bytes()
    lose(picture)
    asking()
    assert (folder / OUTPUTS_FILE).read_bytes() == before
    [words] = asking.standing
    assert words.startswith("row 3 cannot be asked (")
    assert words.endswith("the earlier answers of baseline, checkpoint-20, checkpoint-30 stand")
    new = asking([Candidate(Path("d"), "checkpoint-40")])
    assert [output.sample for output in new if output.failure] == [3]  # who never saw it has no answer to it

    picture.write_bytes(whole)
    asking(models)
    assert (asking.said, asking.standing) == ([], [])
    lose(picture)
    moved = [MODELS[0], Candidate(Path("e"), "checkpoint-20")]
    outputs = asking(moved)
    assert [(output.model, output.sample) for output in outputs if output.failure] == [("checkpoint-20", 3)]


def test_answers_of_a_model_that_cannot_be_opened_any_more_stand_and_the_run_says_so(asking, folder):
    asking()
    before, settings = (folder / OUTPUTS_FILE).read_bytes(), (folder / SETTINGS_FILE).read_bytes()
    asking.unusable = {"b": "cannot use b: config.json is not valid JSON"}
    asking()
    assert ((folder / OUTPUTS_FILE).read_bytes(), (folder / SETTINGS_FILE).read_bytes()) == (before, settings)
    assert asking.standing == [
        "checkpoint-20 cannot be asked (cannot use b: config.json is not valid JSON); 10 answers of earlier runs stand"
    ]
    asking.unusable = {}
    asking()
    assert (asking.said, asking.standing) == ([], [])


def test_a_model_that_cannot_be_opened_keeps_only_what_it_was_asked_in_the_same_way(asking, folder):
    asking.settings = {"decoding": {"max_new_tokens": 9}}
    asking(MODELS[1:])
    asking.unusable, asking.settings = {"b": "torn"}, {"decoding": {"max_new_tokens": 99}}
    with pytest.raises(UserError, match="checkpoint-20 under other settings .*max_new_tokens: 9 -> 99"):
        asking()
    outputs = asking(overwrite=True)
    assert [output.failure for output in outputs[10:]] == [{"kind": "model", "reason": "torn"}] * 10
    assert asking.standing == []


def test_a_model_cut_off_before_it_became_unusable_keeps_its_answers_and_fails_the_other_rows(asking, folder):
    asking()
    lines = (folder / OUTPUTS_FILE).read_bytes().splitlines(keepends=True)
    (folder / OUTPUTS_FILE).write_bytes(b"".join(lines[:14]))
    asking.unusable = {"b": "torn"}
    outputs = asking()
    assert [output.sample for output in outputs if output.failure] == [4, 5, 6, 7, 8, 9]


def test_a_folder_that_holds_failures_alone_takes_any_rows(asking, data):
    asking.unusable = {"base": "torn", "b": "torn"}
    asking()
    asking.unusable = {}
    edit(data, lambda records: records.__delitem__(slice(2, 10)))
    assert all(output.text for output in asking())
