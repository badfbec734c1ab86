"""A data folder with sound and with spoilt pictures, and a file like the published one."""

import random
from pathlib import Path

import pytest

from tests.data.picture_rows import DEFECTS, picture, png, row, write_rows
from tests.data.split_rows import line, write_lines


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A workspace's data folder: train.jsonl with 8 sound rows and one row a defect, and test.jsonl with 4 rows."""
    monkeypatch.setenv("LEAP_WORKSPACE", str(tmp_path))
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    rows = []
    for episode in range(12):
        (folder / f"images/327-{episode}.png").write_bytes(png(picture(episode)))
        rows.append(row(f"data/images/327-{episode}.png", id=str(episode)))
    for name, (_, spoil) in DEFECTS.items():
        (folder / f"images/{name}.png").write_bytes(spoil(png(picture(99))))
        rows.append(row(f"images/{name}.png", task_id="400", episode_id=name))
    rows.append(row("images/400-7.png", task_id="400"))
    write_rows(folder / "test.jsonl", rows[:4])
    write_rows(folder / "train.jsonl", rows[4:])
    return folder


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
