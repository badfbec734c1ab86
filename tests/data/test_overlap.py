"""What the sides of a split share."""

from leap.data.overlap import overlap_report
from tests.data.split_rows import line, rows_of, write_lines


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
