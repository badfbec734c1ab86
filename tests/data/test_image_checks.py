"""One check of each picture, noted for the next run, by workers that end with the script."""

import signal
import time
from pathlib import Path

import pytest

from leap.data.image_checks import Limits, check_picture, check_pictures, checks_journal
from leap.files import Journal
from tests.conftest import start_script
from tests.data.picture_rows import CLEAN, DEFECTS, LIMITS, picture, png, row, write_rows


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


def test_pictures_are_looked_at_while_another_process_writes_the_looks(data, tmp_path, capsys):
    paths = sorted((data / "images").glob("*.png"))[:3]
    looks = checks_journal(tmp_path)
    first = check_pictures(paths[:1], looks, 1, LIMITS.max_pixels)
    with Journal(looks):
        assert set(check_pictures(paths, looks, 1, LIMITS.max_pixels)) == set(paths)
    assert "being written by another process" in capsys.readouterr().out
    assert check_pictures(paths[:1], looks, 1, LIMITS.max_pixels) == first
    assert len(looks.read_bytes().splitlines()) == 1, "nothing was written meanwhile"


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="lists processes as Linux does")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_workers_end_with_the_script_and_the_next_run_can_start_at_once(data, ending):
    content = png(picture(1, (800, 600)))
    names = [f"images/600-{episode}.png" for episode in range(480)]
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
