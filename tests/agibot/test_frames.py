"""First frames of AgiBot archives: the lowest of each episode, whole or not at all."""

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from configs.errors import UserError
from leap.agibot import frames as module
from leap.agibot.frames import (
    NoFrames,
    forget,
    frame_path,
    manifest_path,
    own_hashes_path,
    read_manifest,
    take_first_frames,
    why_not_done,
)
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
from tests.conftest import REPOSITORY


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


def test_frames_in_reverse_order_are_not_each_written_to_the_disk(tmp_path, data, monkeypatch):
    written = []
    write_bytes = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: written.append(path) or write_bytes(path, content))
    monkeypatch.setattr(module, "_MOST_UNWRITTEN_BYTES", 100_000)
    manifest = take_first_frames(task_archive(tmp_path, "1", {"2": range(500, -1, -1), "3": [4, 3]}), data, "1")
    assert {episode: one.number for episode, one in manifest.episodes.items()} == {"2": 0, "3": 3}
    assert frame_path(data, "1", "2").read_bytes() == frame("1", "2", 0)
    assert len(written) < 10


def test_a_number_is_compared_as_a_number(tmp_path, data):
    members = [file(f"1/2/{name}.png", picture(index)) for index, name in enumerate(("10", "9", "0100"))]
    take_first_frames(write_archive(tmp_path / "task_1.tar.gz", members), data, "1")
    assert frame_path(data, "1", "2").read_bytes() == picture(1)


def named(*names, episode="2"):
    """Frames of these names in an episode of task 1, each another picture."""
    return [file(f"1/{episode}/{name}", picture(index)) for index, name in enumerate(names)]


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["frame_00002.png", "frame_00010.png", "frame_00001.png"], 2),
        (["cam 1/0.png", "a1b3.PNG", "a1b2.jpeg"], 2),
        (["frame_0.png", "7.png", "depth_0.png", "8.png"], 1),  # plain numbers count before all others
        (["._0.png", "._frame_1.png", "frame_1.png"], 2),  # what macOS puts beside a file
    ],
)
def test_a_frame_may_have_a_name_before_its_number(tmp_path, data, names, first):
    take_first_frames(write_archive(tmp_path / "task_1.tar.gz", named(*names)), data, "1")
    assert frame_path(data, "1", "2").read_bytes() == picture(first)


def test_frames_under_several_names_are_not_mixed(tmp_path, data):
    members = [
        *named("head_2.png", "wrist_1.png", "head_0.png"),
        *named("frame_1.png", "frame_01.png", episode="3"),
        *named("0.png", episode="4"),
    ]
    manifest = take_first_frames(write_archive(tmp_path / "task_1.tar.gz", members), data, "1")
    assert in_place(data) == ["1-4.png"]
    assert reasons(manifest) == {
        ("1", "2"): "names frames in several ways, as wrist_1.png",
        ("1", "3"): "has frame 1 twice",
    }


@pytest.mark.parametrize(
    "members",
    [
        named("first.png", "last.png"),
        [file("1/2/0.png", b"bad"), file("1/3/0.txt", b"x")],
        [file("1/2/cam/0.png", picture(1))],
        [file("episode/0.png", picture(1))],
        frames("2", {"1": [0]}),
    ],
)
def test_an_archive_without_any_first_frame_is_no_success(tmp_path, data, members):
    with pytest.raises(NoFrames, match=r"task_1.tar.gz: (none of its|holds no)"):
        take_first_frames(write_archive(tmp_path / "task_1.tar.gz", members), data, "1")
    assert in_place(data) == []
    assert not manifest_path(data, "1").exists()


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


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="measures memory as Linux tells it")
def test_as_many_episodes_as_an_archive_may_have_take_little_memory_and_one_more_is_refused(
    tmp_path, data, monkeypatch
):
    archive = tmp_path / "task_327.tar.gz"
    with gzip.open(archive, "wb", 1) as zipped:
        for episode in range(module.MOST_EPISODES - 1):
            zipped.write(tarfile.TarInfo(f"327/{10**19 + episode}/0.txt").tobuf(tarfile.GNU_FORMAT))
        info, content = file("327/7/0.png", picture(7))
        zipped.write(info.tobuf() + content + bytes(-len(content) % 512))
        zipped.write(bytes(1024))
    code = (
        "import sys; from pathlib import Path; from leap.agibot.frames import take_first_frames\n"
        "print(len(take_first_frames(Path(sys.argv[1]), Path(sys.argv[2]), '327').quarantined))\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    command = [sys.executable, "-c", code, archive, data]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    quarantined, most_kilobytes = map(int, done.stdout.split())
    assert quarantined == module.MOST_EPISODES - 1
    assert most_kilobytes < 150_000
    # One more than the bound, which is lowered here: another archive of this size would show no more.
    monkeypatch.setattr(module, "MOST_EPISODES", 3)
    task_archive(tmp_path, "327", {str(episode): [0] for episode in range(4)})
    with pytest.raises(BrokenArchive, match="more than 3 episodes"):
        take_first_frames(tmp_path / "image" / "task_327.tar.gz", data, "327")


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


def test_another_picture_that_was_there_stays_and_the_manifest_tells_of_it(tmp_path, data):
    place = frame_path(data, "1", "2")
    place.parent.mkdir(parents=True)
    place.write_bytes(picture(77, (30, 20)))
    frame_path(data, "1", "3").write_bytes(picture(78)[:-40])
    archive = task_archive(tmp_path, "1", {"2": [0], "3": [0], "4": [0]})
    size = archive.stat().st_size
    for _ in range(2):
        episodes = take_first_frames(archive, data, "1").episodes
        assert place.read_bytes() == picture(77, (30, 20))
        assert frame_path(data, "1", "3").read_bytes() == frame("1", "3", 0)
        stays = episodes["2"]
        assert (stays.number, stays.width, stays.height) == (None, 30, 20)
        assert stays.sha256 == hashlib.sha256(picture(77, (30, 20))).hexdigest()
        assert [episodes[name].number for name in ("3", "4")] == [0, 0]
        assert read_manifest(manifest_path(data, "1")).episodes == episodes
        assert why_not_done(data, "1", size, verify=True) is None
    # Another one that is put there later is no reason to read the archive again; a damaged or lost one is.
    place.write_bytes(picture(79))
    frame_path(data, "1", "4").write_bytes(picture(80))
    assert why_not_done(data, "1", size, verify=True) is None
    place.write_bytes(picture(79)[:-40])
    assert "not what was written" in why_not_done(data, "1", size)
    place.unlink()
    assert "missing" in why_not_done(data, "1", size)
    assert take_first_frames(archive, data, "1").episodes["4"].number is None
    assert place.read_bytes() == frame("1", "2", 0)
    assert frame_path(data, "1", "4").read_bytes() == picture(80)


class Killed(BaseException):
    pass


def test_pictures_of_a_killed_run_are_ours_also_when_the_archive_is_another_one_by_then(tmp_path, data, monkeypatch):
    def archive(*seeds):
        members = [file(f"1/{episode}/0.png", picture(seed)) for episode, seed in enumerate(seeds)]
        return write_archive(tmp_path / "task_1.tar.gz", members)

    def killed(*arguments):
        raise Killed

    def pictures():
        return [frame_path(data, "1", str(episode)).read_bytes() for episode in range(2)]

    take_first_frames(archive(1, 2), data, "1")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_sync", killed)  # as its frames are in place, and the manifest is not
        with pytest.raises(Killed):
            take_first_frames(archive(3, 4), data, "1")
    assert pictures() == [picture(3), picture(4)]
    assert not manifest_path(data, "1").exists()
    take_first_frames(archive(5, 6), data, "1")
    assert pictures() == [picture(5), picture(6)]
    forget(data, "1")
    assert not manifest_path(data, "1").exists()
    take_first_frames(archive(7, 6), data, "1")
    assert pictures() == [picture(7), picture(6)]
    assert not own_hashes_path(data, "1").exists()
