"""The evaluation run over a planner of the test's own (who answers is not what is tested here) and real files."""

import json
from hashlib import sha256

import pytest

from configs.errors import UserError
from leap.files import read_json, read_jsonl
from leap.planners import MachineFailure
from leap.vlabench.tables import overall, results_table
from tests.vlabench.scripted import COUNTS, Script, evaluate, place_of, truth


def test_right_answers_score_full_marks_in_every_file(examples, folder):
    summary = evaluate(Script(truth(examples)), examples, folder)
    assert summary["examples"] == COUNTS
    assert summary["outcomes"] == {"official": {"ok": 4}, "grounded": {"ok": 4}}
    assert summary["scores"]["official"]["total_score"] == {
        "mean": 80,
        "low": pytest.approx(80 * 0.025 ** (1 / 4)),  # 4 of 4 by Clopper and Pearson
        "high": 80,
    }
    assert summary["scores"]["grounded"]["plan_success"]["mean"] == 100
    final = read_json(folder / "final_score.json")
    assert set(final) == {"select_book_spatial", "select_fruit_spatial"}
    assert final["select_book_spatial"]["0"] == {
        "skill_match_score": 100,
        "entity_match_score": 100,
        "skill_with_entity_match_score": 100,
        "exact_match_score": 100,
        "total_score": 80,
    }
    output = read_json(folder / "output.json")
    assert output["select_book_spatial"]["1"]["skill_sequence"] == examples[1].ground_truth()
    for key in ("code_revision", "library_versions", "hardware", "time", "data_sha256", "checkpoint"):
        assert key in summary["provenance"]
    assert summary["settings"]["prompt"]["style"] == "builtin"


def test_what_has_no_plan_is_a_format_error_and_counts_as_zero(examples, folder):
    summary = evaluate(Script(lambda q: "no idea"), examples, folder)
    assert summary["outcomes"] == {"official": {"format_error": 4}, "grounded": {"format_error": 4}}
    assert summary["scores"]["grounded"]["total_score"]["mean"] == 0
    assert read_json(folder / "output.json")["select_book_spatial"]["0"] == {
        "origin_output": "no idea",
        "format_error": "format_error",
    }


def test_a_second_run_asks_nothing_and_changes_nothing(examples, folder):
    evaluate(Script(truth(examples)), examples, folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "summary.json"}
    again = Script(truth(examples))
    evaluate(again, examples, folder)
    assert again.asked == []
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "summary.json"} == before


def test_a_machine_failure_is_no_answer_and_is_tried_again_when_asked_to(examples, folder):
    def answer(query):
        if place_of(query)[1] == 1:
            raise MachineFailure("out of memory")
        return truth(examples)(query)

    summary = evaluate(Script(answer), examples, folder)
    assert summary["examples"] == COUNTS | {"answered": 2, "machine_failure": 2}
    assert summary["scores"]["grounded"]["total_score"]["mean"] == 100
    assert [f["reason"] for f in read_jsonl(folder / "failures.jsonl")] == ["out of memory"] * 2
    assert "1" not in read_json(folder / "final_score.json")["select_book_spatial"]

    again = Script(truth(examples))
    assert evaluate(again, examples, folder)["examples"]["machine_failure"] == 2
    assert again.asked == []
    summary = evaluate(again, examples, folder, retry_failed=True)
    assert summary["examples"]["answered"] == 4
    assert read_jsonl(folder / "failures.jsonl") == []


def test_runs_over_parts_add_up(examples, folder):
    evaluate(Script(truth(examples)), examples, folder, chosen=examples[:1])
    summary = evaluate(Script(truth(examples)), examples, folder, chosen=examples[2:3])
    assert summary["examples"]["answered"] == 2


def test_a_run_over_a_part_keeps_the_failures_of_the_rest(examples, folder):
    def answer(query):
        if place_of(query)[1] == 1:
            raise MachineFailure("out of memory")
        return truth(examples)(query)

    evaluate(Script(answer), examples, folder)
    summary = evaluate(Script(truth(examples)), examples, folder, chosen=examples[:2], retry_failed=True)
    assert summary["examples"] == COUNTS | {"answered": 3, "machine_failure": 1}
    assert [(f["task"], f["example"]) for f in read_jsonl(folder / "failures.jsonl")] == [("select_fruit_spatial", 1)]


def test_nothing_answered_is_shown_as_nothing(examples, folder):
    def broken(query):
        raise MachineFailure("refused")

    summary = evaluate(Script(broken), examples, folder)
    assert summary["scores"] == {}
    assert overall(folder.parents[1], "model", "official") is None
    row = results_table(folder.parents[1], ["model"]).splitlines()[2]
    assert row.count("| - ") == 8


def test_the_data_hash_is_that_of_the_data_alone_and_sees_the_ground_truth(examples, folder, tmp_path):
    hashes = []
    for name in ("a", "b", "c"):
        if name == "c":
            plan = json.loads(examples[0].plan_file.read_text())
            plan["skill_sequence"][0]["params"]["target_entity_name"] += 1
            examples[0].plan_file.write_text(json.dumps(plan))
        summary = evaluate(Script(truth(examples), name), examples, folder.with_name(name))
        hashes.append(summary["provenance"]["data_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_example_that_changed_is_asked_again(examples, folder):
    evaluate(Script(lambda q: "no idea"), examples, folder)
    examples[0].instruction_file.write_text("Take the other one")
    planner = Script(truth(examples))
    summary = evaluate(planner, examples, folder)
    assert planner.asked == [[(e.task, e.number) for e in examples[:2]]]
    assert summary["outcomes"]["grounded"] == {"ok": 1, "format_error": 3}


def spoil_picture(example):
    example.tagged_image.write_bytes(example.tagged_image.read_bytes()[:-30])


def spoil_instruction(example):
    example.instruction_file.unlink()


def spoil_plan(example):
    example.plan_file.write_text('{"skill_sequence": [{"name": "lift", "params": {}}]}')


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_picture, "input_mask.png is no intact picture"),
        (spoil_instruction, "instruction.txt is missing"),
        (spoil_plan, "no official sub-task pattern matches"),
    ],
)
def test_a_broken_example_is_left_out_by_name_and_never_scored(examples, folder, spoil, reason):
    spoil(examples[3])
    planner = Script(truth(examples))
    summary = evaluate(planner, examples, folder)
    assert sum(map(len, planner.asked)) == 3
    assert summary["examples"] == COUNTS | {"answered": 3, "bad_example": 1}
    assert summary["scores"]["grounded"]["total_score"]["mean"] == 100
    [failure] = read_jsonl(folder / "failures.jsonl")
    assert (failure["task"], failure["example"], failure["kind"]) == ("select_fruit_spatial", 1, "data")
    assert reason in failure["reason"]


def test_an_answered_example_that_breaks_is_no_longer_scored(examples, folder):
    evaluate(Script(truth(examples)), examples, folder)
    spoil_picture(examples[0])
    assert evaluate(Script(truth(examples)), examples, folder)["examples"] == COUNTS | {
        "answered": 3,
        "bad_example": 1,
    }


def test_the_journal_says_what_was_asked_and_shown(examples, folder):
    evaluate(Script(truth(examples)), examples, folder, few_shot_num=1, pool=examples)
    for record in read_jsonl(folder / "generations.jsonl"):
        assert record["prompt"].count("<image>") == 4
        assert sha256(record["prompt"].encode()).hexdigest() == record["prompt_sha256"]
        [shot] = record["shots"]
        assert shot != f"{record['task']}/example{record['example']}"


def test_shuffled_pictures_are_those_of_another_example_and_another_result(examples, folder):
    asked = Script(lambda q: "no idea")
    evaluate(asked, examples, folder, pictures="shuffled", examples=examples)
    records = read_jsonl(folder / "generations.jsonl")
    shown = [record["pictures_from"] for record in records]
    own = [f"{record['task']}/example{record['example']}" for record in records]
    assert sorted(shown) == sorted(own)
    assert all(a != b for a, b in zip(shown, own, strict=True))
    with pytest.raises(UserError, match="other settings"):
        evaluate(asked, examples, folder)


def test_the_files_do_not_depend_on_the_order_of_answering(examples, folder):
    class Backwards(Script):
        def batches(self, queries):
            return super().batches(queries[::-1])

    evaluate(Script(truth(examples)), examples, folder)
    evaluate(Backwards(truth(examples)), examples, folder.with_name("backwards"))
    for name in ("generations.jsonl", "output.json", "final_score.json", "grounded_score.json"):
        assert (folder / name).read_bytes() == (folder.with_name("backwards") / name).read_bytes()
