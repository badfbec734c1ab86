"""What planning files hold, counted and written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leap.data.description import BY_CONTENT, BY_FILE, describe, description_text, distribution
from leap.data.plan_words import NUMBERED, SKILLS
from leap.files import read_json
from tests.conftest import assert_one_line_error, run_script, unaligned
from tests.data.test_plan_words import SKILL_LIST

DESCRIBE = "utils/describe_data.py"
# The name of the task of CHINESE_PLAN.
CHINESE_NAME = "\u6253\u5f00\u51b0\u7bb1\u53d6\u51fa\u996e\u6599"


def row(steps: str, *images: str, name: str = "Tidy up", **more) -> dict:
    content: list[dict] = [{"type": "image", "image": image} for image in images]
    content.append({"type": "text", "text": f"Task name: {name}.\nPlan it."})
    return {"messages": [{"role": "user", "content": content}], "target": {"steps": steps}} | more


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def picture(path: Path, seed: int, size=(64, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(levels).save(path)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A workspace's data folder with three training rows, of them two alike, and two test rows."""
    monkeypatch.setenv("LEAP_WORKSPACE", str(tmp_path))
    folder = tmp_path / "data"
    for episode in range(3):
        picture(folder / f"images/327-{episode}.png", episode)
    picture(folder / "images/400-0.png", 0)  # the content of 327-0
    picture(folder / "images/500-1.png", 9, (80, 60))
    plan = "1) Pick up the red onion from the shelf. 2) Then placing it into the bag."
    rows = [row(plan, "images/327-0.png"), row(plan, "images/327-1.png"), row(SKILL_LIST, "images/327-2.png")]
    write_rows(folder / "train.jsonl", rows)
    tested = [row("1. pick up the red onion from the shelf\n2. then placing it into the bag", "images/400-0.png"),
              row("onion 3", "images/500-1.png", "images/gone.png", name="Look around")]  # fmt: skip
    write_rows(folder / "test.jsonl", tested)
    return folder


def test_a_distribution_has_the_marks_of_its_sorted_values():
    found = distribution({5: 1, 1: 90, 2: 9})
    assert found == {
        "count": 100, "mean": 1.13, "min": 1, "median": 1, "p95": 2, "max": 5, "values": {"1": 90, "2": 9, "5": 1}
    }  # fmt: skip


def test_the_median_of_an_even_number_of_values_is_the_mean_of_the_middle_two():
    assert [distribution(values)["median"] for values in ({1: 1, 4: 1}, {1: 1, 3: 1}, {2: 2, 9: 2}, {7: 1})] == [
        2.5,
        2,
        5.5,
        7,
    ]


def test_files_are_counted_row_by_row(data):
    files = describe([data / "train.jsonl", data / "test.jsonl"], None, data.parent)["files"]
    train, test = files.values()
    assert (train["rows"], train["tasks"], train["episodes"], train["pictures"]) == (3, 1, 3, 3)
    assert (test["rows"], test["tasks"], test["missing pictures"]) == (2, 2, 1)
    assert train["kinds"] == {NUMBERED: 2, SKILLS: 1}
    assert train["counts"]["verbs"] == {"pick": 3, "place": 3}
    assert train["counts"]["objects"] == {"onion": 2}
    assert train["counts"]["picture sizes"] == {"64 x 48": 3}
    assert test["counts"]["picture sizes"] == {"64 x 48": 1, "80 x 60": 1}
    assert train["distributions"]["steps a plan"]["values"] == {"2": 3}
    assert test["distributions"]["images a row"]["values"] == {"1": 1, "2": 1}
    assert train["duplicates"] == {"plan": 1, "prompt and plan": 1, "pictures": 0, "pictures and plan": 0}


def test_pictures_are_told_by_content_once_they_were_read(data):
    files = [data / "train.jsonl", data / "test.jsonl"]
    by_file = describe(files, None, data.parent)
    assert by_file["pictures_by"] == BY_FILE
    assert by_file["shared"]["overlap"]["train.jsonl / test.jsonl"]["images"]["shared"] == 0
    hashed = describe(files, None, data.parent, hash_pictures=2)
    assert hashed["pictures_by"] == BY_CONTENT
    shared = hashed["shared"]["overlap"]["train.jsonl / test.jsonl"]
    assert (shared["images"]["shared"], shared["plans"]["shared"], shared["tasks"]["shared"]) == (1, 1, 1)
    # The image check reads every picture, and what it found counts here.
    assert run_script("utils/check_and_clean_images.py").returncode == 1
    assert describe(files, None, data.parent) == hashed
    picture(data / "images/327-1.png", 77)
    assert describe(files, None, data.parent)["pictures_by"] == BY_FILE


def test_tasks_of_one_name_and_many_ids_stay_apart_or_together_as_in_splits(tmp_path):
    rows = [row("1) Go.", name="wipe", task_id=i) for i in (1, 2)] + [row("1) Go.", name="sweep", task_id=3)]
    (found,) = describe([write_rows(tmp_path / "a.jsonl", rows)], None, tmp_path)["files"].values()
    assert found["tasks"] == 2
    assert found["counts"]["task rows"] == {"1 wipe": 2, "3 sweep": 1}


def test_the_script_prints_tables_and_writes_figure_and_files(data):
    done = run_script(DESCRIBE)
    assert done.returncode == 0, done.stderr
    folder = data.parent / "logs/describe/train_test"
    figures = {f"data_description.{kind}" for kind in ("png", "svg", "pdf")}
    assert {path.name for path in folder.iterdir()} == {"description.json", "description.md", *figures}
    text = (folder / "description.md").read_text()
    assert text == description_text(read_json(folder / "description.json"))
    assert done.stdout == text + "\n"
    assert "written: " in done.stderr
    assert "| rows | 3 | 2 |" in unaligned(text)
    assert "| onion | 2 | 1 |" in unaligned(text)
    assert "| train.jsonl / test.jsonl | plans | 1 | 1 (50.0%) | 0 |" in unaligned(text)
    with Image.open(folder / "data_description.png") as figure:
        assert min(figure.size) > 800


def test_a_model_counts_tokens_as_training_does(demo, data):
    write_rows(data / "one.jsonl", [row("1) Go.", "images/327-0.png")])
    model = demo / "models/tiny-planner"
    done = run_script(DESCRIBE, "--files", data / "one.jsonl", "--model_path", model, "--workers", 1, "--no-figure")
    assert done.returncode == 0, done.stderr
    found = read_json(data.parent / "logs/describe/one/description.json")["files"]["one.jsonl"]["distributions"]
    parts = [found[f"{part} tokens a row"]["mean"] for part in ("visual", "prompt", "supervised", "total")]
    assert sum(parts[:3]) == parts[3]
    assert parts[0] >= 256


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--files", "gone.jsonl"], ["planning file not found", "gone.jsonl"]),
        (["--files", "empty.jsonl"], ["empty.jsonl holds no planning rows"]),
        (
            ["--files", "other.jsonl"],
            ["other.jsonl:2: 'messages'", "validate_data.py --rows ", "other.jsonl lists all defects"],
        ),
        (["--files", "train.jsonl", "train.jsonl"], ["named twice"]),
        (["--model_path", "gone"], ["model not found", "gone"]),
    ],
)
def test_what_a_user_can_mend_is_one_line(data, monkeypatch, arguments, words):
    monkeypatch.chdir(data)
    (data / "empty.jsonl").write_text("\n")
    write_rows(data / "other.jsonl", [row("1) Go."), {"a": 1}])
    assert_one_line_error(run_script(DESCRIBE, *arguments), *words)
