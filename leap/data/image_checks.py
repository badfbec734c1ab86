"""One look at each picture file: does it decode, is it blank, how large is it, what does it look like.

What a look told is kept in a hidden file for the next run, and counts as long as the file has the size and time of
change that it had. Bounds are applied to what was kept, so that another bound needs no other look.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import warnings
from collections.abc import Collection, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from configs.errors import UserError
from leap.data.near_duplicates import perceptual_hash, thumbnail
from leap.files import Journal, read_jsonl, stamp_of
from leap.progress import Progress, say
from leap.rows.images import decode_image
from leap.runs.workers import Failure, run_tasks

_ENDINGS = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"))

# Kinds of defects. `UNREADABLE` is a failure of the machine, so the file may be sound.
MISSING, BROKEN, BLANK, ODD_SIZE, UNREADABLE = "missing", "broken", "blank", "odd size", "unreadable"
KINDS = (MISSING, BROKEN, BLANK, ODD_SIZE, UNREADABLE)

_RULE = 3  # of reading pictures, raised where another one would read a file otherwise

_CHUNK = 64  # pictures a worker takes at once, and that are written down at once
_MOST_BYTES_A_PIXEL, _MOST_HEADER = 8, 1 << 20  # a larger file is not even read
_FEWEST_LINES = 1000  # below which a file of looks is never made shorter


@dataclass(frozen=True)
class Limits:
    """What a sound picture keeps to: pixels of its shorter side and in all, longer side over shorter, and the standard
    deviation (0 to 255) of its liveliest colour channel, below which it is blank."""

    min_side: int
    max_pixels: int
    max_aspect: float
    blank_deviation: float


@dataclass(frozen=True)
class PictureCheck:
    """What one look told about a file. `problem` says why it does not decode; `width` and `height` are those of
    the upright picture, or its header's if it was not decoded.

    `deviation` is the standard deviation (0 to 255) of the liveliest colour channel; it and what follows are None if
    the picture was not decoded: it is broken, or too large.
    """

    stamp: str
    problem: str = ""
    width: int | None = None
    height: int | None = None
    deviation: float | None = None
    sha256: str | None = None
    hash: str | None = None  # 16 hexadecimal digits
    thumbnail: str | None = None  # hexadecimal
    unreadable: bool = False

    def defect(self, limits: Limits) -> tuple[str, str] | None:
        """(kind, reason), or None if the picture is sound."""
        if self.unreadable:
            return UNREADABLE, self.problem
        if self.problem:
            return BROKEN, self.problem
        return self._odd_size(limits) or self._blank(limits)

    def _odd_size(self, limits: Limits) -> tuple[str, str] | None:
        width, height = self.width or 0, self.height or 0
        size = f"{width} x {height} pixels"
        if width * height > limits.max_pixels:
            return ODD_SIZE, f"{size} are more than {limits.max_pixels:,} in all"
        if min(width, height) < limits.min_side:
            return ODD_SIZE, f"{size}: a side is under {limits.min_side}"
        if max(width, height) > limits.max_aspect * min(width, height):
            return ODD_SIZE, f"{size}: one side is more than {limits.max_aspect:g} times the other"
        return None

    def _blank(self, limits: Limits) -> tuple[str, str] | None:
        if self.deviation is not None and self.deviation < limits.blank_deviation:
            return BLANK, f"all but one colour (standard deviation {self.deviation:.2f} of 255)"
        return None


def is_picture(name: str) -> bool:
    """Whether a file has the name of a picture."""
    return Path(name).suffix.lower() in _ENDINGS


def look_stamp(path: Path) -> str:
    """What a look counts for: the file as it is, read by the present rule. OSError if it is not there."""
    return f"{_RULE}-{stamp_of([path])}"


def check_picture(path: Path, max_pixels: int) -> PictureCheck:
    """Read and decode one file; nothing wrong with it raises."""
    try:
        stamp = look_stamp(path)
        if (size := path.stat().st_size) > _MOST_BYTES_A_PIXEL * max_pixels + _MOST_HEADER:
            return PictureCheck("", f"{size:,} bytes are too many for {max_pixels:,} pixels", unreadable=True)
        content = path.read_bytes()
    except OSError as error:
        return PictureCheck("", f"cannot be read ({error.strerror})", unreadable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(content)) as header:
                width, height = header.size
            if width * height > max_pixels:
                return PictureCheck(stamp, "", width, height)
            picture = decode_image(content)
        except Image.DecompressionBombError:
            return PictureCheck(stamp, "its header claims more pixels than any picture has")
        except (OSError, SyntaxError, ValueError) as error:
            return PictureCheck(stamp, _reason(content, error))
    return PictureCheck(
        stamp,
        "",
        *picture.size,
        round(_deviation(picture), 3),
        hashlib.sha256(content).hexdigest(),
        f"{perceptual_hash(picture):016x}",
        thumbnail(picture).hex(),
    )


def checks_journal(folder: Path) -> Path:
    """Where the looks at the pictures of planning files in `folder` are kept."""
    return folder / ".image_checks.jsonl"


def journaled_checks(folders: Iterable[Path]) -> dict[str, PictureCheck]:
    """What is kept of looks in these folders, by path; a look counts if its stamp is still the file's."""
    checks: dict[str, PictureCheck] = {}
    for folder in folders:
        if checks_journal(folder).is_file():
            with contextlib.suppress(UserError, TypeError, KeyError):
                checks |= _checks_in(read_jsonl(checks_journal(folder)))
    return checks


def check_pictures(paths: Collection[Path], cache: Path, workers: int, max_pixels: int) -> dict[Path, PictureCheck]:
    """A look at each file, by `workers` processes; those that the file `kept` holds are not taken again.

    UserError if workers die again and again on the same pictures; what was looked at until then is kept. However this
    process ends, its workers end with it, and none of them holds the lock of `kept`.
    """
    journal, journaled = _opened(cache)
    try:
        earlier = ((path, journaled.get(str(path))) for path in paths)
        checks = {path: check for path, check in earlier if check and _still_counts(check, path, max_pixels)}
        left = [path for path in paths if path not in checks]
        batches = _check_batches(left, workers, max_pixels)
        with (
            contextlib.closing(batches),
            Progress("looking at pictures", len(paths), "picture", done=len(checks)) as progress,
        ):
            for chunk, results in batches:
                checks |= zip(chunk, results, strict=True)
                if journal:
                    pairs = zip(chunk, results, strict=True)
                    journal.append(_record(str(path), check) for path, check in pairs if not check.unreadable)
                progress.advance(len(chunk))
        return checks
    finally:
        if journal:
            journal.close()


def _check_batches(
    paths: Sequence[Path], workers: int, max_pixels: int
) -> Generator[tuple[list[Path], list[PictureCheck]], None, None]:
    """Looks at all paths, a batch of them at a time, in the order in which they are done."""
    chunks = [list(paths[i : i + _CHUNK]) for i in range(0, len(paths), _CHUNK)]
    check_chunk = partial(_check_chunk, max_pixels=max_pixels)
    if workers == 1 or len(chunks) < 2:
        yield from zip(chunks, map(check_chunk, chunks), strict=True)
        return
    with contextlib.closing(run_tasks(check_chunk, chunks, workers)) as finished:
        for chunk, results in finished:
            if not isinstance(results, Failure):
                yield chunk, results
            elif results.details:
                raise RuntimeError(results.details)
            else:
                raise UserError(
                    f"processes that decode pictures were killed, most likely for want of memory ({results.reason}: "
                    f"{chunk[0]} or one of the {len(chunk) - 1} after it); lower --workers or --max_pixels. The same "
                    "command continues where it was"
                )


def _check_chunk(paths: Iterable[Path], max_pixels: int) -> list[PictureCheck]:
    return [check_picture(path, max_pixels) for path in paths]


def _opened(cache: Path) -> tuple[Journal | None, dict[str, PictureCheck]]:
    """The file of looks, ready for more, and the latest look at each path; none where it cannot be written."""
    try:
        journal = Journal(cache)
    except OSError as error:
        say(f"looks are not kept for the next run: {cache.parent}: {error.strerror}")
        return None, {}
    except UserError as error:  # two trainings may begin with the same rows
        say(f"looks are not kept for the next run: {error}")
        return None, journaled_checks([cache.parent])
    try:
        records = journal.read()
        journaled = _checks_in(records)
    except (UserError, TypeError, KeyError):
        journal.close()
        cache.unlink()
        return Journal(cache), {}
    if len(records) > 2 * len(journaled) + _FEWEST_LINES:
        journal.rewrite(list(map(_record, journaled, journaled.values())))
    return journal, journaled


def _checks_in(records: Iterable[dict]) -> dict[str, PictureCheck]:
    """The latest look at each path."""
    return {record["path"]: PictureCheck(**{key: record[key] for key in record if key != "path"}) for record in records}


def _record(path: str, check: PictureCheck) -> dict:
    return {"path": path} | asdict(check)


def _still_counts(check: PictureCheck, path: Path, max_pixels: int) -> bool:
    try:
        same = look_stamp(path) == check.stamp
    except OSError:
        return False
    if check.width is None or check.height is None or check.deviation is not None:
        return same
    return same and check.width * check.height > max_pixels


def _deviation(picture: Image.Image) -> float:
    """The largest standard deviation of the three channels, over the whole picture."""
    counts, levels = np.array(picture.histogram()).reshape(3, 256), np.arange(256)
    pixels = picture.width * picture.height
    means = counts @ levels / pixels  # (channels,)
    variances = (counts * (levels - means[:, None]) ** 2).sum(axis=1) / pixels
    return math.sqrt(variances.max())


def _reason(content: bytes, error: Exception) -> str:
    if not content:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture"
    return (str(error) or type(error).__name__).splitlines()[0]
