"""Files moved to the trash and put back, whatever is killed in between."""

import os
import random

import pytest
from PIL import Image

from leap.data.trash import move_to_trash, trashed_files, undo
from tests.conftest import assert_one_line_error, run_script
from tests.data.picture_rows import CLEAN, everything, kill_while, picture, png, row, write_rows


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


@pytest.mark.slow
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
