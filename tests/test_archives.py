"""Archives read without trust: what is damaged is refused, what is hostile writes nothing outside its place."""

import errno
import gzip
import tarfile
import tracemalloc
from pathlib import Path, PurePosixPath

import pytest

from configs.errors import UserError
from leap import archives
from leap.archives import BrokenArchive, room_needed, tar_stream, unpack, work_folder
from tests.agibot.archives import claiming, cut_off, file, special, with_flipped_byte, write_archive


def anything(name):
    path = PurePosixPath(name)
    return None if path.is_absolute() or ".." in path.parts else Path(path)


def unpacked(archive, folder, accept=anything, most_bytes=10**6, most_files=100):
    return unpack(archive, folder, accept, most_bytes, most_files)


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def archive(tmp_path):
    return write_archive(tmp_path / "a.tar.gz", [file(f"images/{n}.png", bytes([n]) * 5000) for n in range(20)])


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_regular_files_go_where_accept_says(tmp_path, kind):
    long = "folder with spaces/" + "n" * 150 + "/\u676f\u5b50.png"
    members = [
        special("images", tarfile.DIRTYPE),
        file("./images/1.png", b"one"),
        file("images/skip.txt", b"x"),
        file(long, b"2"),
    ]
    archive = write_archive(tmp_path / "a.tar.gz", members, kind)
    done = unpacked(archive, tmp_path / "out", lambda name: Path(name) if name.endswith(".png") else None)
    assert tree(tmp_path / "out") == {"images/1.png": b"one", long: b"2"}
    assert (done.files, done.bytes, done.preexisting, done.ignored_names) == (2, 4, 0, ["images/skip.txt"])


def test_files_that_are_there_stay_and_the_others_join_them(tmp_path, archive):
    place = tmp_path / "out" / "images" / "3.png"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    assert unpacked(archive, tmp_path / "out").preexisting == 1
    assert place.read_bytes() == b"mine"
    assert len(tree(tmp_path / "out")) == 20


def test_hostile_members_are_left_out(tmp_path):
    (tmp_path / "secret").write_text("secret")
    members = [
        file("../out2/up.png", b"x"),
        file("/tmp/absolute.png", b"x"),
        file("a/../../b.png", b"x"),
        special("link.png", tarfile.SYMTYPE, "../secret"),
        special("hard.png", tarfile.LNKTYPE, "../secret"),
        special("device.png", tarfile.CHRTYPE),
        special("fifo.png", tarfile.FIFOTYPE),
        file("link.png/inside.png", b"in a folder of that name"),
        file("a\udcff.png", b"not UTF-8"),
        file("good.png", b"good"),
    ]
    archive = write_archive(tmp_path / "a.tar.gz", members)
    done = unpacked(archive, tmp_path / "out")
    assert done.ignored == 7
    assert {path.name for path in tmp_path.iterdir()} == {"secret", "a.tar.gz", "out"}
    found = {"a\udcff.png": b"not UTF-8", "good.png": b"good", "link.png/inside.png": b"in a folder of that name"}
    assert tree(tmp_path / "out") == found
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_accept_cannot_lead_outside_either(tmp_path, archive):
    for bad in (Path("/etc/x"), Path("../x"), Path()):
        with pytest.raises(ValueError, match="below the folder"):
            unpacked(archive, tmp_path / "out", lambda name, bad=bad: bad)
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz"}


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([file("a.png", b"1"), file("./a.png", b"2")], "in it twice"),
        ([file("a", b"1"), file("a/b.png", b"2")], "a file and a folder"),
        ([file("n" * 300, b"1")], "no name for this disk"),
        ([file(f"{n}.png") for n in range(101)], "more than 100 files"),
        ([file("a.png", bytes(600_000)), file("b.png", bytes(600_000))], "more than 1,000,000 bytes"),
    ],
)
def test_an_archive_beyond_its_bounds_publishes_nothing(tmp_path, members, reason):
    with pytest.raises(BrokenArchive, match=reason):
        unpacked(write_archive(tmp_path / "a.tar.gz", members), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz"}


def test_a_member_that_claims_ten_gigabytes_is_refused_before_a_byte_is_written(tmp_path, monkeypatch):
    archive = claiming(tmp_path / "a.tar.gz", "big.png", 10 * 1024**3)
    with pytest.raises(BrokenArchive, match="claim more than"):
        unpacked(archive, tmp_path / "out")
    with pytest.raises(BrokenArchive, match="cut off"):
        unpacked(archive, tmp_path / "out", most_bytes=20 * 1024**3)
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz"}


@pytest.mark.parametrize("at", [0, 12, 40, 0.3, 0.6, -6, -2])
def test_a_flipped_byte_anywhere_is_found(tmp_path, archive, at):
    size = archive.stat().st_size
    at = int(at * size) if isinstance(at, float) else at % size
    content = bytes(range(256)) * 20
    write_archive(archive, [file(f"{n}.png", content[n:]) for n in range(20)])
    with_flipped_byte(archive, at)
    with pytest.raises(BrokenArchive):
        unpacked(archive, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz"}


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_found(tmp_path, archive, part):
    cut_off(archive, int(archive.stat().st_size * part))
    with pytest.raises(BrokenArchive, match=r"a\.tar\.gz: (cut off|damaged)"):
        unpacked(archive, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz"}


def header(kind, size, name="x"):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def size_of_pax(size):
    info = tarfile.TarInfo("readme.txt")
    info.pax_headers = {"size": str(size)}
    return info.tobuf(tarfile.PAX_FORMAT)


def sparse_of_pax():
    info = tarfile.TarInfo("s.png")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9999999999"}
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no tar at all" * 100, "not a tar archive"),
        (header(tarfile.REGTYPE, 0) + b"\x07" * 512 + bytes(1024), "not a tar archive from byte 512"),
        (header(tarfile.REGTYPE, 0) + bytes(1024) + b"more" * 300_000, "data after the end"),
        (header(tarfile.REGTYPE, 0) + bytes(1024) + header(tarfile.REGTYPE, 0) + bytes(1024), "data after the end"),
        (header(tarfile.XHDTYPE, 2**33) + bytes(2**20), "a header of 8,589,934,592 bytes"),
        (header(tarfile.GNUTYPE_LONGNAME, 2**33) + bytes(2**20), "a header of"),
        (header(tarfile.GNUTYPE_SPARSE, 10) + bytes(1024), "a sparse file"),
        (sparse_of_pax() + bytes(1024), "a sparse file"),
        (header(tarfile.GNUTYPE_LONGNAME, 1) * 20_000, "damaged|cut off"),
    ],
    ids=["text", "garbage", "tail", "second tar", "pax header", "long name", "sparse", "pax sparse", "nested"],
)
def test_a_tar_that_is_none_or_eats_memory_is_refused(tmp_path, content, reason):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(content))
    with pytest.raises(BrokenArchive, match=reason):
        unpacked(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header(tarfile.REGTYPE, 2**60), "cut off"),
        (header(b"V", 2**60), "cut off"),
        (size_of_pax(2**60), "cut off"),
        (header(tarfile.XHDTYPE, 2**60), "a header of"),
    ],
    ids=["file", "unknown type", "size in a pax header", "pax header"],
)
def test_a_member_left_out_that_claims_an_exabyte_takes_no_time(tmp_path, content, reason):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(content + b"x" * 4096))
    with pytest.raises(BrokenArchive, match=reason):
        unpacked(archive, tmp_path / "out", accept=lambda name: None)
    with pytest.raises(BrokenArchive, match=reason):
        room_needed(archive, lambda name: None, 10**6, 100)


def test_a_file_that_is_no_gzip_is_named(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"<html>")
    with pytest.raises(BrokenArchive, match=r"a\.tar\.gz: not a gzip file"), tar_stream(path) as tar:
        list(tar)
    with pytest.raises(FileNotFoundError), tar_stream(tmp_path / "none.tar.gz"):
        pass


def test_a_gzip_may_have_parts_and_zeros_behind_it(tmp_path, archive):
    content = gzip.decompress(archive.read_bytes())
    archive.write_bytes(gzip.compress(content[:3000]) + gzip.compress(content[3000:]) + bytes(5000))
    assert unpacked(archive, tmp_path / "out").files == 20
    with open(archive, "ab") as end:
        end.write(b"more")
    with pytest.raises(BrokenArchive, match="followed by something"):
        unpacked(archive, tmp_path / "out2")


def test_an_archive_without_members_is_no_error(tmp_path):
    assert unpacked(write_archive(tmp_path / "a.tar.gz", []), tmp_path / "out").files == 0


def test_a_stream_holds_neither_the_content_nor_the_members(tmp_path):
    def many():
        for number in range(5000):
            yield file(f"folder/{number:08d}.png")
        yield file("big.png", bytes(10 * 1024**2))

    archive = write_archive(tmp_path / "a.tar.gz", many())
    tracemalloc.start()
    with tar_stream(archive) as tar:
        assert sum(1 for _ in tar) == 5001
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 1024**2


def test_an_error_of_the_reader_is_not_taken_for_a_broken_archive(tmp_path, archive):
    with pytest.raises(KeyError), tar_stream(archive) as tar:
        next(iter(tar))
        raise KeyError("mine")


def test_a_full_disk_leaves_nothing_behind(tmp_path, archive, monkeypatch):
    def full(source, target, length):
        target.write(source.read(100))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        unpacked(archive, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz"}


def test_what_a_killed_run_left_is_removed_and_two_runs_do_not_collide(tmp_path, archive):
    left = tmp_path / ".out.a.tar.gz.part"
    (left / "new").mkdir(parents=True)
    (left / "new" / "half.png").write_bytes(b"ha")
    with work_folder(left), pytest.raises(UserError, match="another process"):
        unpacked(archive, tmp_path / "out")
    (left / "new").mkdir(parents=True)
    (left / "new" / "half.png").write_bytes(b"ha")
    unpacked(archive, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz", "out"}
    assert len(tree(tmp_path / "out")) == 20
