"""The first frame of every episode of an AgiBot archive, taken out of the stream without unpacking it.

`task_<task>.tar.gz` holds `<task>/<episode>/<number>.png`, in any order, perhaps below one more folder. The first frame
is that with the lowest number. A number may have something in front, as in frame_00000.png, if that is the same all
over the episode; where there are plain numbers, only they count.

The first frame lies in data/images/<task>-<episode>.png once the whole archive has proved intact, unless there is a
whole picture already that was not written here: that stays. data/agibot/task_<task>.json, written last, says which are
there and which episodes are left out, with reasons. Until it is written, data/images/.task_<task>.own.json lists the
hashes of the pictures that are ours.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tarfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from configs.errors import UserError
from leap.archives import BrokenArchive, tar_stream, work_folder
from leap.files import read_json, replacing, sha256_file, write_json
from leap.rows.images import intact_problem, turn_upright

# What a frame and an archive may come to at most, so that a worker's memory and disk stay small whatever it is given.
MOST_FRAME_BYTES = 32 * 1024**2
MOST_PIXELS = 4096 * 4096
MOST_EPISODES = 100_000
SPARE_BYTES = 64 * 1024**2  # first frames may take as much as their archive and this
_MOST_UNWRITTEN_BYTES = 16 * 1024**2  # of frames that wait in memory

ARCHIVE_NAME = re.compile(r"(?:task_)?([0-9]{1,20})\.(?:tar\.gz|tgz)")
_ID = re.compile(r"[0-9]{1,20}")
_FRAME = re.compile(r"(?P<front>(?:[^.].{0,63}(?<![0-9]))?)(?P<number>[0-9]{1,20})\.(?:png|jpe?g)", re.I | re.DOTALL)
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_LONGEST_TAIL = 1024  # bytes that may follow it
_SEVERAL = "\0"  # in place of what stands in front of the number, where that differs


class NoFrames(BrokenArchive):
    """An intact archive that gives no first frame, most likely as its files are named in a way not known here."""


@dataclass(frozen=True)
class Frame:
    """A first frame in place: its number in the episode, its file in data/images and what that holds. Without a number
    it is another picture, which was there before and stayed."""

    number: int | None
    file: str
    bytes: int
    sha256: str
    width: int
    height: int


@dataclass
class FramesManifest:
    """What became of one archive. `sha256` and `revision` are those of the hub, None where they are not known;
    `quarantined` has {"task_id", "episode_id", "reason"}; `ignored` counts members that are no frame."""

    task_id: str
    archive: str
    bytes: int
    sha256: str | None = None
    revision: str | None = None
    episodes: dict[str, Frame] = field(default_factory=dict)
    quarantined: list[dict[str, str]] = field(default_factory=list)
    ignored: int = 0


@dataclass(slots=True)
class _LowestFrame:
    """What the stream has shown of an episode so far: its lowest frame, or why that is none. `front` stands before the
    number in the frames' names."""

    front: str | None = None
    number: int | None = None
    problem: str | None = "has no frame"
    bytes: int = 0

    def gives_way_to(self, front: str, number: int | None) -> bool:
        """Whether a frame of such a name takes the place of this one. Plain numbers come before all others, and where
        names begin in several ways no other frame can settle it. The same number twice is a problem."""
        if number is None or (front and self.front in ("", _SEVERAL)):
            return False
        if front != self.front:
            return True
        if number == self.number:
            self.problem = f"has frame {number} twice"
        return self.number is None or number < self.number


def manifest_path(data: Path, task_id: str) -> Path:
    return data / "agibot" / f"task_{task_id}.json"


def frame_path(data: Path, task_id: str, episode_id: str) -> Path:
    return data / "images" / f"{task_id}-{episode_id}.png"


def work_path(data: Path, task_id: str) -> Path:
    """Where the frames of a task wait until its archive is read; on the disk of the images."""
    return data / "images" / f".task_{task_id}.part"


def own_hashes_path(data: Path, task_id: str) -> Path:
    """The hashes of a task's own pictures while there is no manifest that tells them."""
    return data / "images" / f".task_{task_id}.own.json"


def read_manifest(path: Path) -> FramesManifest:
    """UserError if the file is missing or no manifest."""
    content = read_json(path)
    try:
        episodes = {episode: Frame(**frame) for episode, frame in content.pop("episodes").items()}
        return FramesManifest(**content, episodes=episodes)
    except (TypeError, AttributeError, KeyError) as error:
        raise UserError(
            f"{path} is no manifest of first frames ({error}). Remove it, and the task is done anew"
        ) from error


def why_not_done(
    data: Path, task_id: str, archive_bytes: int, sha256: str | None = None, verify: bool = False
) -> str | None:
    """Why the frames of a task must be taken from its archive (of such size and hash), or None if all are in place.

    Compares the frames' sizes; with `verify` their hashes. A whole picture in a frame's place that is another one is
    somebody's choice.
    """
    path = manifest_path(data, task_id)
    if not path.is_file():
        return "not done yet"
    try:
        manifest = read_manifest(path)
    except UserError as error:
        return str(error)
    if archive_bytes != manifest.bytes or (sha256 and manifest.sha256 and sha256 != manifest.sha256):
        return "the archive is another one now"
    for episode, frame in manifest.episodes.items():
        place = frame_path(data, task_id, episode)
        if not place.is_file():
            return f"{place} is missing"
        same = place.stat().st_size == frame.bytes and not (verify and sha256_file(place) != frame.sha256)
        if not same and _whole_picture(place) is None:
            return f"{place} is not what was written"
    return None


def forget(data: Path, task_id: str) -> None:
    """Take back that a task is done, unless another process works on it; which pictures are its own stays known."""
    if manifest_path(data, task_id).exists():
        with contextlib.suppress(UserError), work_folder(work_path(data, task_id)) as work:
            _note_own_hashes(work, data, task_id, _own_hashes(data, task_id))
            manifest_path(data, task_id).unlink(missing_ok=True)


def take_first_frames(
    archive: Path, data: Path, task_id: str, sha256: str | None = None, revision: str | None = None
) -> FramesManifest:
    """Put the first frames of `archive` into data/images and write the task's manifest.

    A kill at any moment leaves whole frames of an intact archive, or nothing; the next call does the rest. Episodes
    whose first frame is missing, damaged, too large or of another task are quarantined. A whole picture that lies in a
    frame's place, and is not one that was written here, stays.

    BrokenArchive if the archive is damaged, NoFrames if it is not but has no first frame; UserError if another process
    works on the task.
    """
    size = archive.stat().st_size
    with work_folder(work_path(data, task_id)) as work:
        manifest = FramesManifest(task_id, archive.name, size, sha256, revision)
        episodes = _collect(archive, work, size, manifest)
        if not episodes:
            raise NoFrames(f"{archive}: holds no <task>/<episode>/<number>.png")
        if not any(task == task_id for task, _ in episodes):
            raise NoFrames(f"{archive}: holds no episode of task {task_id}, but of task {min(episodes)[0]}")
        for task, episode in sorted(episodes, key=lambda key: _order(*key)):
            lowest = episodes.pop((task, episode))
            problem = lowest.problem or (f"is of task {task}" if task != task_id else None)
            if problem is None:
                try:
                    manifest.episodes[episode] = _finish(work / f"{task}-{episode}", lowest.number)
                except ValueError as error:
                    problem = f"frame {lowest.number} {error}"
            if problem:
                manifest.quarantined.append({"task_id": task, "episode_id": episode, "reason": problem})
        if not manifest.episodes:
            first, count = manifest.quarantined[0], len(manifest.quarantined)
            raise NoFrames(
                f"{archive}: none of its {count:,} episodes gives a first frame; episode {first['episode_id']} "
                f"{first['reason']}. A frame is named as in 00000.png or frame_00000.png"
            )
        _publish(manifest, work, data)
    return manifest


def _publish(manifest: FramesManifest, work: Path, data: Path) -> None:
    """Move the frames from `work` to their places and write the manifest, which is told of pictures that stay there."""
    task_id = manifest.task_id
    hashes = _own_hashes(data, task_id) | {frame.sha256 for frame in manifest.episodes.values()}
    _note_own_hashes(work, data, task_id, hashes)
    manifest_path(data, task_id).unlink(missing_ok=True)
    for episode in manifest.episodes:
        place = frame_path(data, task_id, episode)
        stays = _foreign(place, hashes)
        if stays:
            manifest.episodes[episode] = stays
        else:
            (work / f"{task_id}-{episode}").replace(place)
    _sync(data / "images")
    with replacing(manifest_path(data, task_id)) as file:  # in pieces: it may be long
        pieces = json.JSONEncoder(indent=2, default=asdict).iterencode(vars(manifest))
        file.writelines(piece.encode() for piece in pieces)
        file.write(b"\n")
    own_hashes_path(data, task_id).unlink(missing_ok=True)


def _own_hashes(data: Path, task_id: str) -> set[str]:
    """The SHA-256 of the pictures that were written here for a task, or were about to be when a run was killed."""
    hashes: set[str] = set()
    with contextlib.suppress(UserError):
        frames = read_manifest(manifest_path(data, task_id)).episodes.values()
        hashes |= {frame.sha256 for frame in frames if frame.number is not None}
    with contextlib.suppress(UserError, TypeError):
        hashes |= set(read_json(own_hashes_path(data, task_id)))
    return hashes


def _note_own_hashes(work: Path, data: Path, task_id: str, hashes: set[str]) -> None:
    if hashes:
        write_json(work / "own", sorted(hashes))
        (work / "own").replace(own_hashes_path(data, task_id))


def _foreign(place: Path, hashes: set[str]) -> Frame | None:
    """What lies in a frame's place if it is a whole picture that is not ours."""
    if not place.exists():
        return None
    digest = sha256_file(place)
    size = None if digest in hashes else _whole_picture(place)
    return Frame(None, place.name, place.stat().st_size, digest, *size) if size else None


def _whole_picture(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture file, None if it is damaged or none. One too large for us is not decoded."""
    try:
        with Image.open(path) as picture:
            size, kind = picture.size, picture.format
            if size[0] * size[1] > MOST_PIXELS or path.stat().st_size > MOST_FRAME_BYTES:
                return size
            turn_upright(picture)
            size = picture.size
        content = path.read_bytes()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    # Pillow does not miss the end of a PNG.
    cut_off = kind == "PNG" and _PNG_END not in content[-_LONGEST_TAIL:]
    return None if cut_off or intact_problem(content) else size


def _collect(archive: Path, work: Path, size: int, manifest: FramesManifest) -> dict[tuple[str, str], _LowestFrame]:
    """Read the whole archive; the lowest frame of each (task, episode) is then a file in `work`.

    Members come in any order and a stream cannot go back, so the lowest frame so far of each episode is kept, and
    replaced when a lower one comes. What all of these take is bounded by the size of the archive.
    """
    episodes: dict[tuple[str, str], _LowestFrame] = {}
    files = _FrameFiles(work)
    held = 0
    with tar_stream(archive) as tar:
        for member in tar:
            place = _place(member)
            if place is None:
                manifest.ignored += not member.isdir()
                continue
            task, episode, front, number = place
            lowest = episodes.setdefault((task, episode), _LowestFrame())
            if len(episodes) > MOST_EPISODES:
                raise BrokenArchive(f"{archive}: more than {MOST_EPISODES:,} episodes")
            if not lowest.gives_way_to(front, number):
                continue
            several = bool(front) and lowest.front is not None and front != lowest.front
            held -= lowest.bytes
            lowest.front, lowest.number, lowest.bytes = _SEVERAL if several else front, number, 0
            lowest.problem = f"names frames in several ways, as {_name(member)}" if several else _why_unusable(member)
            if lowest.problem or task != manifest.task_id:
                files.drop(f"{task}-{episode}")
                continue
            lowest.bytes = member.size
            held += member.size
            if held > size + SPARE_BYTES:
                raise BrokenArchive(f"{archive}: its first frames take more than {size + SPARE_BYTES:,} bytes")
            content = tar.extractfile(member)
            assert content is not None, "a regular file is wanted"
            files.put(f"{task}-{episode}", content.read())
    files.write()
    return episodes


class _FrameFiles:
    """The lowest frames so far, in `folder`. They are written late: where frames come in reverse order, each is
    replaced by the next, and a hundred thousand files overwritten take minutes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unwritten: dict[str, bytes] = {}
        self._unwritten_bytes = 0

    def put(self, name: str, content: bytes) -> None:
        self._unwritten_bytes += len(content) - len(self._unwritten.get(name, b""))
        self._unwritten[name] = content
        if self._unwritten_bytes > _MOST_UNWRITTEN_BYTES:
            self.write()

    def drop(self, name: str) -> None:
        self._unwritten_bytes -= len(self._unwritten.pop(name, b""))
        (self._folder / name).unlink(missing_ok=True)

    def write(self) -> None:
        for name, content in self._unwritten.items():
            path = self._folder / name
            path.unlink(missing_ok=True)  # file systems flush a file that is cut to nothing and written anew
            path.write_bytes(content)
        self._unwritten, self._unwritten_bytes = {}, 0


def _place(member: tarfile.TarInfo) -> tuple[str, str, str, int | None] | None:
    """(task, episode, what stands before the number, number of the frame) that a member's name says; no number for what
    is no picture."""
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts:
        return None
    parts = [part for part in parts if part not in ("", ".")]
    if parts and not _ID.fullmatch(parts[0]):
        del parts[0]
    if len(parts) < 2 or not (_ID.fullmatch(parts[0]) and _ID.fullmatch(parts[1])):
        return None
    if len(parts) == 2 and not member.isdir():
        return None
    frame = _FRAME.fullmatch(parts[2]) if len(parts) == 3 else None
    return parts[0], parts[1], frame["front"] if frame else "", int(frame["number"]) if frame else None


def _name(member: tarfile.TarInfo) -> str:
    return member.name.rpartition("/")[2]


def _why_unusable(member: tarfile.TarInfo) -> str | None:
    if not member.isreg():
        return f"{_name(member)} is no regular file"
    if member.size > MOST_FRAME_BYTES:
        return f"{_name(member)} has {member.size:,} bytes, {MOST_FRAME_BYTES:,} are allowed"
    return None


def _finish(path: Path, number: int | None) -> Frame:
    """Decode the picture whole, make it a PNG if it is a JPEG, and see it onto the disk; ValueError if it is broken."""
    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as header:
            kind, (width, height) = header.format, header.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError("is no PNG or JPEG" if content else "is empty") from error
    if width * height > MOST_PIXELS:
        raise ValueError(f"has {width} x {height} pixels, {MOST_PIXELS:,} are allowed")
    if problem := intact_problem(content):
        raise ValueError(f"is broken ({problem})")
    try:
        picture: Image.Image = Image.open(io.BytesIO(content))
        # Decoded, and no more: laying transparency over white would take four times the memory.
        turn_upright(picture)
        width, height = picture.size
        if kind != "PNG":
            picture = picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"is broken ({error})") from error
    if kind != "PNG":
        picture.save(path, "PNG")
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    name = f"{path.name}.png"
    return Frame(number, name, path.stat().st_size, sha256_file(path), width, height)


def _order(task: str, episode: str) -> tuple[int, int, str, str]:
    return int(task), int(episode), task, episode


def _sync(folder: Path) -> None:
    """See the names in a folder onto the disk, where the system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
