"""Splits by whole tasks or episodes, the blind sample, and the overlap they report."""

import json
import random
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from configs.errors import UserError
from leap.data.overlap import overlap_report
from leap.data.splits import blind_sample, hash_images, read_split_rows, split, task_labels
from leap.files import numbered_jsonl, read_json, read_jsonl
from leap.rows.chat import task_name_of
from leap.rows.records import row_from_record
from tests.conftest import assert_one_line_error, run_script


def line(image=None, name=None, steps="1) Go. 2) Stop.", **more):
    """A row as the published files spell it, non-ASCII text unescaped."""
    content = [{"type": "image", "image": image}] if image else []
    text = f"Look. Task name: {name}. Based on the above description, plan." if name else "Plan."
    content.append({"type": "text", "text": text})
    row = {"messages": [{"role": "user", "content": content}], "target": {"steps": steps}} | more
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_lines(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(lines).encode())
    return path


@pytest.fixture
def published(tmp_path):
    """A file like the published one: 20 tasks of very uneven size, two tasks a name, two rows an episode."""
    rng = random.Random(0)
    lines = []
    for task in range(20):
        for episode in range(1 + 60 // (task + 1)):
            image = f"images/{300 + task}-{episode}.png"
            (tmp_path / "images").mkdir(exist_ok=True)
            (tmp_path / image).write_bytes(f"{task} {episode}".encode())
            steps = f"1) Fold {task} \u56fe. 2) Put {episode}."
            lines += [
                line(f"data/{image}", f"Task {task // 2}", steps),
                line(image, f"Task {task // 2}", "1) " + steps),
            ]
    rng.shuffle(lines)
    return write_lines(tmp_path / "all.jsonl", lines)


def rows_of(path: Path):
    rows = read_split_rows(path, None, path.parent)
    hash_images(rows, 2)
    return rows


def numbers(sides):
    return {side: [row.number for row in rows] for side, rows in sides.items()}


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


def test_the_overlap_counts_tasks_episodes_pictures_and_plans(tmp_path):
    images = {"1-1.png": b"a", "1-2.png": b"b", "2-1.png": b"a"}
    for name, content in images.items():
        (tmp_path / name).write_bytes(content)
    seen = write_lines(tmp_path / "seen.jsonl", [line("1-1.png", "wipe"), line("1-2.png", "wipe", "1) Stay")])
    tested = [
        line("1-2.png", "wipe", "1. go\n2. stop"),  # the words of a plan seen, in a seen episode of a seen task
        line("2-1.png", "sweep", "1) Sweep"),  # a seen picture under another name
        line("gone.png", steps="1) Wait"),
    ]
    tested = write_lines(tmp_path / "tested.jsonl", tested)
    report = overlap_report({"seen": rows_of(seen), "tested": rows_of(tested)}, [("seen", "tested")])
    assert report["sides"]["tested"] == {
        "rows": 3, "tasks": 2, "episodes": 2, "images": 2, "plans": 3, "missing_images": 1
    }  # fmt: skip
    assert report["overlap"]["seen / tested"] == {
        "tasks": {"shared": 1, "rows": 1, "unknown": 1, "share": 1 / 2},
        "episodes": {"shared": 1, "rows": 1, "unknown": 1, "share": 1 / 2},
        "images": {"shared": 2, "rows": 2, "unknown": 1, "share": 1.0},
        "plans": {"shared": 1, "rows": 1, "unknown": 0, "share": 1 / 3},
    }


def test_overlap_that_cannot_be_told_is_unknown_and_not_zero(tmp_path):
    rows = rows_of(write_lines(tmp_path / "a.jsonl", [line("gone.png")]))
    found = overlap_report({"a": rows, "b": rows}, [("a", "b")])["overlap"]["a / b"]
    assert {kind: found[kind]["share"] for kind in found} == {
        "tasks": None,
        "episodes": None,
        "images": None,
        "plans": 1,
    }


def test_the_script_writes_lines_as_they_were_and_a_second_run_changes_nothing(published):
    with published.open("ab") as file:  # odd bytes that must survive: CRLF, spaces, no last line break
        file.write(b"\n" + line("images/300-0.png", "Task 0").encode().replace(b"\n", b" \r\n"))
        file.write(line("images/301-0.png", "Task 0").encode().rstrip(b"\n"))
    arguments = ["utils/split_dataset.py", "--source", published, "--by", "task", "--val_fraction", 0.1, "--blind", 3]
    done = run_script(*arguments)
    assert done.returncode == 0, done.stderr
    written = {path.name: path.read_bytes() for path in published.parent.glob("*.json*") if path != published}
    assert set(written) == {"all_train.jsonl", "all_val.jsonl", "all_test.jsonl", "blind_3.jsonl", "split_report.json"}
    source = [found for found in (published.read_bytes() + b"\n").splitlines(keepends=True) if found.strip()]
    parts = [written[f"all_{side}.jsonl"].splitlines(keepends=True) for side in ("train", "val", "test")]
    assert sorted(chain(*parts)) == sorted(source)
    tested = set(parts[2])
    assert parts[2] == [found for found in source if found in tested]
    assert set(written["blind_3.jsonl"].splitlines(keepends=True)) <= tested
    report = read_json(published.parent / "split_report.json")
    assert report["overlap"]["train / test"]["tasks"] == {"shared": 0, "rows": 0, "unknown": 0, "share": 0.0}
    assert "train / test" in done.stdout
    assert run_script(*arguments).returncode == 0
    assert written == {name: (published.parent / name).read_bytes() for name in written}


def test_files_of_another_split_are_kept_unless_told_otherwise(published):
    arguments = ["utils/split_dataset.py", "--source", published]
    assert run_script(*arguments).returncode == 0
    before = (published.parent / "all_train.jsonl").read_bytes()
    assert_one_line_error(run_script(*arguments, "--seed", 7), "all_train.jsonl holds something else", "--overwrite")
    assert (published.parent / "all_train.jsonl").read_bytes() == before
    assert run_script(*arguments, "--seed", 7, "--overwrite").returncode == 0
    assert (published.parent / "all_train.jsonl").read_bytes() != before
    # Validation rows of an earlier split would be trained on.
    assert run_script(*arguments, "--seed", 7, "--overwrite", "--val_fraction", 0.1).returncode == 0
    assert_one_line_error(run_script(*arguments, "--overwrite"), "all_val.jsonl is of another split")


def test_a_folder_from_which_the_pictures_are_not_found_is_refused(published, tmp_path):
    arguments = ["utils/split_dataset.py", "--source", published]
    near, far = tmp_path / "splits", tmp_path / "far" / "away"
    assert run_script(*arguments, "--output_dir", near).returncode == 0
    assert_one_line_error(run_script(*arguments, "--output_dir", far), "would lead elsewhere", "--image_root")
    assert not far.exists()
    assert run_script(*arguments, "--output_dir", far, "--image_root", tmp_path).returncode == 0
    assert read_jsonl(far / "all_test.jsonl") == read_jsonl(near / "all_test.jsonl")


def test_several_sources_make_one_split_under_a_name_of_its_own(tmp_path):
    files = [write_lines(tmp_path / f"{n}.jsonl", [line(task_id=n, steps=f"1) {i}") for i in range(5)]) for n in "ab"]
    assert_one_line_error(run_script("utils/split_dataset.py", "--source", *files), "--name")
    arguments = ["--source", *files, "--name", "both", "--by", "task", "--test_fraction", 0.5]
    assert run_script("utils/split_dataset.py", *arguments).returncode == 0
    for side in ("train", "test"):
        assert len({record["task_id"] for record in read_jsonl(tmp_path / f"both_{side}.jsonl")}) == 1


def test_the_script_reports_on_files_and_draws_from_a_file_that_are_there_already(published, tmp_path):
    assert run_script("utils/split_dataset.py", "--source", published, "--blind", 5).returncode == 0
    train, test = (published.parent / f"all_{side}.jsonl" for side in ("train", "test"))
    before = sorted(path.name for path in tmp_path.iterdir())
    done = run_script("utils/split_dataset.py", "--report_only", train, test)
    assert done.returncode == 0, done.stderr
    assert "all_train.jsonl / all_test.jsonl" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    done = run_script("utils/split_dataset.py", "--blind_from", test, "--blind", 5, "--output_dir", tmp_path / "blind")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "blind/blind_5.jsonl").read_bytes() == (published.parent / "blind_5.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--source", "--report_only"]),
        (["--source", "gone.jsonl"], ["planning file not found", "gone.jsonl"]),
        (["--source", "bad.jsonl"], ["bad.jsonl:2: not valid JSON"]),
        (["--source", "empty.jsonl"], ["empty.jsonl holds no planning rows"]),
        (["--source", "one.jsonl", "--by", "task"], ["of 1 tasks cannot fill train and test", "--by episode"]),
        (["--source", "one.jsonl", "one.jsonl", "--name", "x"], ["named twice"]),
        (["--source", "one.jsonl", "--name", "a/b"], ["--name", "--output_dir"]),
        (["--source", "one.jsonl", "--test_fraction", 0.6, "--val_fraction", 0.4], ["leave nothing to train on"]),
        (["--source", "x_test.jsonl", "--name", "x", "--overwrite"], ["x_test.jsonl is a source"]),
        (["--source", "one.jsonl", "--output_dir", "bad.jsonl"], ["cannot write", "bad.jsonl is in the way"]),
        (["--report_only", "one.jsonl"], ["two files"]),
        (["--blind_from", "one.jsonl"], ["--blind 10"]),
    ],
)
def test_what_cannot_be_split_is_one_line(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    one = [line(task_id=1, episode_id=1), line(task_id=1, episode_id=2)]
    for name, lines in {"one": one, "bad": [line(), "{\n"], "empty": ["\n"], "x_test": one}.items():
        write_lines(tmp_path / f"{name}.jsonl", lines)
    assert_one_line_error(run_script("utils/split_dataset.py", *arguments), *words)
    assert len(list(tmp_path.iterdir())) == 4


def test_line_numbers_are_those_of_the_bytes(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a":\r1}\n{"a": 2}\r\n')
    assert list(numbered_jsonl(path)) == [(1, {"a": 1}), (2, {"a": 2})]
