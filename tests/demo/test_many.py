"""The demo at any size: nothing is a copy of another, and few pictures serve all."""

import os

from configs.config import DIMENSIONS
from leap.blind.outputs import items_of, read_outputs
from leap.demo.many import write_many_answers, write_many_examples, write_many_outputs, write_many_rows
from leap.rows.records import read_rows
from leap.vlabench.examples import find_examples
from leap.vlabench.folder import ResultFolder
from leap.vlabench.rescore import rescore_journal
from leap.vlabench.sampling import origin_of


def test_rows_have_words_of_their_own_and_share_pictures(tmp_path):
    write_many_rows(tmp_path / "rows.jsonl", 60, scenes=4)
    rows = read_rows(tmp_path / "rows.jsonl")
    assert len({row.task_name for row in rows}) == len(rows) == 60
    assert len(list((tmp_path / "images").iterdir())) == 4


def test_examples_are_whole_and_take_the_disk_of_a_few(tmp_path):
    write_many_examples(tmp_path, 14 * 3 + 1, scenes=2)
    examples = [example for of_dimension in find_examples(tmp_path, DIMENSIONS).values() for example in of_dimension]
    assert len(examples) == 14 * 3 + 1
    assert all(example.problem() is None for example in examples)
    assert len({origin_of(example)["template"] for example in examples}) == len(examples)
    assert len({os.stat(example.plain_image).st_ino for example in examples}) == 14 * 2


def test_answers_score_the_better_the_later_the_model(tmp_path):
    write_many_examples(tmp_path / "benchmark", 14 * 30)
    write_many_answers(tmp_path / "results", 14 * 30, ["first", "last"])
    examples = find_examples(tmp_path / "benchmark", ["Spatial"])["Spatial"]
    first, last = (rescore_journal(tmp_path / "results" / "Spatial" / name, examples) for name in ("first", "last"))
    means = [rescored.summary.scores["grounded"]["plan_success"].mean for rescored in (first, last)]
    assert 0 < means[0] < means[1] < 100
    assert first.left_out == 0
    folder = ResultFolder(first.folder)
    assert len(folder.answers) + len(folder.failures) == len(examples)


def test_outputs_make_a_review_of_all_rows(tmp_path):
    write_many_rows(tmp_path / "rows.jsonl", 5)
    write_many_outputs(tmp_path / "outputs.jsonl", tmp_path / "rows.jsonl", ["a", "b"])
    items = items_of(read_outputs(tmp_path / "outputs.jsonl"), tmp_path / "outputs.jsonl")
    assert [set(item.outputs) for item in items] == [{"a", "b"}] * 5
