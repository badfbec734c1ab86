from pathlib import Path

import pytest

from leap.data.description import describe
from leap.plots.data import MOST_FILES, MOST_NAMES, data_description
from tests.data.test_description import CHINESE_NAME, picture, row, write_rows
from tests.data.test_plan_words import CHINESE_PLAN


def described(rows: list[dict], folder: Path, files: int = 1) -> dict:
    paths = [write_rows(folder / f"{number}.jsonl", rows) for number in range(files)]
    return describe(paths, None, folder)


def panels(figure) -> dict[str, object]:
    return {axes.get_title().partition(" (")[0]: axes for part in figure.subfigs for axes in part.axes}


def labels_overlap(axes) -> bool:
    """Whether any two names beside a panel cover each other, or one reaches out of the figure."""
    boxes = [label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()]
    inside = all(box.x0 >= 0 for box in boxes)
    return not inside or any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_one_row_and_thousands_of_tasks_are_drawn_without_overlap(tmp_path):
    long = "Task of the household, with a name that goes on and on, number"
    many = [row(f"1) Pick up the {'x' * (i % 40)}cup.", name=f"{long} {i}", task_id=i) for i in range(1500)]
    for rows in ([row("1) Go.")], many):
        figure = data_description(described(rows, tmp_path))
        figure.canvas.draw()
        assert not any(map(labels_overlap, panels(figure).values()))
    shown = [label.get_text() for label in panels(figure)["Tasks"].get_yticklabels()]
    assert len(shown) == len(set(shown)) == MOST_NAMES
    assert panels(figure)["Tasks"].get_title() == f"Tasks ({MOST_NAMES} of 1,500)"


def test_bars_are_shares_and_the_last_one_holds_the_longest_plans(tmp_path):
    plans = [" ".join(f"{i}) Go." for i in range(1, length + 1)) for length in [1] * 500 + [2] * 498 + [60, 70]]
    axes = panels(data_description(described([row(plan) for plan in plans], tmp_path)))["Steps a plan"]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([50.0, 50.0])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2+"]


def test_a_panel_without_values_says_so(tmp_path):
    found = panels(data_description(described([row("apple 3")], tmp_path)))
    for title in ("Steps a plan", "Words a step", "Verbs", "Objects", "Picture sizes, pixels"):
        assert [text.get_text() for text in found[title].texts] == ["none counted"]


def test_files_are_compared_side_by_side_and_many_are_drawn_as_one(tmp_path):
    rows = [row("1) Pick up the cup."), row("1) Push it.")]
    few = panels(data_description(described(rows, tmp_path, MOST_FILES)))["Verbs"]
    assert [bar.get_width() for bar in few.patches] == [50.0] * 2 * MOST_FILES
    figure = data_description(described(rows, tmp_path, MOST_FILES + 1))
    assert [bar.get_width() for bar in panels(figure)["Verbs"].patches] == [50.0] * 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all 5 files: 10 rows"]


def test_names_that_no_font_draws_are_numbered_as_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr("leap.plots.data._WIDE_FONTS", ())
    rows = [row(CHINESE_PLAN, name=CHINESE_NAME, task_id=302), row("1) Go.", name="plain"), row("1) Go.", name="plain")]
    figure = data_description(described(rows, tmp_path))
    shown = [label.get_text() for label in panels(figure)["Tasks"].get_yticklabels()]
    assert shown == ["plain", "302 [no. 2]"]
    assert "[no. N] stands for characters" in figure.legends[0].get_title().get_text()


def test_one_picture_size_is_a_note_and_each_file_says_how_many_were_counted(tmp_path):
    for episode in range(2):
        picture(tmp_path / f"images/327-{episode}.png", episode)
    name = "Put the fruit from the shopping basket onto the shelf of the fridge"[:60]
    write_rows(tmp_path / "a.jsonl", [row("1) Pick up the cup. 2) Push it.", "images/327-0.png", name=name)])
    write_rows(tmp_path / "b.jsonl", [row("1) Go.", "images/327-1.png", name=name)])
    figure = data_description(describe([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], None, tmp_path))
    found = panels(figure)
    assert "Picture sizes, pixels" not in found
    assert "All pictures are 64 x 48 pixels." in figure.legends[0].get_title().get_text()
    assert found["Verbs"].get_xlabel() == "% of steps with one, n = 2, 1"
    assert found["Objects"].get_xlabel() == "% of steps with one, n = 1, 0"
    assert [label.get_text() for label in found["Tasks"].get_yticklabels()] == [f"327 {name}"]
