"""First frames of AgiBot archives: the lowest of each episode, whole or not at all."""

import hashlib
import io
import tarfile

import pytest
from PIL import Image

from configs.errors import UserError
from leap.agibot import frames as module
from leap.agibot.frames import frame_path, manifest_path, read_manifest, take_first_frames, why_not_done
from leap.archives import BrokenArchive, work_folder
from tests.agibot.archives import (
    cut_off,
    file,
    frame,
    frames,
    picture,
    special,
    task_archive,
    with_flipped_byte,
    write_archive,
)


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def in_place(data):
    return sorted(path.name for path in (data / "images").iterdir()) if (data / "images").exists() else []


def reasons(manifest):
    return {(one["task_id"], one["episode_id"]): one["reason"] for one in manifest.quarantined}


def test_the_lowest_frame_of_each_episode_is_taken_whatever_the_order(tmp_path, data):
    archive = task_archive(tmp_path, "327", {"648642": [12, 3, 100, 7], "5": [1], "99999999999": [2, 0, 1]})
    manifest = take_first_frames(archive, data, "327", sha256="abc", revision="main")
    assert in_place(data) == ["327-5.png", "327-648642.png", "327-99999999999.png"]
    assert {episode: one.number for episode, one in manifest.episodes.items()} == {
        "5": 1,
        "648642": 3,
        "99999999999": 0,
    }
    content = frame_path(data, "327", "648642").read_bytes()
    assert content == frame("327", "648642", 3)
    one = manifest.episodes["648642"]
    assert (one.bytes, one.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (one.width, one.height, one.file) == (24, 16, "327-648642.png")
    assert read_manifest(manifest_path(data, "327")) == manifest
    assert (manifest.bytes, manifest.sha256, manifest.revision) == (archive.stat().st_size, "abc", "main")


@pytest.mark.parametrize("top", ["", "./", "image/", "./image/", "Agiot processed/", "\u56fe\u50cf/"])
def test_frames_may_lie_below_another_folder(tmp_path, data, top):
    take_first_frames(task_archive(tmp_path, "327", {"1": [0], "2": [4, 3]}, top), data, "327")
    assert in_place(data) == ["327-1.png", "327-2.png"]


def test_a_number_is_compared_as_a_number(tmp_path, data):
    members = [file(f"1/2/{name}.png", picture(index)) for index, name in enumerate(("10", "9", "0100"))]
    take_first_frames(write_archive(tmp_path / "task_1.tar.gz", members), data, "1")
    assert frame_path(data, "1", "2").read_bytes() == picture(1)


def test_a_jpeg_frame_becomes_a_png(tmp_path, data):
    archive = write_archive(tmp_path / "task_1.tar.gz", [file("1/2/0.jpg", picture(1, kind="JPEG"))])
    one = take_first_frames(archive, data, "1").episodes["2"]
    content = frame_path(data, "1", "2").read_bytes()
    with Image.open(io.BytesIO(content)) as found, Image.open(io.BytesIO(picture(1, kind="JPEG"))) as given:
        assert found.format == "PNG"
        assert found.tobytes() == given.convert("RGB").tobytes()
    assert (one.bytes, one.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_an_episode_without_a_good_first_frame_is_quarantined_with_its_reason(tmp_path, data, monkeypatch):
    monkeypatch.setattr(module, "MOST_FRAME_BYTES", 5000)
    monkeypatch.setattr(module, "MOST_PIXELS", 32 * 32)
    members = [
        *frames("327", {"1": [0, 1]}),
        special("327/2/", tarfile.DIRTYPE),
        file("327/3/notes.txt", b"no picture"),
        file("327/4/0.png", picture(4)[:-30]),
        file("327/4/1.png", picture(4)),
        file("327/5/0.png", b""),
        file("327/6/0.png", b"GIF89a"),
        *frames("328", {"7": [0]}),
        file("327/8/0.png", picture(8)),
        file("327/8/00.png", picture(9)),
        special("327/9/0.png", tarfile.SYMTYPE, "/etc/passwd"),
        file("327/9/1.png", picture(9)),
        file("327/10/0.png", bytes(5001)),
        file("327/11/0.png", picture(1, (33, 32))),
        file("327/12/0/camera.png", picture(1)),
    ]
    manifest = take_first_frames(write_archive(tmp_path / "task_327.tar.gz", members), data, "327")
    assert in_place(data) == ["327-1.png"]
    assert list(manifest.episodes) == ["1"]
    found = reasons(manifest)
    assert found[("327", "2")] == found[("327", "3")] == found[("327", "12")] == "has no frame"
    assert found[("327", "4")].startswith("frame 0 is broken")
    assert found[("327", "5")] == "frame 0 is empty"
    assert found[("327", "6")] == "frame 0 is no PNG or JPEG"
    assert found[("328", "7")] == "is of task 328"
    assert found[("327", "8")] == "has frame 0 twice"
    assert found[("327", "9")] == "0.png is no regular file"
    assert "5,001 bytes" in found[("327", "10")]
    assert "33 x 32 pixels" in found[("327", "11")]


def test_a_lower_frame_that_comes_later_heals_an_episode(tmp_path, data):
    members = [file("1/2/5.png", b"bad"), file("1/2/5.png", b"bad"), file("1/2/1.png", picture(1))]
    take_first_frames(write_archive(tmp_path / "task_1.tar.gz", members), data, "1")
    assert frame_path(data, "1", "2").read_bytes() == picture(1)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: with_flipped_byte(path, path.stat().st_size // 2),
        lambda path: with_flipped_byte(path, path.stat().st_size - 6),
        lambda path: cut_off(path, path.stat().st_size // 2),
        lambda path: cut_off(path, path.stat().st_size - 4),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"<html>not found</html>"),
        lambda path: write_archive(path, []),
        lambda path: write_archive(path, frames("328", {"1": [0]})),
    ],
    ids=["flipped", "wrong checksum", "half", "no trailer", "empty file", "no gzip", "no members", "another task"],
)
def test_nothing_of_a_bad_archive_is_published(tmp_path, data, harm):
    archive = task_archive(tmp_path, "327", {str(episode): range(3) for episode in range(1, 9)})
    harm(archive)
    with pytest.raises(BrokenArchive, match="task_327.tar.gz"):
        take_first_frames(archive, data, "327")
    assert in_place(data) == []
    assert not manifest_path(data, "327").exists()


def test_no_member_is_written_outside_its_place(tmp_path, data):
    members = [
        file("../1/2/0.png", picture(1)),
        file("/1/3/0.png", picture(1)),
        file("1/../4/0.png", picture(1)),
        file("1/5/../../6/0.png", picture(1)),
        special("1/7/0.png", tarfile.LNKTYPE, "../../secret"),
        special("1/8/0.png", tarfile.CHRTYPE),
        special("1/9/0.png", tarfile.FIFOTYPE),
        file("1/10/0.png", picture(1)),
        file("1/\udcff/0.png", picture(1)),
    ]
    archive = write_archive(tmp_path / "task_1.tar.gz", members)
    manifest = take_first_frames(archive, data, "1")
    files = {path for path in tmp_path.rglob("*") if not path.is_dir()}
    assert files == {archive, frame_path(data, "1", "10"), manifest_path(data, "1")}
    assert manifest.ignored == 5
    assert set(reasons(manifest)) == {("1", "7"), ("1", "8"), ("1", "9")}


def test_first_frames_that_take_more_than_their_archive_are_refused(tmp_path, data, monkeypatch):
    monkeypatch.setattr(module, "SPARE_BYTES", 1000)
    members = [file(f"1/{episode}/0.png", bytes(2000)) for episode in range(50)]
    with pytest.raises(BrokenArchive, match="first frames take more"):
        take_first_frames(write_archive(tmp_path / "task_1.tar.gz", members), data, "1")
    assert in_place(data) == []


def test_a_task_is_done_while_its_frames_are_as_they_were_written(tmp_path, data):
    archive = task_archive(tmp_path, "1", {"2": [0], "3": [0]})
    size = archive.stat().st_size
    assert why_not_done(data, "1", size) == "not done yet"
    take_first_frames(archive, data, "1", sha256="abc")
    assert why_not_done(data, "1", size, "abc", verify=True) is None
    assert "another one" in why_not_done(data, "1", size + 1)
    assert "another one" in why_not_done(data, "1", size, "abd")
    place = frame_path(data, "1", "2")
    content = place.read_bytes()
    with_flipped_byte(place, 60)
    assert why_not_done(data, "1", size) is None
    assert "not what was written" in why_not_done(data, "1", size, verify=True)
    place.write_bytes(content[:-1])
    assert "not what was written" in why_not_done(data, "1", size)
    place.unlink()
    assert "missing" in why_not_done(data, "1", size)
    manifest_path(data, "1").write_text("{}")
    assert "no manifest" in why_not_done(data, "1", size)


def test_what_a_killed_run_left_is_removed_and_another_run_is_respected(tmp_path, data):
    archive = task_archive(tmp_path, "1", {"2": [0]})
    left = module.work_path(data, "1")
    left.mkdir(parents=True)
    (left / "1-77").write_bytes(b"half a fra")
    with work_folder(left), pytest.raises(UserError, match="another process"):
        take_first_frames(archive, data, "1")
    take_first_frames(archive, data, "1")
    assert in_place(data) == ["1-2.png"]
