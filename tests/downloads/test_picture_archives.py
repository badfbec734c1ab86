"""Pictures unpacked from an archive: which are lost is known by name, size and sum, and only those come back."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from configs.errors import UserError
from leap.archives import place_on_disk_of
from leap.downloads.access import NoSpace
from leap.downloads.fetch import RemoteFile
from leap.downloads.picture_archives import contents_file, forget_lost_pictures, room_for_pictures, unpack_pictures
from leap.downloads.record import Record, read_record
from tests.agibot.archives import file, write_archive

PICTURES = {f"7-{number}.png": b"%03d" % number * 10 for number in range(100)}
ARCHIVE = "images.tar.gz"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder into which an archive of pictures was fetched."""
    archive = write_archive(tmp_path / "data" / ARCHIVE, [file(f"images/{n}", c) for n, c in PICTURES.items()])
    content = archive.read_bytes()
    record = Record("me/rows", "dataset", "main", "0" * 40, "a host")
    record.files[ARCHIVE] = RemoteFile(ARCHIVE, len(content), sha256=hashlib.sha256(content).hexdigest())
    record.write(archive.parent)
    return archive.parent


def mend(folder: Path, *, hash_again: bool = False) -> bool:
    """Look for lost pictures and bring them back; whether any was lost."""
    forget_lost_pictures(folder, hash_again=hash_again)
    lost = not read_record(folder).unpacked
    unpack_pictures(folder, keep_archive=True)
    return lost


def test_a_lost_a_truncated_and_a_damaged_picture_come_back_alone(folder):
    unpack_pictures(folder, keep_archive=True)
    images = folder / "images"
    assert {path.name: path.read_bytes() for path in images.iterdir()} == PICTURES
    assert not mend(folder, hash_again=True)
    sound = (images / "7-9.png").stat().st_ino
    (images / "8-1.png").write_bytes(b"from elsewhere")
    (images / "7-1.png").unlink()
    (images / "7-2.png").write_bytes(PICTURES["7-2.png"][:-1])
    (images / "7-3.png").write_bytes(PICTURES["7-3.png"][:-1] + b"!")
    assert mend(folder)
    assert (images / "7-3.png").read_bytes().endswith(b"!"), "the size tells nothing"
    assert mend(folder, hash_again=True)
    expected = PICTURES | {"8-1.png": b"from elsewhere"}
    assert {path.name: path.read_bytes() for path in images.iterdir()} == expected
    assert (images / "7-9.png").stat().st_ino == sound
    assert not mend(folder, hash_again=True)


def test_a_picture_of_the_users_stays_until_it_is_deleted(folder, capsys):
    users = folder / "images" / "7-5.png"
    users.parent.mkdir()
    users.write_bytes(b"mine")
    unpack_pictures(folder, keep_archive=True)
    assert "1 that were there differ from the archive's and stay (7-5.png)" in capsys.readouterr().out
    assert not mend(folder, hash_again=True)
    assert users.read_bytes() == b"mine"
    users.unlink()
    assert mend(folder)
    assert users.read_bytes() == PICTURES["7-5.png"]


@pytest.mark.parametrize("content", [None, b"", b"no gzip"])
def test_without_the_list_the_archive_is_unpacked_again(folder, content):
    unpack_pictures(folder, keep_archive=True)
    listed = contents_file(folder, ARCHIVE)
    listed.unlink() if content is None else listed.write_bytes(content)
    (folder / "images" / "7-1.png").unlink()
    assert mend(folder)
    assert len(os.listdir(folder / "images")) == len(PICTURES)
    assert not mend(folder)


def test_small_pictures_count_as_blocks_of_the_disk(folder, monkeypatch):
    def nearly_full(path):
        return shutil._ntuple_diskusage(10**6, 10**6 - 300_000, 300_000)

    assert sum(map(len, PICTURES.values())) < 300_000 < 4096 * len(PICTURES)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", nearly_full)
        with pytest.raises(NoSpace, match="Nothing was unpacked"):
            unpack_pictures(folder, keep_archive=True)
    assert not (folder / "images").exists()
    unpack_pictures(folder, keep_archive=True)
    (folder / "images" / "7-1.png").unlink()
    forget_lost_pictures(folder)
    assert room_for_pictures(list(read_record(folder).files.values()), folder) == 4096


def test_an_archive_without_pictures_is_an_error(folder):
    write_archive(folder / ARCHIVE, [file("notes.txt", b"x")])
    with pytest.raises(UserError, match="holds no picture"):
        unpack_pictures(folder, keep_archive=True)


@pytest.fixture
def other_disk():
    """A folder on another disk than the tests'."""
    disk = Path("/dev/shm")
    if not disk.is_dir() or not os.access(disk, os.W_OK):
        pytest.skip("no /dev/shm to write to")
    with tempfile.TemporaryDirectory(dir=disk) as name:
        if os.stat(name).st_dev == os.stat(tempfile.gettempdir()).st_dev:
            pytest.skip("/dev/shm is on the disk of the other files")
        yield Path(name) / "pictures"


@pytest.mark.parametrize("exists", [True, False])
def test_images_may_be_a_link_to_another_disk(folder, other_disk, exists):
    if exists:
        other_disk.mkdir()
    (folder / "images").symlink_to(other_disk)
    unpack_pictures(folder, keep_archive=True)
    assert {path.name: path.read_bytes() for path in other_disk.iterdir()} == PICTURES
    (other_disk / "7-1.png").unlink()
    assert mend(folder)
    assert {path.name: path.read_bytes() for path in other_disk.iterdir()} == PICTURES
    assert os.listdir(other_disk.parent) == [other_disk.name]


def test_the_disk_that_images_leads_to_is_measured(folder, other_disk, monkeypatch):
    (folder / "images").symlink_to(other_disk)
    files = list(read_record(folder).files.values())
    assert room_for_pictures(files, folder) == 0, "of the disk of the folder itself"

    def full(path):
        free = 10 if Path(path).is_relative_to(other_disk.parent) else 10**9
        return shutil._ntuple_diskusage(10**9, 10**9 - free, free)

    monkeypatch.setattr(shutil, "disk_usage", full)
    with pytest.raises(NoSpace, match="Nothing was fetched"):
        room_for_pictures(files, folder)
    with pytest.raises(NoSpace, match="Nothing was unpacked"):
        unpack_pictures(folder, keep_archive=True)


def test_files_are_made_in_a_folder_that_is_a_disk_of_its_own_and_beside_any_other(tmp_path, other_disk):
    assert place_on_disk_of(tmp_path / "images") == tmp_path
    assert place_on_disk_of(other_disk) == other_disk.parent
    assert place_on_disk_of(Path("/dev/shm")) == Path("/dev/shm")
