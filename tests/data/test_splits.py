"""Splits by whole tasks or episodes, the blind sample, and the overlap they report."""

import json
import random
from collections import Counter
from itertools import chain

import pytest

from configs.errors import UserError
from leap.data.overlap import overlap_report
from leap.data.splits import blind_sample, split, task_labels
from leap.rows.chat import task_name_of
from leap.rows.records import row_from_record
from tests.data.split_rows import line, numbers, rows_of, write_lines


@pytest.mark.parametrize("by", ["task", "episode"])
def test_no_group_lies_on_two_sides_and_the_fractions_are_met(published, by):
    rows = rows_of(published)
    sides = split(rows, by, 0.1, 0.2, seed=1)
    assert list(sides) == ["train", "val", "test"]
    assert sorted(chain(*numbers(sides).values())) == [row.number for row in rows]
    assert all(found == sorted(found) for found in numbers(sides).values())
    shared = overlap_report(sides, [("train", "test"), ("train", "val"), ("val", "test")])["overlap"]
    assert all(found[f"{by}s"]["shared"] == 0 for found in shared.values())
    # 402 rows in pairs: whole groups come within one pair.
    assert abs(len(sides["test"]) - 0.1 * len(rows)) <= 2
    assert abs(len(sides["val"]) - 0.2 * len(rows)) <= 2


@pytest.mark.parametrize("by", ["task", "episode"])
def test_a_split_depends_on_the_seed_and_not_on_the_order_of_the_rows(published, by):
    def tested(path, seed):
        lines = path.read_text(encoding="utf-8").splitlines()
        return {lines[row.number - 1] for row in split(rows_of(path), by, 0.3, 0.0, seed)["test"]}

    first = tested(published, 1)
    other = write_lines(published.with_name("other.jsonl"), sorted(published.open(encoding="utf-8")))
    assert tested(other, 1) == first
    assert any(tested(published, seed) != first for seed in (2, 3, 4))


@pytest.mark.parametrize(
    ("sizes", "fraction", "tested"),
    [([7, 5, 4, 3, 1], 0.4, 8), ([90, 6, 4], 0.1, 10), ([50, 30, 20], 0.28, 30), ([60, 40], 0.1, 40), ([1, 1], 0.9, 1)],
)
def test_a_side_comes_as_near_to_its_fraction_as_whole_tasks_allow(tmp_path, sizes, fraction, tested):
    lines = [line(task_id=str(task)) for task, size in enumerate(sizes) for _ in range(size)]
    rows = rows_of(write_lines(tmp_path / "a.jsonl", lines))
    for seed in range(5):
        assert len(split(rows, "task", fraction, 0.0, seed)["test"]) == tested


def test_rows_are_of_one_task_by_id_or_by_name(tmp_path):
    lines = [
        line("images/1-1.png", "wipe"),
        line("images/2-1.png", "Wipe it"),
        line("images/2-2.png", "wipe"),  # joins the two above
        line(task_id=1),
        line(task_name="sweep"),
        line(name="sweep"),
        line(),
    ]
    labels = task_labels(rows_of(write_lines(tmp_path / "a.jsonl", lines)))
    assert len(set(labels[:4])) == 1
    assert labels[4] == labels[5] != labels[0]
    assert labels[6] is None


def test_an_episode_is_told_by_fields_or_picture_name_and_else_by_what_the_picture_shows(tmp_path):
    for name, content in {"a.png": b"same", "b.png": b"same", "c.png": b"other"}.items():
        (tmp_path / name).write_bytes(content)
    pairs = [
        [line("images/327-5.png"), line(task_id=327, episode_id=5)],
        [line("images/328-5.png"), line("demo-data/images/328-5.png")],
        [line("a.png"), line("b.png")],
        [line("c.png"), line("c.png", steps="1) x")],
        [line("gone.png"), line("gone.png", steps="1) x")],
        [line(), line(steps="1) x")],
    ]
    rows = rows_of(write_lines(tmp_path / "a.jsonl", [row for pair in pairs for row in pair]))
    sides = [{row.number: side for side, found in split(rows, "episode", 0.5, 0.0, seed).items() for row in found}
             for seed in range(30)]  # fmt: skip
    for first in range(1, 13, 2):
        assert all(side[first] == side[first + 1] for side in sides)
        for other in range(first + 2, 13, 2):
            assert any(side[first] != side[other] for side in sides)


def test_a_task_name_is_the_field_before_the_prompt(tmp_path):
    records = [json.loads(line(name="prompt", task_name="field")), json.loads(line(name="prompt")), json.loads(line())]
    assert [task_name_of(row_from_record(r, "f:1", tmp_path)) for r in records] == ["field", "prompt", None]


def test_the_blind_sample_draws_as_leap_did(published):
    rows = rows_of(published)
    count = Counter(row.task_name for row in rows)
    assert len(count) == 10
    for wanted in (10, 20):
        sample = blind_sample(rows, wanted, 42)
        assert [row.task_name for row in sample] == list(count)  # each name once, in order of first appearance
    few = blind_sample(rows, 4, 42)
    assert [row.task_name for row in few] == [name for name, _ in count.most_common(4)]
    # LEAP's generator had drawn for all ten names before it drew for the most frequent ones.
    rng = random.Random(42)
    groups = [[row for row in rows if row.task_name == name] for name in count]
    assert [rng.choice(group) for group in groups] == blind_sample(rows, 10, 42)
    assert [rng.choice(groups[list(count).index(row.task_name)]) for row in few] == few


def test_a_blind_sample_without_task_names_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no row of .*a.jsonl states a task name"):
        blind_sample(rows_of(write_lines(tmp_path / "a.jsonl", [line()])), 10, 42)
