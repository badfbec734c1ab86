"""Pictures checked, rows cleaned, broken pictures moved to a trash and put back, whatever is killed in between."""

import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from leap.files import read_json, read_jsonl
from leap.models.loading import load_processor
from leap.rows.records import read_rows
from leap.training.preflight import check_file
from leap.training.supervision import PlanningCollator
from tests.conftest import assert_one_line_error, run_script
from tests.data.picture_rows import CLEAN, DEFECTS, everything, picture, png, row, write_rows


@pytest.fixture(autouse=True)
def _one_core(monkeypatch):
    """A process of its own costs more than a dozen pictures; the first test names two."""
    monkeypatch.setattr("leap.data.cleaning.os.cpu_count", lambda: 1)


def reasons_of(path: Path) -> dict[int, str]:
    return {entry["line"]: entry["reason"] for entry in read_jsonl(path)}


def test_rows_are_sorted_into_cleaned_and_dropped_and_no_file_is_changed_in_place(data):
    originals = {path: path.read_bytes() for path in data.glob("*.jsonl")}
    with open(data / "train.jsonl", "ab") as file:  # odd bytes that must survive, and lines that are no rows
        file.write(b'{"not": "a row"}\n\nnot JSON\n\xff\xfe\n')
        file.write(json.dumps(row("images/327-5.png")).encode().replace(b", ", b" ,  ") + b" \r\n")
        file.write(json.dumps(row("images/327-6.png", "images/gone.png", task_id="327")).encode())
    originals[data / "train.jsonl"] = (data / "train.jsonl").read_bytes()
    done = run_script(CLEAN, "--report", data / "report.json", "--workers", 2)
    assert done.returncode == 1, done.stderr
    assert originals == {path: path.read_bytes() for path in originals}
    lines = originals[data / "train.jsonl"].splitlines(keepends=True)
    assert (data / "train.cleaned.jsonl").read_bytes() == b"".join([*lines[:8], lines[24]])
    assert (data / "test.cleaned.jsonl").read_bytes() == originals[data / "test.jsonl"]
    reasons = reasons_of(data / "train.dropped.jsonl")
    assert list(reasons) == [*range(9, 22), 23, 24, 26]
    expected = [kind for kind, _ in DEFECTS.values()]
    assert [reasons[9 + i].split(":")[0] for i in range(len(DEFECTS))] == expected
    assert "missing: images/400-7.png: not found" in reasons.values()
    assert sum(reason.startswith("malformed row") for reason in reasons.values()) == 3
    found = read_json(data / "report.json")
    counts = found["files"][str(data / "train.jsonl")]
    assert (counts["rows"], counts["kept"], counts["dropped"]) == (25, 9, 16)
    assert found["pictures"] == {
        "named": 25, "sound": 12, "missing": 2, "broken": 5, "blank": 3, "odd size": 3, "unreadable": 0, "orphans": 0
    }  # fmt: skip
    tasks = {task["task"]: task for task in found["incomplete_tasks"]}
    lost = ["images/400-7.png", *(f"{data}/images/{name}.png" for name in DEFECTS)]
    assert tasks["400"]["lost"] == sorted(lost)
    assert (tasks["400"]["sound"], tasks["400"]["episodes"]) == (0, len(DEFECTS) + 1)
    assert (tasks["327"]["lost"], tasks["327"]["pictures"]) == (["images/gone.png"], 13)
    assert "2 tasks lost pictures" in done.stdout


def test_training_accepts_a_cleaned_file_whole(data, demo):
    assert run_script(CLEAN).returncode == 1
    collator = PlanningCollator(load_processor(demo / "models/tiny-planner"), None, data.parent)
    checked = check_file(data / "train.cleaned.jsonl", collator, 4096, workers=1)
    assert len(checked.rows) == 8
    assert not checked.rejected
    assert run_script(CLEAN, "--files", data / "train.cleaned.jsonl").returncode == 0


def test_a_dry_run_moves_nothing_and_says_what_would_move(data):
    before = everything(data)
    done = run_script(CLEAN)
    assert "--delete would move 8 pictures" in done.stdout
    assert everything(data) == before
    assert not (data / ".trash").exists()


def test_delete_moves_broken_and_blank_pictures_and_undo_puts_them_back(data):
    before = everything(data)
    bad = {f"{name}.png" for name, (kind, _) in DEFECTS.items() if kind in ("broken", "blank")}
    done = run_script(CLEAN, "--delete")
    assert done.returncode == 0, done.stderr
    assert set(before) - set(everything(data)) == bad
    (trash,) = (data / ".trash").glob("2*")
    moves = [entry for entry in read_jsonl(trash / "manifest.jsonl") if "from" in entry]
    assert {Path(entry["from"]).name for entry in moves} == bad
    # What lies in the trash is missing now, for the reason for which it was moved.
    assert run_script(CLEAN).returncode == 1
    assert f"not found, moved to {trash} (blank:" in (data / "train.dropped.jsonl").read_text()
    done = run_script(CLEAN, "--undo")
    assert done.returncode == 0, done.stderr
    assert everything(data) == before
    assert_one_line_error(run_script(CLEAN, "--undo"), "nothing to undo")


def test_orphans_are_listed_and_moved_only_when_asked_for(data):
    lone = data / "images/900-1.png"
    lone.write_bytes(png(picture(70)))
    (data / "images/notes.txt").write_text("kept")
    kept = data / "images/900-2.png"
    kept.write_bytes(png(picture(71)))
    write_rows(data / "more.jsonl", [row("images/900-2.png")])  # another file's picture is none
    files = ["--files", data / "train.jsonl"]
    assert "1 orphans" in run_script(CLEAN, *files).stdout
    assert run_script(CLEAN, *files, "--delete").returncode == 0
    assert lone.exists()
    assert "900-1.png (orphan" in run_script(CLEAN, *files, "--orphans").stdout
    assert run_script(CLEAN, *files, "--delete", "--orphans").returncode == 0
    assert not lone.exists()
    assert kept.exists()
    assert (data / "images/notes.txt").exists()
    assert len(list((data / "images").glob("327-*.png"))) == 12


def test_a_picture_that_rows_in_a_subfolder_name_is_no_orphan(data, tmp_path):
    for number in (1, 2, 3):
        (data / f"images/900-{number}.png").write_bytes(png(picture(70 + number)))
    for folder in (data / "rows" / "old", data / ".hidden", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(data)
    write_rows(data / "rows" / "old" / "mine.jsonl", [row("images/900-1.png")])
    write_rows(tmp_path / "elsewhere" / "more.jsonl", [row("images/900-2.png")])
    write_rows(data / ".hidden" / "left.jsonl", [row("images/900-3.png")])
    done = run_script(CLEAN, "--delete", "--orphans")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (data / "images").glob("900-*.png")} == {"900-1.png", "900-2.png"}


@pytest.mark.parametrize(
    ("prefix", "suffix", "kept"),
    [
        (b"\xef\xbb\xbf", b"", 2),  # a byte order mark
        (b"", b"\xff\n", 2),
        (b"", json.dumps(row("images/327-1.png")).encode().replace(b"wipe", b"\xed\xa0\x80") + b"\n", 2),
        (b"", json.dumps(row("images/327-1.png")).encode("utf-16-be") + b"\n", 2),
    ],
    ids=["mark", "no text", "surrogate", "UTF-16"],
)
def test_every_reader_takes_what_a_cleaned_file_holds(data, demo, prefix, suffix, kept):
    original = write_rows(data / "train.jsonl", [prefix, row("images/327-1.png"), row("images/327-2.png"), suffix])
    run_script(CLEAN, "--files", original)
    cleaned = data / "train.cleaned.jsonl"
    collator = PlanningCollator(load_processor(demo / "models/tiny-planner"), None, data.parent)
    assert len(read_rows(cleaned)) == kept
    assert len(check_file(cleaned, collator, 4096, workers=1).rows) == kept
    assert len(check_file(original, collator, 4096, workers=1).rows) == kept
    assert run_script("utils/describe_data.py", "--files", cleaned, "--no-figure").returncode == 0


def test_what_lies_outside_or_is_no_picture_file_is_never_moved(data, tmp_path):
    outside = tmp_path / "private"
    outside.mkdir()
    (outside / "blank.png").write_bytes(png(Image.new("RGB", (64, 64))))
    (outside / "lone.png").write_bytes(png(picture(3)))
    (data / "notes.md").write_text("no picture")
    named = ["../private/blank.png", str(outside / "blank.png"), "train.jsonl", "notes.md"]
    write_rows(data / "train.jsonl", [row("images/327-5.png"), *map(row, named)])
    done = run_script(CLEAN, "--delete", "--orphans")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("left where it is") == 4
    assert {path.name for path in outside.iterdir()} == {"blank.png", "lone.png"}
    assert (data / "notes.md").exists()
    assert (data / "train.jsonl").exists()
    assert len(reasons_of(data / "train.dropped.jsonl")) == 4


def test_a_link_is_checked_through_and_moved_alone(data, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "good.png").write_bytes(png(picture(30)))
    (elsewhere / "bad.png").write_bytes(b"")
    (data / "images/327-30.png").symlink_to(elsewhere / "good.png")
    (data / "images/327-31.png").symlink_to("../../elsewhere/bad.png")
    (data / "images/327-32.png").symlink_to(elsewhere / "gone.png")
    write_rows(data / "train.jsonl", [row(f"images/327-{episode}.png") for episode in (30, 31, 32)])
    assert run_script(CLEAN, "--delete").returncode == 0
    assert len((data / "train.cleaned.jsonl").read_bytes().splitlines()) == 1
    assert (elsewhere / "bad.png").exists()
    assert not os.path.lexists(data / "images/327-31.png")
    assert run_script(CLEAN, "--undo").returncode == 0
    assert os.readlink(data / "images/327-31.png") == "../../elsewhere/bad.png"


def test_pictures_behind_a_linked_folder_move_across_disks_if_need_be(data, tmp_path):
    other = Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path
    store = other / f"leap-clean-{os.getpid()}"
    store.mkdir()
    try:
        (store / "blank.png").write_bytes(png(Image.new("RGB", (64, 64))))
        (data / "more").symlink_to(store)
        write_rows(data / "train.jsonl", [row("images/327-5.png"), row("more/blank.png")])
        assert run_script(CLEAN, "--delete").returncode == 0
        assert not list(store.iterdir())
        assert run_script(CLEAN, "--undo").returncode == 0
        assert [path.name for path in store.iterdir()] == ["blank.png"]
    finally:
        for path in store.iterdir():
            path.unlink()
        store.rmdir()


def test_near_duplicates_are_dropped_from_the_training_side_only_and_only_when_asked(data):
    again = io.BytesIO()
    picture(0).resize((120, 80)).save(again, format="JPEG", quality=80)
    (data / "images/again.jpg").write_bytes(again.getvalue())
    rows = [row("images/327-8.png"), row("images/again.jpg"), row("images/327-1.png"), row("images/327-9.png")]
    write_rows(data / "train.jsonl", rows)
    done = run_script(CLEAN, "--report", data / "report.json", "--files", data / "train.jsonl", data / "test.jsonl")
    assert done.returncode == 0
    assert "1 equal, 1 near-duplicates" in done.stdout
    near = {Path(found["picture"]).name: found for found in read_json(data / "report.json")["near_duplicates"]}
    assert set(near) == {"again.jpg", "327-1.png"}
    assert Path(near["again.jpg"]["near"]).name == "327-0.png"
    assert near["327-1.png"]["equal"]
    assert run_script(CLEAN, "--drop_near_duplicates").returncode == 1
    lines = (data / "train.jsonl").read_bytes().splitlines(keepends=True)
    assert (data / "train.cleaned.jsonl").read_bytes() == lines[0] + lines[3]
    assert (data / "test.cleaned.jsonl").read_bytes() == (data / "test.jsonl").read_bytes()
    assert list(reasons_of(data / "train.dropped.jsonl")) == [2, 3]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--files", "gone.jsonl"], ["planning file not found", "gone.jsonl"]),
        (["--files", "empty.jsonl"], ["empty.jsonl holds no planning rows"]),
        (["--files", "other.jsonl"], ["other.jsonl:1: 'messages'"]),
        (["--files", "train.jsonl", "train.jsonl"], ["named twice"]),
        (["--files", "train.jsonl", "--test_files", "test.jsonl"], ["--test_files", "test.jsonl"]),
        (["--data_dir", "images"], ["holds no planning file"]),
        (["--data_dir", "nowhere"], ["data folder not found"]),
        (["--undo"], ["nothing to undo"]),
        (["--undo", "nowhere"], ["nothing to undo"]),
        (["--distance", "-1"], ["distance must be >= 0"]),
    ],
)
def test_what_a_user_can_mend_is_one_line(data, monkeypatch, arguments, words):
    monkeypatch.chdir(data)
    (data / "empty.jsonl").write_bytes(b"")
    write_rows(data / "other.jsonl", [{"a": 1}])
    assert_one_line_error(run_script(CLEAN, *arguments), *words)
