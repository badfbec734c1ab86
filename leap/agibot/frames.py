"""The first frame of every episode of an AgiBot archive, taken out of the stream without unpacking it.

`task_<task>.tar.gz` holds `<task>/<episode>/<number>.png`, in any order, perhaps below one more folder. The first frame
is that with the lowest number. It lies in data/images/<task>-<episode>.png once the whole archive has proved intact;
data/agibot/task_<task>.json, written last, says which are there and which episodes are left out, with reasons.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from configs.errors import UserError
from leap.archives import BrokenArchive, tar_stream, work_folder
from leap.files import read_json, sha256_file, write_json
from leap.images import decode_image

# What a frame and an archive may come to at most, so that a worker's memory and disk stay small whatever it is given.
MOST_FRAME_BYTES = 32 * 1024**2
MOST_PIXELS = 4096 * 4096
MOST_EPISODES = 1_000_000
SPARE_BYTES = 64 * 1024**2  # first frames may take as much as their archive and this

ARCHIVE_NAME = re.compile(r"(?:task_)?([0-9]{1,20})\.(?:tar\.gz|tgz)")
_ID = re.compile(r"[0-9]{1,20}")
_FRAME = re.compile(r"([0-9]{1,20})\.(?:png|jpe?g)", re.IGNORECASE)


@dataclass(frozen=True)
class Frame:
    """A first frame in place: its number in the episode, its file in data/images and what that holds."""

    number: int
    file: str
    bytes: int
    sha256: str
    width: int
    height: int


@dataclass
class Manifest:
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


@dataclass
class _Episode:
    """What the stream has shown of an episode so far: its lowest frame, or why that is none."""

    number: int | None = None
    problem: str | None = "has no frame"
    bytes: int = 0


def manifest_path(data: Path, task_id: str) -> Path:
    return data / "agibot" / f"task_{task_id}.json"


def frame_path(data: Path, task_id: str, episode_id: str) -> Path:
    return data / "images" / f"{task_id}-{episode_id}.png"


def work_path(data: Path, task_id: str) -> Path:
    """Where the frames of a task wait until its archive is read; on the disk of the images."""
    return data / "images" / f".task_{task_id}.part"


def read_manifest(path: Path) -> Manifest:
    """UserError if the file is missing or no manifest."""
    content = read_json(path)
    try:
        episodes = {episode: Frame(**frame) for episode, frame in content.pop("episodes").items()}
        return Manifest(**content, episodes=episodes)
    except (TypeError, AttributeError, KeyError) as error:
        raise UserError(
            f"{path} is no manifest of first frames ({error}). Remove it, and the task is done anew"
        ) from error


def why_not_done(
    data: Path, task_id: str, archive_bytes: int, sha256: str | None = None, verify: bool = False
) -> str | None:
    """Why the frames of a task must be taken from its archive (of such size and hash), or None if all are in place.

    Compares the frames' sizes; with `verify` their hashes.
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
        if place.stat().st_size != frame.bytes or (verify and sha256_file(place) != frame.sha256):
            return f"{place} is not what was written"
    return None


def take_first_frames(
    archive: Path, data: Path, task_id: str, sha256: str | None = None, revision: str | None = None
) -> Manifest:
    """Put the first frames of `archive` into data/images and write the task's manifest.

    A kill at any moment leaves whole frames of an intact archive, or nothing; the next call does the rest. Episodes
    whose first frame is missing, damaged, too large or of another task are quarantined.

    BrokenArchive if the archive is damaged or holds no episode; UserError if another process works on the task.
    """
    size = archive.stat().st_size
    with work_folder(work_path(data, task_id)) as work:
        manifest = Manifest(task_id, archive.name, size, sha256, revision)
        seen = _collect(archive, work, size, manifest)
        if not seen:
            raise BrokenArchive(f"{archive}: holds no <task>/<episode>/<number>.png")
        if not any(task == task_id for task, _ in seen):
            raise BrokenArchive(f"{archive}: holds no episode of task {task_id}, but of task {min(seen)[0]}")
        for (task, episode), found in sorted(seen.items(), key=lambda item: _order(*item[0])):
            problem = found.problem or (f"is of task {task}" if task != task_id else None)
            if problem is None:
                try:
                    manifest.episodes[episode] = _finish(work / f"{task}-{episode}", found.number)
                except ValueError as error:
                    problem = f"frame {found.number} {error}"
            if problem:
                manifest.quarantined.append({"task_id": task, "episode_id": episode, "reason": problem})
        for episode in manifest.episodes:
            (work / f"{task_id}-{episode}").replace(frame_path(data, task_id, episode))
        _sync(data / "images")
        write_json(manifest_path(data, task_id), asdict(manifest))
    return manifest


def _collect(archive: Path, work: Path, size: int, manifest: Manifest) -> dict[tuple[str, str], _Episode]:
    """Read the whole archive; the lowest frame of each (task, episode) is then a file in `work`."""
    seen: dict[tuple[str, str], _Episode] = {}
    held = 0
    with tar_stream(archive) as tar:
        for member in tar:
            place = _place(member)
            if place is None:
                manifest.ignored += not member.isdir()
                continue
            task, episode, number = place
            found = seen.setdefault((task, episode), _Episode())
            if len(seen) > MOST_EPISODES:
                raise BrokenArchive(f"{archive}: more than {MOST_EPISODES:,} episodes")
            if number is None or (found.number is not None and number > found.number):
                continue
            if number == found.number:
                found.problem = f"has frame {number} twice"
                continue
            held -= found.bytes
            found.number, found.bytes, found.problem = number, 0, _why_unusable(member)
            if found.problem or task != manifest.task_id:
                (work / f"{task}-{episode}").unlink(missing_ok=True)
                continue
            found.bytes = member.size
            held += member.size
            if held > size + SPARE_BYTES:
                raise BrokenArchive(f"{archive}: its first frames take more than {size + SPARE_BYTES:,} bytes")
            (work / f"{task}-{episode}").write_bytes(tar.extractfile(member).read())
    return seen


def _place(member: tarfile.TarInfo) -> tuple[str, str, int | None] | None:
    """(task, episode, number of the frame) that a member's name says; no number for what is no picture."""
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
    return parts[0], parts[1], int(frame[1]) if frame else None


def _why_unusable(member: tarfile.TarInfo) -> str | None:
    if not member.isreg():
        return f"{member.name.rpartition('/')[2]} is no regular file"
    if member.size > MOST_FRAME_BYTES:
        return f"{member.name.rpartition('/')[2]} has {member.size:,} bytes, {MOST_FRAME_BYTES:,} are allowed"
    return None


def _finish(path: Path, number: int) -> Frame:
    """Decode the picture whole, make it a PNG if it is a JPEG, and see it onto the disk; ValueError if it is broken."""
    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
            kind, (width, height) = picture.format, picture.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError("is no PNG or JPEG" if content else "is empty") from error
    if width * height > MOST_PIXELS:
        raise ValueError(f"has {width} x {height} pixels, {MOST_PIXELS:,} are allowed")
    try:
        decoded = decode_image(content)
    except ValueError as error:
        raise ValueError(f"is broken ({error})") from error
    if kind != "PNG":
        buffer = io.BytesIO()
        decoded.save(buffer, "PNG")
        content = buffer.getvalue()
    with open(path, "r+b") as file:
        if kind != "PNG":
            file.write(content)
            file.truncate()
        os.fsync(file.fileno())
    name = f"{path.name}.png"
    return Frame(number, name, len(content), hashlib.sha256(content).hexdigest(), width, height)


def _order(task: str, episode: str) -> tuple[int, int, str, str]:
    return int(task), int(episode), task, episode


def _sync(folder: Path) -> None:
    """See the names in a folder onto the disk, where the system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
