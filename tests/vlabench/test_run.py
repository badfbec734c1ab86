"""The evaluation run over a planner of the test's own (who answers is not what is tested here) and real files."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from threading import Barrier

import pytest

from configs.config import DIMENSIONS, WorkspaceConfig
from configs.errors import UserError
from leap.files import read_json, read_jsonl
from leap.models.answer import Answer
from leap.planners import MachineFailure
from leap.plans.reading import fenced
from leap.runs.ranks import ALONE, Ranks
from leap.vlabench.examples import find_examples
from leap.vlabench.folder import models_in
from leap.vlabench.prompts import PromptWriter
from leap.vlabench.run import evaluate_dimension
from leap.vlabench.tables import overall, results_table


class Script:
    """A planner that answers two prompts at once by a function of the query, and can give out."""

    notes = ()

    def __init__(self, answer, name="script"):
        self._answer, self.name, self.asked = answer, name, []

    def identity(self):
        return {"planner": self.name}

    def batches(self, queries):
        return [queries[i : i + 2] for i in range(0, len(queries), 2)]

    def answer(self, batches):
        for batch in batches:
            self.asked.append([place_of(query) for query in batch])
            yield [(query, self._result(query)) for query in batch]

    def _result(self, query):
        try:
            return Answer(self._answer(query), 5, "end")
        except MachineFailure as failure:
            return failure


def place_of(query):
    """(task, number) of the example that a query shows, by the folder of its last picture."""
    folder = query.picture_paths()[-1].parents[1]
    return folder.parent.name, int(folder.name.removeprefix("example"))


@pytest.fixture
def examples(demo, tmp_path):
    folder = tmp_path / "benchmark"
    shutil.copytree(demo / "dataset" / "vlm_evaluation_v1.0" / "Spatial", folder / "Spatial")
    return find_examples(folder, ["Spatial"])["Spatial"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "eva_results" / "Spatial" / "model"


def evaluate(planner, there, folder, chosen=None, overwrite=False, retry_failed=False, ranks=ALONE, **options):
    writer = PromptWriter(WorkspaceConfig(folder), "builtin", **options)
    how = {"overwrite": overwrite, "retry_failed": retry_failed, "ranks": ranks}
    summary = evaluate_dimension(planner, writer, chosen or there, there, folder, None, **how)
    return asdict(summary) if summary else None


def truth(examples):
    plans = {(e.task, e.number): fenced(e.ground_truth()) for e in examples if e.problem() is None}
    return lambda query: plans[place_of(query)]


COUNTS = {"in_benchmark": 4, "answered": 4, "machine_failure": 0, "bad_example": 0, "cut_by_length": 0}


def test_right_answers_score_full_marks_in_every_file(examples, folder):
    summary = evaluate(Script(truth(examples)), examples, folder)
    assert summary["examples"] == COUNTS
    assert summary["outcomes"] == {"official": {"ok": 4}, "grounded": {"ok": 4}}
    assert summary["scores"]["official"]["total_score"] == {"mean": 80, "low": 80, "high": 80}
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


def test_a_torn_journal_is_repaired_and_the_batch_keeps_its_members(examples, folder):
    evaluate(Script(truth(examples)), examples, folder)
    journal = folder / "generations.jsonl"
    scores = (folder / "final_score.json").read_bytes()
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:1]) + lines[1][: len(lines[1]) // 2])
    again = Script(truth(examples))
    evaluate(again, examples, folder)
    assert again.asked == [[(e.task, e.number) for e in examples[i : i + 2]] for i in (0, 2)]
    assert [(r["task"], r["example"]) for r in read_jsonl(journal)] == [(e.task, e.number) for e in examples]
    assert (folder / "final_score.json").read_bytes() == scores


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


def test_a_failure_is_on_disk_before_the_next_batch_is_asked(examples, folder):
    def answer(query):
        if place_of(query)[0] == "select_fruit_spatial":
            raise KeyboardInterrupt
        raise MachineFailure("refused")

    with pytest.raises(KeyboardInterrupt):
        evaluate(Script(answer), examples, folder)
    assert len(read_jsonl(folder / "failures.jsonl")) == 2
    again = Script(truth(examples))
    evaluate(again, examples, folder)
    assert again.asked == [[("select_fruit_spatial", 0), ("select_fruit_spatial", 1)]]


def test_runs_over_parts_add_up(examples, folder):
    evaluate(Script(truth(examples)), examples, folder, chosen=examples[:1])
    summary = evaluate(Script(truth(examples)), examples, folder, chosen=examples[2:3])
    assert summary["examples"]["answered"] == 2


def test_other_settings_never_mix_into_a_result(examples, folder):
    evaluate(Script(truth(examples)), examples, folder)
    with pytest.raises(UserError, match=r"other settings \(prompt.with_cot: False -> True\).*--overwrite"):
        evaluate(Script(truth(examples)), examples, folder, with_cot=True)
    with pytest.raises(UserError, match=r"planner.planner: script -> another"):
        evaluate(Script(truth(examples), "another"), examples, folder)


def test_overwrite_replaces_answers_under_other_settings_and_keeps_those_under_the_same(examples, folder):
    evaluate(Script(lambda q: "no idea"), examples, folder)
    first = Script(truth(examples), "another")
    summary = evaluate(first, examples, folder, overwrite=True)
    assert len(first.asked) == 2
    assert summary["outcomes"]["grounded"] == {"ok": 4}
    again = Script(truth(examples), "another")
    evaluate(again, examples, folder, overwrite=True)
    assert again.asked == []


def test_settings_without_answers_do_not_hold_the_folder(examples, folder):
    def broken(query):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(Script(broken), examples, folder)
    assert evaluate(Script(truth(examples), "another"), examples, folder)["examples"]["answered"] == 4


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


def test_dimensions_of_different_models_are_not_averaged(examples, folder):
    evaluate(Script(truth(examples)), examples, folder)
    evaluate(Script(truth(examples), "another"), examples, folder.parents[1] / "M&T" / "model")
    found = overall(folder.parents[1], "model", "official")
    assert found.mixed
    assert not found.complete
    assert "not one model" in results_table(folder.parents[1], ["model"])


def test_the_macro_interval_narrows_with_the_number_of_independent_dimensions(tmp_path):
    metrics = ("skill_match_score", "entity_match_score", "skill_with_entity_match_score", "exact_match_score")
    for dimension in DIMENSIONS:
        folder = tmp_path / dimension / "m"
        folder.mkdir(parents=True)
        scores = {str(i): dict.fromkeys((*metrics, "total_score"), 100.0 * (i % 2)) for i in range(20)}
        (folder / "final_score.json").write_text(json.dumps({"task": scores}))
    found = overall(tmp_path, "m", "official")
    one, macro = found.dimensions["Spatial"]["total_score"], found.macro["total_score"]
    assert (macro.high - macro.low) / (one.high - one.low) == pytest.approx(1 / 6**0.5, rel=0.15)


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


class ThreadRanks(Ranks):
    """One of two processes, as a thread."""

    barrier = Barrier(2, timeout=30)

    def wait(self):
        self.barrier.wait()


def test_two_processes_share_the_batches_and_leave_the_files_of_one(examples, folder):
    evaluate(Script(truth(examples)), examples, folder)
    shared = folder.with_name("shared")
    shared.mkdir()
    left = read_jsonl(folder / "generations.jsonl")[2:3]  # of a third process, which was killed
    (shared / "generations-rank2.jsonl").write_text("".join(json.dumps(record) + "\n" for record in left))
    shutil.copy(folder / "settings.json", shared)
    planners = [Script(truth(examples)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(evaluate, planner, examples, shared, ranks=ThreadRanks(rank, 2))
            for rank, planner in enumerate(planners)
        ]
        summary, nothing = [run.result() for run in runs]
    assert [len(planner.asked) for planner in planners] == [1, 1]
    assert nothing is None
    assert (summary["examples"], summary["provenance"]["processes"]) == (COUNTS, 2)
    assert {path.name for path in shared.iterdir()} == {path.name for path in folder.iterdir()}
    for name in ("generations.jsonl", "failures.jsonl", "settings.json", "final_score.json"):
        assert (shared / name).read_bytes() == (folder / name).read_bytes()


def test_the_table_shows_missing_dimensions_as_missing(examples, folder):
    evaluate(Script(truth(examples)), examples, folder)
    results = folder.parents[1]
    assert models_in(results) == ["model"]
    found = overall(results, "model", "official")
    assert set(found.dimensions) == {"Spatial"}
    assert found.macro["total_score"].mean == 80
    table = results_table(results, ["model"]).splitlines()
    row = next(line for line in table if line.startswith("| total score, official"))
    assert row.count("| -  ") == 5
    assert "80.0 (80.0 to 80.0) over 1 of 6" in row


def test_macro_weighs_dimensions_and_micro_weighs_examples(tmp_path):
    for dimension, count, value in (("M&T", 1, 100.0), ("Spatial", 3, 20.0)):
        folder = tmp_path / dimension / "m"
        folder.mkdir(parents=True)
        scores = {
            "task": {
                str(i): dict.fromkeys(
                    (
                        "skill_match_score",
                        "entity_match_score",
                        "skill_with_entity_match_score",
                        "exact_match_score",
                        "total_score",
                    ),
                    value,
                )
                for i in range(count)
            }
        }
        (folder / "final_score.json").write_text(json.dumps(scores))
    found = overall(tmp_path, "m", "official")
    assert found.macro["total_score"].mean == pytest.approx(60)
    assert found.micro["total_score"].mean == pytest.approx(40)
    assert found.examples == 4
