"""Pictures unpacked from an archive: which are lost is known by name, size and sum, and only those come back."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from configs.errors import UserError
from leap.download_record import Record, read_record
from leap.downloads import NoSpace, RemoteFile
from leap.picture_archives import contents_file, forget_lost_pictures, room_for_pictures, unpack_pictures
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


def mend(folder: Path, hash_again: bool = False) -> bool:
    """Look for lost pictures and bring them back; whether any was lost."""
    forget_lost_pictures(folder, hash_again)
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
    own = folder / "images" / "7-5.png"
    own.parent.mkdir()
    own.write_bytes(b"mine")
    unpack_pictures(folder, keep_archive=True)
    assert "1 that were there differ from the archive's and stay (7-5.png)" in capsys.readouterr().out
    assert not mend(folder, hash_again=True)
    assert own.read_bytes() == b"mine"
    own.unlink()
    assert mend(folder)
    assert own.read_bytes() == PICTURES["7-5.png"]


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
