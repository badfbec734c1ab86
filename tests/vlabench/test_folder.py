"""The one reader of a results folder: of a running evaluation, of one written before, of one that is not there."""

import json
from dataclasses import asdict

import pytest

from configs.errors import UserError
from leap.files import read_json, write_json, write_text
from leap.statistics import Estimate
from leap.vlabench.folder import (
    ExampleCounts,
    ResultFolder,
    Summary,
    differing_settings,
    models_in,
    summaries_of,
    write_summary,
)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Spatial" / "model"
    path.mkdir(parents=True)
    return path


def lines_of(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def test_what_is_not_there_is_empty(folder):
    results = ResultFolder(folder / "none")
    assert (results.answers, results.failures, results.scores("official"), results.labels) == ({}, {}, {}, {})
    assert (results.settings, results.summary) == ({}, None)


def test_scores_of_the_first_version_of_the_scorer_are_read_and_said_to_be_its(folder):
    entry = {"skill_match_score": 1, "skill_with_entity_match_score": 50, "total_score": 2}
    (folder / "grounded_score.json").write_text(json.dumps({"t": {"3": entry}}))
    (folder / "summary.json").write_text(json.dumps({"model": "m"}))
    results = ResultFolder(folder)
    assert results.scores("grounded") == {("t", 3): entry | {"recall": 50}}
    assert results.scorers == {"official": 1, "grounded": 1}


def test_settings_differ_where_they_do_not_name_the_model():
    a = {"planner": {"weights_sha256": "1", "decoding": {"max_new_tokens": 64}}, "prompt": {"language": "en"}}
    b = {"planner": {"weights_sha256": "2", "decoding": {"max_new_tokens": 512}}, "prompt": {"language": "en"}}
    assert differing_settings(a, b) == {"planner.decoding.max_new_tokens": (64, 512)}
    assert differing_settings(a, a) == {}


def test_the_last_answer_counts_and_a_torn_last_line_does_not(folder):
    first, last = ({"task": "t", "example": 3, "text": text, "stop": "end", "new_tokens": 2} for text in ("a", "b"))
    (folder / "generations.jsonl").write_text(lines_of(first, last) + '{"task": "t", "example": 4, "te')
    (answer,) = ResultFolder(folder).answers.values()
    assert (answer.task, answer.example, answer.text, answer.new_tokens) == ("t", 3, "b", 2)


def test_answers_stay_those_of_the_journal_that_was_opened(folder):
    journal = folder / "generations.jsonl"
    lines = [{"task": "t", "example": number, "text": f"plan {number}"} for number in range(3)]
    drawn = {"task": "t", "example": 1, "text": "another", "sample": 1}
    journal.write_text(lines_of(*lines, drawn, {"task": "t", "example": 0, "text": "last"}))
    answers = ResultFolder(folder).answers
    assert list(answers) == [("t", 0), ("t", 1), ("t", 2)]
    write_text(journal, lines_of(*reversed(lines)))
    assert [answers["t", number].text for number in range(3)] == ["last", "plan 1", "plan 2"]
    assert ("t", 3) not in answers


@pytest.mark.parametrize("line", ["{", "3", '{"task": "t"}', '{"task": "t", "example": "x", "text": ""}'])
def test_a_line_that_is_no_answer_is_named(folder, line):
    (folder / "generations.jsonl").write_text("\n" + line + "\n")
    with pytest.raises(UserError, match=r"generations.jsonl:2: .*"):
        _ = ResultFolder(folder).answers


def test_failures_written_before_there_were_kinds_are_the_machines(folder):
    (folder / "failures.jsonl").write_text(lines_of({"task": "t", "example": 1, "reason": "out of memory"}))
    (failure,) = ResultFolder(folder).failures.values()
    assert (failure.kind, failure.reason, failure.key) == ("machine", "out of memory", None)


def test_files_of_vlabench_are_read_without_what_is_no_task(folder):
    write_json(folder / "final_score.json", {"benchmeatinfo": {"existing_num": 1}, "t": {"2": {"total_score": 8}}})
    assert ResultFolder(folder).scores("official") == {("t", 2): {"total_score": 8}}


def test_a_summary_is_read_as_it_was_written(folder):
    scores = {"official": {"total_score": Estimate(40.0, 30.0, 50.0)}}
    summary = Summary("model", "Spatial", ExampleCounts(20, 19, 1), {"official": {"ok": 19}}, scores, settings={"a": 1})
    write_summary(folder, summary)
    assert ResultFolder(folder).summary == summary
    assert list(read_json(folder / "summary.json")) == list(asdict(summary))
    assert summaries_of(folder.parents[1], "model") == {"Spatial": summary}
    assert models_in(folder.parents[1]) == ["model"]


def test_a_summary_of_an_earlier_version_is_read(folder):
    counts = {"in_benchmark": 20, "answered": 19, "machine_failure": 1}
    write_json(folder / "summary.json", {"model": "model", "dimension": "Spatial", "examples": counts, "new": 1})
    summary = ResultFolder(folder).summary
    assert (summary.examples.answered, summary.examples.bad_example, summary.diagnosis) == (19, 0, {})
