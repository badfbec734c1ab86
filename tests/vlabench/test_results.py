"""What write_results makes of answers: every file, every count, and texts that were never meant to be read."""

import json
from dataclasses import asdict

import pytest

from leap.files import read_json
from leap.plans.reading import MOST_NESTING, fenced
from leap.plans.scoring import OFFICIAL_METRICS, SCORER_VERSIONS
from leap.vlabench.folder import AnswerRecord, failure_record
from leap.vlabench.results import write_results
from tests.vlabench.benchmark_tree import make_benchmark, pick, place

SETTINGS = {"planner": {"planner": "test"}, "prompt": {"with_cot": False}}


@pytest.fixture
def benchmark(tmp_path):
    return make_benchmark(tmp_path / "benchmark")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "eva_results" / "Spatial" / "model"


def answer(text, stop="end"):
    return text, stop


def write(folder, answers, failures=(), total=20, settings=SETTINGS):
    """The summary as JSON."""
    answers = {e: AnswerRecord(e.task, e.number, *texts) for e, texts in answers.items()}
    failures = [failure_record(failure) for failure in failures]
    return asdict(write_results(folder, answers, failures, total, settings, {"time": "now"}))


def test_right_answers_score_full_marks_in_every_file(benchmark, folder):
    examples = benchmark["Spatial"]
    summary = write(folder, {e: answer(fenced(e.ground_truth())) for e in examples})
    assert summary == read_json(folder / "summary.json")
    assert (summary["model"], summary["dimension"]) == ("model", "Spatial")
    assert summary["outcomes"] == {"official": {"ok": 20}, "grounded": {"ok": 20}}
    assert summary["scores"]["official"]["total_score"] == {
        "mean": 80,
        "low": pytest.approx(80 * 0.025 ** (1 / 20)),  # 20 of 20 by Clopper and Pearson
        "high": 80,
    }
    assert summary["scores"]["grounded"]["plan_success"]["mean"] == 100
    assert summary["tasks"]["select_book_spatial"]["grounded"]["total_score"] == 100
    assert sum(summary["diagnosis"]["labels"].values()) == 0
    assert summary["diagnosis"]["confusion"] == {"pick": {"pick": 20}, "place": {"place": 20}}
    for name in ("final_score", "grounded_score", "diagnosis", "output"):
        content = read_json(folder / f"{name}.json")
        assert content.pop("benchmeatinfo", None) == (
            {"existing_num": 20, "already_running_time": 0} if name == "output" else None
        )
        assert list(content) == ["select_book_spatial", "select_fruit_spatial"]
        assert list(content["select_fruit_spatial"]) == [str(i) for i in range(10)]
    assert read_json(folder / "output.json")["select_book_spatial"]["3"]["skill_sequence"] == examples[3].ground_truth()


def test_answers_with_errors_are_diagnosed_and_counted(benchmark, folder):
    texts = (
        fenced([pick("0"), place("20")]),  # right but for ids as strings
        fenced([pick(7), place(20)]),
        fenced([place(20), pick(2)]),
        "no idea",
        fenced([pick(4), {"name": "lift", "params": {}}]),
    )
    answers = {e: answer(text) for e, text in zip(benchmark["Spatial"], texts, strict=False)}
    summary = write(folder, answers)
    found = read_json(folder / "diagnosis.json")["select_book_spatial"]
    assert [found[str(i)]["labels"] for i in range(5)] == [
        ["ids_as_strings"],
        ["wrong_entity"],
        ["wrong_order"],
        ["unparsable"],
        ["wrong_skill"],
    ]
    assert {label: n for label, n in summary["diagnosis"]["labels"].items() if n} == {
        "unparsable": 1,
        "ids_as_strings": 1,
        "wrong_skill": 1,
        "wrong_entity": 1,
        "wrong_order": 1,
    }
    assert summary["diagnosis"]["confusion"] == {"pick": {"pick": 4}, "place": {"place": 3, "lift": 1}}
    assert summary["scores"]["grounded"]["plan_success"]["mean"] == 20
    assert summary["outcomes"]["official"] == {"ok": 4, "format_error": 1}


def test_scores_are_given_by_the_length_of_the_ground_truth(benchmark, folder):
    answers = {e: answer(fenced(e.ground_truth())) for e in benchmark["Spatial"][:3]}
    answers |= {e: answer(fenced(e.ground_truth()[:2])) for e in benchmark["Complex"][:2]}
    assert write(folder, answers)["diagnosis"]["by_length"] == {
        "2": {"examples": 3, "total_score": 100, "plan_success": 100},
        "4": {"examples": 2, "total_score": pytest.approx(200 / 3), "plan_success": 0},  # 2 of 4 steps, all right
    }


def test_a_summary_says_which_scorers_made_it_and_has_the_official_means_flat(benchmark, folder):
    summary = write(folder, {e: answer(fenced([pick(3), place(20)])) for e in benchmark["Spatial"]})
    assert summary["scorers"] == SCORER_VERSIONS
    assert summary["average_scores"] == {n: e["mean"] for n, e in summary["scores"]["official"].items()}
    assert list(summary["average_scores"]) == list(OFFICIAL_METRICS)


def test_failures_are_counted_by_kind_and_are_no_answers(benchmark, folder):
    failures = [
        {"task": "select_book_spatial", "example": 1, "kind": "machine", "reason": "out of memory"},
        {"task": "select_book_spatial", "example": 2, "kind": "data", "reason": "no picture"},
        {"task": "select_book_spatial", "example": 3, "kind": "data", "reason": "no plan"},
        {"task": "select_book_spatial", "example": 4, "reason": "as written before there were kinds"},
    ]
    answers = {benchmark["Spatial"][0]: answer("x", "length")}
    assert write(folder, answers, failures)["examples"] == {
        "in_benchmark": 20,
        "answered": 1,
        "machine_failure": 2,
        "bad_example": 2,
        "cut_by_length": 1,
    }


def test_nothing_answered_has_no_scores(folder):
    summary = write(folder, {})
    assert (summary["scores"], summary["tasks"]) == ({}, {})
    assert read_json(folder / "final_score.json") == {}


def test_the_last_of_several_plans_is_scored_by_the_grounded_rules_alone(benchmark, folder):
    example = benchmark["Spatial"][5]
    text = f"Maybe {fenced([pick(1)])}. No: {fenced(example.ground_truth())}"
    scores = write(folder, {example: answer(text)})["scores"]
    assert (scores["grounded"]["plan_success"]["mean"], scores["official"]["skill_match_score"]["mean"]) == (100, 50)


def plan_with(id_text):
    return f'```json\n[{{"name": "pick", "params": {{"target_entity_name": {id_text}}}}}]\n```'


HOSTILE = {
    "nothing": "",
    "100,000 letters": "x" * 100_000,
    "50,000 brackets": "[" * 50_000,
    "fenced brackets": "```json" + "[" * 50_000 + "]" * 50_000 + "```",
    "nested lists": "```json" + "[" * 900 + "]" * 900 + "```",
    "nested id": plan_with("[" * 300 + "]" * 300),
    "nested where no one looks": '```json[{"name": "pick", "params": {}, "x": ' + "[" * 400 + "]" * 400 + "}]```",
    "nested broken lists": '[{"a":' * 20_000,
    "large nested list": '[{"a":' * 90 + "[" + "1," * 49_000 + "1]" + "}]" * 90,
    "huge integer": plan_with("9" * 4000),
    "integer too long to read": plan_with("9" * 100_000),
    "huge float": plan_with("1e308"),
    "infinite float": plan_with("1e999"),
    "NaN": plan_with("NaN"),
    "Infinity": plan_with("-Infinity"),
    "lone surrogates": "\ud800" + plan_with('"\\udfff"') + "\udc00",
    "surrogate as skill": '```json[{"name": "\\ud800"}, {"name": "pick"}]```',
    "control characters": "\x00\x1b[2J" + plan_with('"\\u0000"'),
    "list as id": plan_with("[1, {}]"),
    "long name": plan_with('"' + "x" * 90_000 + '"'),
    "6,000 steps": "```json[" + ",".join(['{"name":"lift"}'] * 6000) + "]```",
    "6,000 skills": "```json[" + ",".join(f'{{"name":"s{i}"}}' for i in range(5000)) + ',{"name":"pick"}]```',
    "steps of every type": '```json[1, null, "pick", [], {}, {"name": 3}, {"name": "pick", "params": 7}]```',
    "null": "```json null```",
}


@pytest.mark.parametrize("dimension", ["Spatial", "Complex"])
def test_whatever_a_model_writes_is_scored_or_a_format_error_and_can_be_read_back(benchmark, folder, dimension):
    texts = list(HOSTILE.values())
    for start in range(0, len(texts), 20):
        answers = dict(zip(benchmark[dimension], map(answer, texts[start : start + 20]), strict=False))
        summary = write(folder, answers)
        for scorer in ("official", "grounded"):
            assert sum(summary["outcomes"][scorer].values()) == len(answers)
        output = read_json(folder / "output.json")
        for example, (text, _) in answers.items():
            assert output[example.task][str(example.number)]["origin_output"] == text


def test_nesting_beyond_the_bound_is_a_format_error_for_both_scorers(benchmark, folder):
    def nested(depth):  # the list, the object and its params count too
        return plan_with("[" * (depth - 3) + "]" * (depth - 3))

    first, second = benchmark["Spatial"][:2]
    outcomes = write(folder, {first: answer(nested(MOST_NESTING + 1))})["outcomes"]
    assert outcomes == {"official": {"format_error": 1}, "grounded": {"format_error": 1}}
    outcomes = write(folder, {second: answer(nested(MOST_NESTING))})["outcomes"]
    assert outcomes == {"official": {"score_error": 1}, "grounded": {"ok": 1}}


def test_files_are_ascii_and_one_example_is_one_line(benchmark, folder):
    answers = {e: answer("\u00e9\ud800\n" + fenced(e.ground_truth())) for e in benchmark["Spatial"]}
    write(folder, answers)
    for name in ("final_score", "grounded_score", "diagnosis", "output"):
        lines = (folder / f"{name}.json").read_text(encoding="ascii").splitlines()
        assert sum(line.lstrip().startswith('"') and line.count("{") > 0 for line in lines) >= 20
        assert json.loads("\n".join(lines))
