"""The record of a download: leap_download.json beside the files.

    {"repo_id": "VLABench/vlm_evaluation_v1.0", "repo_type": "dataset", "revision": "main", "commit": "<40 hex digits>",
     "host": "huggingface.co", "time": "...", "selections": [{"patterns": ["M&T/*"], "skip": []}],
     "files": {"M&T/...": {"size": 123, "sha256": "..." or "git_sha1": "...", "mtime_ns": ..., "earlier": [...]}},
     "unpacked": {"images.tar.gz": {"sha256": "...", "files": 168042}}}

`commit` is what a later run and `--fix` fetch again. `selections` are the choices whose files are all in `files`.
`mtime_ns` is the time of change that a file had when its hash was right; without it the hash was not checked yet.
`earlier` are size and hash that the file had at commits before, as long as that may still be what lies there.
`unpacked` are archives that did their work and need not be there.
"""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from configs.errors import UserError
from leap.downloads.access import host
from leap.downloads.fetch import RECORD, Listing, RemoteFile, content_problem, local_path, refuse_unsafe
from leap.files import read_json, write_json
from leap.provenance import utc_now

_KEYS = ("repo_id", "repo_type", "revision", "commit", "host", "time")


@dataclass(frozen=True)
class Selection:
    """Which files of a repository: those that match one of `patterns` (none: all), less those that match `skip`.

    `*` matches across folders, as in "Spatial/*". `skip` is compared with the path and with the name alone.
    """

    patterns: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Whether the file is one of them."""
        skipped = _matches(path, self.skip) or _matches(path.rpartition("/")[2], self.skip)
        return not skipped and (not self.patterns or _matches(path, self.patterns))


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


@dataclass
class Record:
    """What was fetched into a folder, from where; `verified` are the times of change (ns) of files whose hash was
    right then, `earlier` what the others were at earlier commits."""

    repo_id: str
    repo_type: str
    revision: str
    commit: str
    host: str
    time: str = ""
    selections: list[Selection] = field(default_factory=list)
    files: dict[str, RemoteFile] = field(default_factory=dict)
    verified: dict[str, int] = field(default_factory=dict)
    earlier: dict[str, list[RemoteFile]] = field(default_factory=dict)
    unpacked: dict[str, dict] = field(default_factory=dict)

    def selected(self, selection: Selection) -> list[RemoteFile]:
        """The recorded files of a selection, by path."""
        return [file for path, file in sorted(self.files.items()) if selection.takes(path)]

    def recorded_selection(self, select: Callable[[list[str]], Selection]) -> Selection | None:
        """What `select` takes of the recorded paths, if just that was selected earlier; else None."""
        try:
            selection = select(list(self.files))
        except UserError:
            return None
        return selection if selection in self.selections else None

    @classmethod
    def from_listing(
        cls, listing: Listing, source: tuple[str, str], revision: str, selections: list[Selection]
    ) -> Record:
        """A new record of the listed files of these selections."""
        files = {file.path: file for file in listing.files if any(choice.takes(file.path) for choice in selections)}
        return cls(*source, revision, listing.commit, host(), selections=selections, files=files)

    def remember(self, old: Record) -> None:
        """Take over from an earlier record what it knows of the files that are in this one: those that are the same
        stay known to be right, of the others it is known what they were."""
        for path in self.files.keys() & old.files.keys():
            if self.files[path] == old.files[path] and path in old.verified:
                self.verified[path] = old.verified[path]
            else:
                versions = dict.fromkeys([*old.earlier.get(path, ()), old.files[path]])
                if others := [file for file in versions if file != self.files[path]]:
                    self.earlier[path] = others
        self.unpacked = dict(old.unpacked)

    def note_right(self, file: RemoteFile, folder: Path) -> None:
        self.verified[file.path] = (folder / file.path).stat().st_mtime_ns
        self.earlier.pop(file.path, None)

    def was_unpacked(self, file: RemoteFile) -> bool:
        """Whether this is an archive that did its work and need not be there."""
        return self.unpacked.get(file.path, {}).get("sha256") == file.digest

    def write(self, folder: Path) -> None:
        """Write it into `folder`, in one step, if anything but the time is new."""
        files = {path: _entry(file) for path, file in sorted(self.files.items())}
        for path, changed_ns in self.verified.items():
            files[path]["mtime_ns"] = changed_ns
        for path, versions in self.earlier.items():
            files[path]["earlier"] = [_entry(file) for file in versions]
        selections = [{key: list(value) for key, value in asdict(choice).items()} for choice in self.selections]
        content = {key: getattr(self, key) for key in _KEYS}
        content |= {"selections": selections, "files": files, "unpacked": self.unpacked}
        if not (folder / RECORD).is_file() or read_json(folder / RECORD) != content:
            self.time = content["time"] = utc_now()
            write_json(folder / RECORD, content)


def _entry(file: RemoteFile) -> dict:
    return {key: value for key, value in asdict(file).items() if key != "path" and value is not None}


def _file(path: str, entry: dict) -> RemoteFile:
    return RemoteFile(path, entry["size"], entry.get("sha256"), entry.get("git_sha1"))


def read_record(folder: Path) -> Record | None:
    """The record in `folder`, or None if there is none. UserError if it is damaged."""
    path = folder / RECORD
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        entries = content["files"].items()
        record = Record(
            **{key: content[key] for key in _KEYS},
            selections=[Selection(tuple(entry["patterns"]), tuple(entry["skip"])) for entry in content["selections"]],
            files={path: _file(path, entry) for path, entry in entries},
            verified={path: entry["mtime_ns"] for path, entry in entries if "mtime_ns" in entry},
            earlier={path: [_file(path, e) for e in entry["earlier"]] for path, entry in entries if "earlier" in entry},
            unpacked=dict(content["unpacked"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path} is no record of a download ({error!r}). Delete it; files that are right stay"
        ) from error
    refuse_unsafe([*record.files.values(), *itertools.chain(*record.earlier.values())], str(path))
    return record


def why_fetch(file: RemoteFile, folder: Path, record: Record | None, *, hash_again: bool) -> str | None:
    """Why a file has to be fetched, or None if it is there: by size and, where its hash was right before, by its time
    of change; else by its hash."""
    path = local_path(file.path, folder)
    if record is not None and record.files.get(file.path) == file and not hash_again and path.exists():
        stat = path.stat()
        if (stat.st_size, stat.st_mtime_ns) == (file.size, record.verified.get(file.path)):
            return None
    return content_problem(path, file)
