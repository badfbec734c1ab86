"""Examples of the report: outcomes and errors of every answer, and none where there is no answer."""

from __future__ import annotations

import shutil

import pytest

from configs.errors import UserError
from leap.files import read_json, write_json
from leap.plans.reading import fenced
from leap.report.examples import collect_examples
from tests.report.conftest import HOSTILE_PLACE, MODELS, Evaluated, right, write_model
from tests.report.index import copied, details_of, flags_of, island, place_in, unpacked


def test_every_answer_has_its_outcome_and_errors(page):
    index = island(page, "index")
    first, second = (place_in(index, "M&T", "select_fruit", number) for number in (0, 1))
    assert flags_of(index, 0, first) == {"unparsable", "format_error", "official_format_error"}
    assert flags_of(index, 0, second) == {"machine_failure"}
    assert flags_of(index, 1, first) == {"right"}
    assert flags_of(index, 2, first) == {"not_right", "wrong_entity", "wrong_container"}
    assert flags_of(index, 1, place_in(index, "Complex", "book_rearrange", 0)) == {"not_right", "extra_step"}
    assert flags_of(index, 2, place_in(index, "Complex", "book_rearrange", 0)) == {"no_answer"}


def test_what_was_not_answered_has_no_score(page):
    index = island(page, "index")
    failed, not_asked = place_in(index, "M&T", "select_fruit", 1), place_in(index, "Complex", "cook_dishes", 0)
    assert index["answers"][0]["grounded"][failed] is None
    assert index["answers"][2]["official"][not_asked] is None
    assert index["answers"][0]["grounded"][place_in(index, "M&T", "select_fruit", 0)] == 0


def test_the_counts_of_errors_are_those_of_the_summaries(evaluated):
    found = collect_examples(evaluated.results, MODELS, evaluated.benchmark)
    for model in MODELS:
        for dimension, counts in found.diagnoses[model].items():
            summary = read_json(evaluated.results / dimension / model / "summary.json")
            assert {name: counts[name] for name in summary["diagnosis"]} == summary["diagnosis"]
            assert counts["answers"] == summary["examples"]["answered"]


def test_the_torn_last_line_of_a_running_evaluation_is_passed_over(evaluated, tmp_path):
    place = copied(evaluated, tmp_path)
    journal = place.results / "Spatial" / "baseline" / "generations.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    found = collect_examples(place.results, ["baseline"], place.benchmark)
    assert len(found.index["examples"]["task"]) == 14 * 3 - 1


def test_a_broken_line_inside_a_journal_is_named(evaluated, tmp_path):
    place = copied(evaluated, tmp_path)
    journal = place.results / "Spatial" / "baseline" / "generations.jsonl"
    journal.write_bytes(b'{"task": "x"}\n' + journal.read_bytes())
    with pytest.raises(UserError, match=r"generations.jsonl:1"):
        collect_examples(place.results, ["baseline"], place.benchmark)


def test_an_answer_that_is_not_scored_yet_has_no_score(evaluated, tmp_path):
    place = copied(evaluated, tmp_path)
    for name in ("final_score.json", "grounded_score.json"):
        (place.results / "Spatial" / "checkpoint-200" / name).unlink()
    found = collect_examples(place.results, ["checkpoint-200"], place.benchmark)
    at = place_in(found.index | {"tasks": [list(t) for t in found.index["tasks"]]}, *HOSTILE_PLACE)
    assert found.index["answers"][0]["grounded"][at] is None
    assert flags_of(found.index, 0, at) == set()


def test_a_text_that_never_ends_is_cut_and_says_so(evaluated, tmp_path):
    place = Evaluated(evaluated.benchmark, tmp_path)
    write_model(place, "endless", lambda example: right(example) + "x" * 30_000, ["Spatial"])
    found = collect_examples(place.results, ["endless"], place.benchmark)
    answer = unpacked(found.details[0])[0]["answers"][0]
    assert len(answer["text"]) == 20_000
    assert answer["cut"] > 10_000
    assert answer["rows"][0][2] == []


def test_thousands_of_steps_are_cut_and_counted(evaluated, tmp_path):
    place = Evaluated(evaluated.benchmark, tmp_path)
    write_model(place, "endless", lambda example: fenced(example.ground_truth() * 500), ["Spatial"])
    [details] = collect_examples(place.results, ["endless"], place.benchmark).details
    answer = unpacked(details)[0]["answers"][0]
    assert (len(answer["rows"]), answer["more"]) == (60, 940)
    assert len(answer["steps"]) <= 60


def test_without_the_benchmark_the_page_says_so_and_keeps_what_the_results_know(evaluated, tmp_path):
    notes = evaluated.report(tmp_path / "r.html", MODELS, benchmark=tmp_path / "none")
    assert len(notes) == 1
    assert "no pictures" in notes[0]
    assert str(tmp_path / "none") in notes[0]
    index = island(tmp_path / "r.html", "index")
    assert set(index["examples"]["instruction"]) == {None}
    assert {number for pair in index["examples"]["pictures"] for number in pair} == {-1}
    at = place_in(index, "M&T", "select_fruit", 0)
    assert flags_of(index, 2, at) == {"not_right", "wrong_entity", "wrong_container"}  # of diagnosis.json
    answer = details_of(tmp_path / "r.html", at)["answers"][2]
    assert answer["rows"] is None
    assert answer["steps"][0][1] == 99
    overview = island(tmp_path / "r.html", "overview")
    assert overview["models"][2]["diagnoses"]["M&T"]["labels"]["wrong_entity"] == 12  # of the summary
    assert overview["notes"] == notes


def test_examples_that_the_benchmark_lacks_are_counted(evaluated, tmp_path):
    place = copied(evaluated, tmp_path)
    shutil.rmtree(place.benchmark / "Spatial" / "select_fruit_spatial" / "example0")
    (place.benchmark / "Spatial" / "select_fruit_spatial" / "example2" / "input" / "instruction.txt").unlink()
    notes = place.report(tmp_path / "r.html", ["baseline"])
    assert [note.split()[0] for note in notes] == ["1"]
    index = island(tmp_path / "r.html", "index")
    absent, damaged = (
        details_of(tmp_path / "r.html", place_in(index, "Spatial", "select_fruit_spatial", number)) for number in (0, 2)
    )
    assert absent["problem"] == "the benchmark folder has no Spatial/select_fruit_spatial/example0"
    assert "instruction.txt is missing" in damaged["problem"]
    assert damaged["truth"]


def test_a_benchmark_that_changed_since_is_told(evaluated, tmp_path):
    place = copied(evaluated, tmp_path)
    plan = place.benchmark / "Spatial" / "select_fruit_spatial" / "example0" / "output" / "operation_sequence.json"
    write_json(plan, {"skill_sequence": [{"name": "press", "params": {"target_entity_name": 1}}]})
    notes = place.report(tmp_path / "r.html", ["checkpoint-200"])
    assert [note.split()[:4] for note in notes] == [["1", "answers", "score", "otherwise"]]
