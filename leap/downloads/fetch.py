"""From the Hub to disk: list a repository, fetch a file and verify it.

A file is fetched into a folder of its own below `.leap_download/` in the target, verified there, and renamed into its
place: under its name it is whole and right, or absent. A text that somebody changed stays beside it. huggingface_hub
does the transfer; `leap.downloads.access` decides how long to insist. Imports huggingface_hub only when used, so that
HF_ENDPOINT can be set before.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import importlib.util
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from configs.errors import UserError
from leap.downloads.access import DownloadFailed, Patience, TryAgain, clean_text, host, plain_errors, prepare_client
from leap.files import locked
from leap.progress import say

STAGING = ".leap_download"
PART = "part"  # in the staging folder of a file: its first bytes
RECORD = "leap_download.json"
_TRIES_OF_WRONG_CONTENT = 3
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_BLOCK = 1 << 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_LARGE = 32 << 20  # bytes from which Xet is worth its way
_PIECES = 5  # of what plain HTTP gives in one answer, for a file that is larger than that
_TEXTS = (".json", ".jsonl", ".csv", ".md", ".txt", ".yaml", ".yml", ".toml", ".jinja", ".py")


class NoSpace(UserError):
    """The disk is full."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its path there, its size in bytes and its hash, of which one is set."""

    path: str
    size: int
    sha256: str | None = None  # files in LFS or Xet
    git_sha1: str | None = None  # small files: Git's hash of the blob


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit."""

    commit: str
    files: list[RemoteFile]


def list_files(
    repo_id: str,
    repo_type: str,
    revision: str | None = None,
    patterns: Sequence[str] = (),
    patience: Patience | None = None,
) -> Listing:
    """The files at a revision (default: the newest) whose path matches one of `patterns` (default: all), by path.

    `*` matches across folders, as in "Spatial/*". Only the folders that the patterns name are asked for. UserError if
    there is no such repository or revision, it is refused, or the listing holds a path that is unsafe here.
    """
    from huggingface_hub import HfApi

    prepare_client()
    api = HfApi()
    patience = patience or Patience()

    def ask() -> Listing:
        with plain_errors(repo_id, repo_type, revision):
            commit = api.repo_info(repo_id, revision=revision, repo_type=repo_type).sha
            found = {}
            for folder in _folders_of(patterns):
                found |= {file.path: file for file in _files_below(api, repo_id, repo_type, commit, folder)}
        return Listing(commit, [found[path] for path in sorted(found) if matches(path, patterns)])

    try:
        listing = patience.insist(f"list of {repo_id}", ask)
    except DownloadFailed as error:
        raise UserError(f"{error}. Check the network, or HF_ENDPOINT if it is set") from error
    if not _SHA1.fullmatch(listing.commit or ""):
        raise UserError(f"{host()} names no commit of {repo_id}; is HF_ENDPOINT a Hub?")
    refuse_unsafe(listing.files, repo_id)
    return listing


def matches(path: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _folders_of(patterns: Sequence[str]) -> list[str | None]:
    """The folders that hold everything the patterns can match; None is the whole repository."""
    folders = set()
    for pattern in patterns:
        literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        folders.add(literal.rpartition("/")[0] or None)
    return [None] if not folders or None in folders else sorted(folders)


def _files_below(api: Any, repo_id: str, repo_type: str, commit: str, folder: str | None) -> list[RemoteFile]:
    from huggingface_hub.errors import RemoteEntryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    try:
        entries = list(
            api.list_repo_tree(repo_id, path_in_repo=folder, recursive=True, revision=commit, repo_type=repo_type)
        )
    except RemoteEntryNotFoundError:
        return []
    return [
        RemoteFile(e.path, e.lfs.size, sha256=e.lfs.sha256) if e.lfs else RemoteFile(e.path, e.size, git_sha1=e.blob_id)
        for e in entries
        if isinstance(e, RepoFile)
    ]


def refuse_unsafe(files: Iterable[RemoteFile], repo_id: str) -> None:
    """UserError for a path that would leave the target folder or hit our own files there, and for a size or a hash
    that is none."""
    paths: set[str] = set()
    for file in files:
        parts = file.path.split("/")
        windows = PureWindowsPath(file.path)
        if (
            not file.path.isprintable()
            or "\\" in file.path
            or any(part in ("", ".", "..") for part in parts)
            or windows.drive
            or windows.root
            or parts[0] in (STAGING, RECORD)
        ):
            raise UserError(
                f"{repo_id} lists the path {file.path!r}, which may not be written here; nothing was fetched"
            )
        good_hash = _SHA256.fullmatch(file.sha256) if file.sha256 else _SHA1.fullmatch(file.git_sha1 or "")
        if not isinstance(file.size, int) or file.size < 0 or not good_hash:
            raise UserError(f"{repo_id} lists {file.path} with a size or a hash that is none; is HF_ENDPOINT a Hub?")
        paths.add(file.path)
    for path in paths:
        for parent in PurePosixPath(path).parents:
            if str(parent) in paths:
                raise UserError(f"{repo_id} lists {str(parent)!r} as a file and as a folder; nothing was fetched")


def place_of(file: RemoteFile, folder: Path) -> Path:
    """Where a file belongs. UserError if a symbolic link stands in the way: it could lead out of the folder."""
    path = folder
    for part in file.path.split("/"):
        path = path / part
        if path.is_symlink():
            raise UserError(
                f"{path} is a symbolic link, and nothing is written through one; remove it, or name another folder"
            )
    return path


def content_problem(path: Path, file: RemoteFile) -> str | None:
    """Why the file at `path` is not the one of the Hub (size, then hash), or None."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "is missing"
    if not path.is_file():
        return "is no file"
    if size != file.size:
        return f"has {size:,} bytes, {file.size:,} expected"
    kind, expected = ("sha256", file.sha256) if file.sha256 else ("sha1", file.git_sha1)
    digest = hashlib.new(kind) if file.sha256 else hashlib.sha1(b"blob %d\0" % size)
    with open(path, "rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    found = digest.hexdigest()
    return None if found == expected else f"has the {kind} {found[:12]}..., {expected[:12]}... expected"


def download_file(
    repo_id: str,
    repo_type: str,
    file: RemoteFile,
    revision: str,
    folder: Path,
    patience: Patience | None = None,
    count: Callable[[int], None] | None = None,
    earlier: Sequence[RemoteFile] = (),
) -> Path:
    """Fetch one file at a commit into `folder`, verify it, put it in its place, and return that.

    Replaces what is there, and goes on with what a killed run left of it; a text that is none of the `earlier` versions
    stays beside the new one as `<name>.changed-1`. `count` is told bytes as they come (negative ones if they have to
    come again). UserError for what more tries cannot mend (refused, gone, wrong name, disk full: NoSpace);
    DownloadFailed if the tries are used up: then what came stays in `.leap_download/`.
    """
    prepare_client()
    patience = patience or Patience()
    target = place_of(file, folder)
    staging = staging_of(file, folder)
    counted = _Counted(file.size, count or (lambda _: None), patience)
    wrong: list[str] = []
    tries = iter(range(1_000_000))

    def fetch() -> None:
        with plain_errors(repo_id, repo_type, revision):
            staging.mkdir(parents=True, exist_ok=True)
            part = _transfer(repo_id, repo_type, file, revision, staging, counted, first=next(tries) == 0)
        problem = content_problem(part, file)
        if problem is None:
            _publish(part, target, (file, *earlier))
            return
        shutil.rmtree(staging)
        wrong.append(problem)
        if len(wrong) >= _TRIES_OF_WRONG_CONTENT:
            raise DownloadFailed(f"{file.path}: what {host()} sends {problem} ({len(wrong)} tries)")
        raise TryAgain(f"what {host()} sent {problem}")

    try:
        patience.insist(file.path, fetch)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        if error.errno in _DISK_FULL:
            raise NoSpace(f"no space left on the disk of {folder}") from error
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error
    except (UserError, DownloadFailed):
        counted.settle(0)
        raise
    counted.settle(file.size)
    shutil.rmtree(staging, ignore_errors=True)
    return target


def staging_of(file: RemoteFile, folder: Path) -> Path:
    """The folder of its own in which a file is fetched and verified."""
    return folder / STAGING / hashlib.sha256(file.path.encode()).hexdigest()[:16]


def _transfer(
    repo_id: str, repo_type: str, file: RemoteFile, revision: str, staging: Path, counted: _Counted, first: bool
) -> Path:
    """Bring the content of a file into `staging`; where it is there.

    Large files come by Xet where the server offers it and it is to be used. If that fails, and for the others, plain
    HTTP is asked, from the byte on at which an earlier try or run ended. Files that are too large for one answer come
    in ranges.
    """
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    part = staging / PART
    there = part.stat().st_size if part.exists() else 0
    if there > file.size:
        part.unlink()
        there = 0
    url = hf_hub_url(repo_id, file.path, repo_type=repo_type, revision=revision)
    may_use_xet = first and not there and file.size >= _LARGE and not constants.HF_HUB_DISABLE_XET
    if (
        may_use_xet
        and _has_xet()
        and _offers_xet(url, file.size)
        and _came_by_xet(repo_id, repo_type, file, revision, staging, counted)
    ):
        return part
    # A range of a compressed answer would be no range of the file.
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    with open(part, "ab") as content:
        if not locked(content):
            raise TryAgain("another process is fetching it")
        if file.size <= constants.MAX_HTTP_DOWNLOAD_SIZE:
            bar = _silent_bar(counted)
            http_get(url, content, resume_size=there, headers=headers, expected_size=file.size, tqdm_class=bar)
            return part
        piece = constants.MAX_HTTP_DOWNLOAD_SIZE // _PIECES
        for start in range(there, file.size, piece):
            end = min(start + piece, file.size)
            ranged = headers | {"Range": f"bytes={start}-{end - 1}"}
            http_get(url, content, headers=ranged, expected_size=end - start, tqdm_class=_silent_bar(counted, start))
    return part


def _came_by_xet(
    repo_id: str, repo_type: str, file: RemoteFile, revision: str, staging: Path, counted: _Counted
) -> bool:
    """Bring the content of a file into `staging` by Xet; whether that did it. If not, it is said."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HTTPError

    own = staging / "xet"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    try:
        options = {"repo_type": repo_type, "revision": revision, "local_dir": own, "tqdm_class": _silent_bar(counted)}
        Path(hf_hub_download(repo_id, file.path, **options)).replace(staging / PART)
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        # Xet reports a full disk as text.
        full = ("os error 28", "os error 122")
        if getattr(error, "errno", None) in _DISK_FULL or any(words in str(error) for words in full):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        # Whatever else it is, plain HTTP does it or says why not.
        say(f"{file.path}: not by Xet ({clean_text(error)}), so by plain HTTP")
        counted.settle(0)
        return False
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return True


def _offers_xet(url: str, size: int) -> bool:
    """Whether the server names a way by Xet for a file of so many bytes; one that does not answer offers none."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.errors import HTTPError

    try:
        offered = get_hf_file_metadata(url)
    except (HTTPError, OSError, RuntimeError, ValueError):
        return False  # plain HTTP does it or says why not
    return offered.xet_file_data is not None and offered.size == size


def _has_xet() -> bool:
    return importlib.util.find_spec("hf_xet") is not None


def _silent_bar(counted: _Counted, start: int = 0) -> type:
    """A class of progress bars for what comes of a file from the byte `start` on."""
    from tqdm import tqdm

    class Bar(tqdm):
        """Shows nothing; the library tells it how many bytes came."""

        monitor_interval = 0  # else each such class starts a thread of its own, for good

        def __init__(self, *arguments: object, initial: int = 0, **options: object) -> None:
            super().__init__(disable=True)
            # No more if a server that is asked for the rest sends all.
            counted.settle(start + initial)

        def update(self, n: float | None = 1) -> None:
            counted.add(int(n or 0))

        def update_transfer(self, n: float) -> None:
            """Bytes on the wire, which Xet reports besides."""

        def set_transfer_postfix_str(self, *arguments: object, **options: object) -> None:
            """Their rate."""

    return Bar


def _publish(staged: Path, target: Path, known: Sequence[RemoteFile]) -> None:
    """Move a verified file to its place, on disk before it has its name; a text that is none of `known` stays too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(staged, "rb") as content:
        os.fsync(content.fileno())
    _keep_changed(target, known)
    staged.replace(target)


def _keep_changed(path: Path, known: Sequence[RemoteFile]) -> None:
    """Give a text that is none of these a second name before it is replaced, and say so."""
    if path.suffix not in _TEXTS or not path.is_file() or any(content_problem(path, file) is None for file in known):
        return
    numbers = itertools.count(1)
    kept = next(name for i in numbers if not (name := path.with_name(f"{path.name}.changed-{i}")).exists())
    try:
        kept.hardlink_to(path)
    except OSError:  # no links on this disk
        shutil.copy2(path, kept)
    say(f"{path} is replaced by the Hub's; what was there stays as {kept.name}")


class _Counted:
    """Bytes of one file as they come, so that they can be taken back."""

    def __init__(self, size: int, count: Callable[[int], None], patience: Patience) -> None:
        self._size, self._count, self._patience, self._sum = size, count, patience, 0

    def add(self, number: int) -> None:
        """Count bytes that came, before they are written; ends the transfer if all work is stopped, or if there are
        more of them than the file has."""
        if self._patience.stopped.is_set():
            raise DownloadFailed("stopped")
        if self._sum + number > self._size:
            raise TryAgain(f"{host()} sends more than the {self._size:,} bytes that it lists")
        self._sum += number
        self._count(number)

    def settle(self, size: int) -> None:
        """Whatever was counted, it was `size` bytes."""
        self._count(size - self._sum)
        self._sum = size
