"""Pictures checked, rows cleaned, broken pictures moved to a trash and put back, whatever is killed in between."""

import io
import json
import os
import random
import signal
import struct
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.errors import UserError
from leap.data.image_checks import Limits, check_picture, check_pictures
from leap.data.planning_files import default_files, is_tested, planning_files
from leap.data.row_checks import read_file
from leap.data.trash import move_to_trash, trashed_files, undo
from leap.files import read_json, read_jsonl
from leap.models.loading import load_processor
from leap.rows.records import read_rows
from leap.training.preflight import check_file
from leap.training.supervision import PlanningCollator
from tests.conftest import assert_one_line_error, run_script, start_script

CLEAN = "utils/check_and_clean_images.py"
LIMITS = Limits(32, 50_000_000, 5.0, 2.0)


def picture(seed: int, size=(96, 64)) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def row(*images: str, **more) -> dict:
    content = [{"type": "image", "image": image} for image in images]
    content.append({"type": "text", "text": "Task name: wipe.\nPlan it."})
    return {"messages": [{"role": "user", "content": content}], "target": {"steps": "1) Go. 2) Stop."}} | more


def write_rows(path: Path, rows: list) -> Path:
    path.write_bytes(b"".join(r if isinstance(r, bytes) else json.dumps(r).encode() + b"\n" for r in rows))
    return path


def reasons_of(path: Path) -> dict[int, str]:
    return {entry["line"]: entry["reason"] for entry in read_jsonl(path)}


DEFECTS = {
    "corrupt": ("broken", lambda good: good[:200] + bytes([good[200] ^ 255]) + good[201:]),
    "truncated": ("broken", lambda good: good[: len(good) // 2]),
    "empty": ("broken", lambda good: b""),
    "text": ("broken", lambda good: b"no picture"),
    "bomb": ("broken", lambda good: claiming(60_000, 60_000)),
    "large": ("odd size", lambda good: claiming(9_000, 9_000)),
    "dot": ("odd size", lambda good: png(Image.new("RGB", (1, 1)))),
    "strip": ("odd size", lambda good: png(picture(5, (400, 40)))),
    "blank": ("blank", lambda good: png(Image.new("RGB", (64, 64), "#123456"))),
    "clear": ("blank", lambda good: png(Image.new("RGBA", (64, 64), (9, 9, 9, 0)))),
    "noisy": (
        "blank",
        lambda good: png(Image.fromarray(np.random.default_rng(0).integers(7, 9, (64, 64, 3), np.uint8))),
    ),
}


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


def everything(folder: Path) -> dict[str, bytes]:
    """Every picture of a data folder, in or out of the trash by the name it has now."""
    return {path.name: path.read_bytes() for path in folder.glob("images/*")}


@pytest.mark.parametrize(("kind", "spoil"), DEFECTS.values(), ids=DEFECTS)
def test_each_defect_of_a_picture_is_named(tmp_path, kind, spoil):
    path = tmp_path / "a.png"
    path.write_bytes(spoil(png(picture(99))))
    found = check_picture(path, LIMITS.max_pixels).defect(LIMITS)
    assert found is not None
    assert found[0] == kind
    assert found[1]


def test_a_sound_picture_has_no_defect_and_bounds_can_be_moved(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(picture(1)))
    look = check_picture(path, LIMITS.max_pixels)
    assert look.defect(LIMITS) is None
    assert look.defect(Limits(65, 50_000_000, 5.0, 2.0)) == ("odd size", "96 x 64 pixels: a side is under 65")
    assert look.defect(Limits(32, 6_000, 5.0, 2.0))[0] == "odd size"
    assert look.defect(Limits(32, 50_000_000, 1.4, 2.0))[0] == "odd size"
    assert look.defect(Limits(32, 50_000_000, 5.0, 128.0))[0] == "blank"


def test_a_file_that_cannot_be_read_is_not_called_broken(tmp_path):
    assert check_picture(tmp_path / "gone.png", LIMITS.max_pixels).defect(LIMITS)[0] == "unreadable"


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


def test_undo_overwrites_nothing(data):
    before = everything(data)
    assert run_script(CLEAN, "--delete").returncode == 0
    (trash,) = (data / ".trash").glob("2*")
    (data / "images/blank.png").write_bytes(png(picture(50)))
    assert_one_line_error(run_script(CLEAN, "--undo", trash), "1 files", "blank.png", "in their place")
    assert (data / "images/blank.png").read_bytes() == png(picture(50))
    assert not (data / "images/text.png").exists()
    (data / "images/blank.png").unlink()
    assert run_script(CLEAN, "--undo", trash.name).returncode == 0
    assert everything(data) == before


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


def test_a_second_run_looks_at_changed_pictures_only(data, tmp_path):
    paths = sorted((data / "images").glob("*.png"))
    kept = tmp_path / "kept.jsonl"
    first = check_pictures(paths, kept, 2, LIMITS.max_pixels)
    assert set(first) == set(paths)
    size = kept.stat().st_size
    assert check_pictures(paths, kept, 2, LIMITS.max_pixels) == first
    assert kept.stat().st_size == size
    (data / "images/327-3.png").write_bytes(b"spoilt")
    again = check_pictures(paths, kept, 1, LIMITS.max_pixels)
    assert [path.name for path in paths if again[path] != first[path]] == ["327-3.png"]
    assert len(kept.read_bytes().splitlines()) == len(paths) + 1
    # A bound that lets more be decoded calls for another look at what was left out.
    assert first[data / "images/large.png"].deviation is None
    assert check_pictures(paths, kept, 1, 100_000_000)[data / "images/large.png"].problem
    # A damaged file of looks is made anew.
    kept.write_bytes(b"[]\n" + kept.read_bytes())
    assert check_pictures(paths, kept, 1, LIMITS.max_pixels) == again


def kill_while(script: str, *arguments: object, when) -> bool:
    """Start a script, kill -9 it once `when()` holds; whether it was killed before it ended by itself."""
    child = start_script(script, *arguments)
    limit = time.monotonic() + 60
    while child.poll() is None and not when() and time.monotonic() < limit:
        pass
    child.send_signal(signal.SIGKILL)
    try:
        child.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        pytest.fail("the killed script did not end")
    return child.returncode == -signal.SIGKILL


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="lists processes as Linux does")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_workers_end_with_the_script_and_the_next_run_can_start_at_once(data, ending):
    content = png(picture(1, (800, 600)))
    names = [f"images/600-{episode}.png" for episode in range(160)]
    for name in names:
        (data / name).write_bytes(content)
    write_rows(data / "train.jsonl", [row(name) for name in names])
    kept = data / ".image_checks.jsonl"
    arguments = ("--files", data / "train.jsonl", "--workers", 2)
    child = start_script(CLEAN, *arguments)
    limit = time.monotonic() + 60
    while not (kept.is_file() and kept.stat().st_size) and time.monotonic() < limit:
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.005)
    workers = children_of(child.pid)
    assert len(workers) >= 2
    child.send_signal(ending)
    child.wait(timeout=30)
    again = start_script(CLEAN, *arguments)
    assert again.communicate(timeout=120)[1] == ""
    assert again.returncode == 0
    child.communicate(timeout=30)  # ends once nobody holds its output
    assert child.returncode == -ending
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert len(kept.read_bytes().splitlines()) == len(names)


def test_kills_during_delete_and_undo_lose_nothing_and_the_same_command_completes(data):
    rng = random.Random(0)
    rows = []
    for episode in range(300):
        content = png(Image.new("RGB", (40, 40), (episode % 256, episode // 256, 7)))
        (data / f"images/500-{episode}.png").write_bytes(content)
        rows.append(row(f"images/500-{episode}.png"))
    write_rows(data / "train.jsonl", [row("images/327-5.png"), *rows])
    before = everything(data)
    bad = {name for name in before if name.startswith("500-")}

    def there() -> int:
        return sum((data / "images" / name).exists() for name in bad)

    def in_trash() -> list[bytes]:
        return sorted(path.read_bytes() for path in (data / ".trash").glob("*/files/*"))

    killed = 0
    for _ in range(3):
        left = rng.randrange(20, 280)
        killed += kill_while(CLEAN, "--delete", "--workers", 1, when=lambda left=left: there() <= left)
        # Nothing is lost, and nothing but what is bad has moved.
        here = everything(data)
        assert {name: before[name] for name in here} == here
        assert sorted([*in_trash(), *here.values()]) == sorted(before.values())
        done = run_script(CLEAN, "--delete", "--workers", 1)
        assert done.returncode == 0, done.stderr
        assert there() == 0
        assert set(everything(data)) == set(before) - bad
        back = rng.randrange(20, 280)
        killed += kill_while(CLEAN, "--undo", when=lambda back=back: there() >= back)
        done = run_script(CLEAN, "--undo")
        assert done.returncode in (0, 2), done.stderr  # 2: the killed one had finished
        assert everything(data) == before
    assert killed >= 2


@pytest.mark.parametrize("moved", range(6))
def test_a_move_goes_on_from_wherever_its_manifest_was_torn(tmp_path, moved):
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path in paths:
        path.write_bytes(path.name.encode())
    trash = move_to_trash(tmp_path, dict.fromkeys(paths, "blank"))
    assert not any(path.exists() for path in paths)
    # As if killed while the manifest was written (5: of a whole one, all moved): no move had been made then.
    lines = (trash / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (trash / "manifest.jsonl").write_bytes(b"".join(lines[:moved]) + lines[moved][:9])
    for number, path in enumerate(paths):
        if number >= moved or moved < 5:
            (trash / f"files/{number:06d}-{path.name}").rename(path)
    assert move_to_trash(tmp_path, {path: "blank" for path in paths if path.exists()}) == trash
    assert not any(path.exists() for path in paths)
    assert undo(tmp_path, None) == (trash, 5)
    assert [path.read_bytes().decode() for path in paths] == [path.name for path in paths]
    assert [path.name for path in trash.iterdir()] == ["manifest.jsonl"]


def test_with_nothing_to_move_there_is_no_new_trash_to_undo(data):
    assert run_script(CLEAN, "--delete").returncode == 0
    assert "no picture to move" in run_script(CLEAN, "--delete").stdout
    assert len(list((data / ".trash").glob("2*"))) == 1
    assert "put back 8 files" in run_script(CLEAN, "--undo").stdout


def test_undo_finishes_what_was_linked_and_not_yet_removed(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"a")
    trash = move_to_trash(tmp_path, {path: "blank"})
    (move,) = trashed_files(tmp_path).values()
    os.link(move.trashed, path)
    assert undo(tmp_path, None) == (trash, 1)
    assert path.read_bytes() == b"a"
    assert not move.trashed.exists()


def test_a_file_replaced_since_it_was_looked_at_is_not_planned_again(data):
    # A killed --delete has planned this picture; it is sound by the time of the next call, which must leave it.
    trash = move_to_trash(data, {data / "images/text.png": "broken"})
    undo(data, trash)
    manifest = trash / "manifest.jsonl"
    manifest.write_bytes(b"".join(line for line in manifest.open("rb") if b"state" not in line))
    (data / "images/text.png").write_bytes(png(picture(40)))
    assert run_script(CLEAN, "--delete").returncode == 0
    assert (data / "images/text.png").read_bytes() == png(picture(40))


def test_sides_follow_from_file_names():
    tested = ["test", "my_test", "test-2", "blind_10", "val", "all_val", "eval.small", "dev"]
    assert all(is_tested(Path(f"{name}.jsonl")) for name in tested)
    assert not any(is_tested(Path(f"{name}.jsonl")) for name in ("train", "contest", "valve", "devices", "latest"))


def test_the_planning_files_of_a_folder_leave_out_what_is_none(data):
    assert run_script(CLEAN).returncode == 1
    write_rows(data / "other.jsonl", [{"a": 1}])
    (data / "empty.jsonl").write_bytes(b"")
    assert [path.name for path in planning_files(data)] == ["test.jsonl", "train.jsonl"]


def test_a_file_that_holds_a_split_as_a_whole_counts_only_where_it_is_named_or_alone(data):
    names = ["agibot_all.jsonl", "all_rows.jsonl", "all_val.jsonl"]
    for name in names:
        write_rows(data / name, [row("images/327-1.png")])
    files, left_out = default_files(data)
    assert [path.name for path in files] == ["all_val.jsonl", "test.jsonl", "train.jsonl"]
    assert [path.name for path in left_out] == names[:2]
    said = run_script(CLEAN).stdout
    assert "left out: agibot_all.jsonl all_rows.jsonl" in said
    assert not (data / "agibot_all.cleaned.jsonl").exists()
    run_script(CLEAN, "--files", data / "agibot_all.jsonl", data / "test.jsonl")
    assert (data / "agibot_all.cleaned.jsonl").exists()
    (data / "train.jsonl").unlink()
    assert default_files(data) == (planning_files(data), [])


def test_a_file_without_any_planning_row_is_an_error_that_names_its_first_line(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [b"\n", {"a": 1}, {"b": 1}])
    with pytest.raises(UserError, match=r"a.jsonl:2: 'messages' must be a list"):
        read_file(path, tested=False, image_root=None, workspace=tmp_path, moved={})


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
