"""Files that survive a kill: replaced in one step, appended line by line, named by their content."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from configs.errors import UserError

_LONGEST_CSV_FIELD = 10_000_000  # characters
# A spreadsheet program computes a cell that begins like this; "'" before it says that it is text.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?")
_YOUNG_S = 60.0  # a file that is being made is locked within so many seconds

_swept: set[Path] = set()  # folders whose leftovers this process has looked for


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write beside `path`, then rename over it: a reader sees the old file or the new one, never a part.

    What killed processes left of their parts, of any file, is removed when a process first writes into the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _swept:
        _swept.add(path.parent)
        _remove_leftovers(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            locked(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _remove_leftovers(folder: Path) -> None:
    """Remove the parts in `folder` that no process writes any more."""
    for part in folder.glob(f".*.{'[a-z0-9_]' * 8}.part"):  # as mkstemp names them
        with contextlib.suppress(OSError), open(part, "rb") as file:
            if time.time() - os.fstat(file.fileno()).st_mtime > _YOUNG_S and locked(file, without_locks=False):
                part.unlink()


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into `folder`, which is made if it is not there, and goes if it stays empty.

    UserError if another process has it.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not locked(handle):
            raise UserError(f"{folder} is being written by another process; wait for it or stop it")
        yield
        made = False
    finally:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) in one step."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Replace `path` by a CSV file in one step; None is an empty field. A text that a spreadsheet program would compute
    gets a "'" in front, which `csv_reader` takes away."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_as_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    # A model's text may hold lone surrogates, which UTF-8 cannot carry.
    write_text(path, text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8"))


def _as_text(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


class _TextReader(csv.DictReader):
    def __next__(self) -> dict:
        row = super().__next__()
        return {name: _as_written(cell) if isinstance(cell, str) else cell for name, cell in row.items()}


def _as_written(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_reader(lines: Iterable[str], delimiter: str = ",") -> csv.DictReader:
    """Rows of a CSV file whose fields may be as long as a model's text; the csv module alone stops at 131,072
    characters."""
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    return _TextReader(lines, delimiter=delimiter)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as indented JSON in one step."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`; UserError if it is missing or is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"file not found: {path}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error


class Journal:
    """An append-only JSONL file. A line counts once its newline is on disk; a torn last line is cut off on opening.

    One writer at a time: opening takes a lock, and a second process gets a UserError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115  closed by close()
        if not locked(self._file):
            self._file.close()
            raise UserError(f"{path} is being written by another process; wait for it or stop it")
        self.repaired_bytes = self._cut_torn_line()

    def _cut_torn_line(self) -> int:
        size = self._file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - 65536)
            self._file.seek(start)
            newline = self._file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            self._file.truncate(end)
            self._file.seek(0, os.SEEK_END)
        return size - end

    def read(self) -> list[dict]:
        """All lines, in order of writing. UserError names the line that is no JSON object."""
        return read_jsonl(self.path)

    def rewrite(self, records: Sequence[dict]) -> None:
        """Replace all lines in one step; the lock goes over to the new file. Does nothing if they are these already."""
        if self.read() == records:
            return
        with replacing(self.path) as file:
            file.write(_lines(records))
            descriptor = os.dup(file.fileno())
            locked(file)
        self._file.close()
        self._file = os.fdopen(descriptor, "r+b")
        self._file.seek(0, os.SEEK_END)

    def append(self, records: Iterable[dict]) -> None:
        """Write one line a record, on disk before this returns."""
        self._file.write(_lines(records))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def write_jsonl(path: Path, records: Iterable[dict], nothing: UserError | None = None) -> int:
    """Replace `path` by a line a record, in one step, each written as it comes; how many there were. `nothing` is
    raised where there are none, and the old file stays."""
    count = 0
    with replacing(path) as file:
        for record in records:
            file.write(_lines([record]))
            count += 1
        if nothing and not count:
            raise nothing
    return count


def _lines(records: Iterable[dict]) -> bytes:
    # ASCII, with escapes: a model's text may hold lone surrogates, which UTF-8 cannot carry.
    return "".join(json.dumps(record) + "\n" for record in records).encode("ascii")


def read_jsonl(path: Path) -> list[dict]:
    """The JSON objects of a JSONL file, empty lines skipped; UserError with file:line otherwise."""
    return [record for _, record in numbered_jsonl(path)]


def numbered_jsonl(path: Path) -> Iterator[tuple[int, dict]]:
    """(line number from 1, object) of a JSONL file, empty lines skipped; UserError with file:line otherwise."""
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, json_object(line, f"{path}:{number}")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def json_object(line: bytes, where: str) -> dict:
    """The JSON object in a line of UTF-8, which may begin with the byte order mark that some editors write; UserError
    that begins with `where` if it is none."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 text: {error.reason} at byte {error.start}"
        raise UserError(f"{where}: not valid JSON ({reason}). Mend or remove the line", "not JSON") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON ({error}). Mend or remove the line", "not JSON") from error
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(record).__name__}")
    return record


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hash of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def stamp_of(paths: Iterable[Path]) -> str:
    """A short hash of files' paths, sizes and times of change. OSError if one is not there."""
    stats = ((str(path), os.stat(path)) for path in paths)
    return sha256_json([[path, stat.st_size, stat.st_mtime_ns] for path, stat in stats])[:16]


def free_bytes(folder: Path) -> int:
    """Free bytes of the file system that `folder`, which need not be there yet, is on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk or a quota is full."""
    # safetensors and torch.save report it as text only.
    words = ("os error 28", "os error 122", "PytorchStreamWriter failed", "inline_container.cc")
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(word in str(error) for word in words)


def locked(file: BinaryIO | int, *, shared: bool = False, without_locks: bool = True) -> bool:
    """Lock an open file or descriptor for this process, unless another one has it: then False. `shared` is a lock that
    other processes may share; it waits until no process has the file for itself.

    Some network file systems have no locks. There the answer is `without_locks`: True where one writer at a time is the
    user's care, False where a mistake would delete what another process uses.
    """
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without_locks
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
