"""From the Hub to disk: list a repository, fetch a file and verify it.

A file is fetched into a folder of its own below `.leap_download/` in the target, verified there, and renamed into its
place: under its name it is whole and right, or absent. A text that somebody changed stays beside it. huggingface_hub
does the transfer; `leap.downloads.access` decides how long to insist. Imports huggingface_hub only when used, so that
HF_ENDPOINT can be set before.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from configs.errors import UserError
from leap.downloads.access import (
    DownloadFailed,
    RetryPolicy,
    TransientError,
    host,
    mirror_advice,
    plain_errors,
    prepare_client,
)
from leap.progress import say

STAGING = ".leap_download"
RECORD = "leap_download.json"
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_TIMEOUT_S = 60.0
_LONGEST_NAME = 255  # bytes; of most file systems
_TEXTS = (".json", ".jsonl", ".csv", ".md", ".txt", ".yaml", ".yml", ".toml", ".jinja", ".py")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its path there, its size in bytes and its hash, of which one is set."""

    path: str
    size: int
    sha256: str | None = None  # files in LFS or Xet
    git_sha1: str | None = None  # small files: Git's hash of the blob

    @property
    def digest(self) -> str:
        return self.sha256 or self.git_sha1 or ""


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit."""

    commit: str
    files: list[RemoteFile]


def refuse_unsafe(files: Iterable[RemoteFile], repo_id: str) -> None:
    """UserError for a path that is none, would leave the target folder, hit our own files there or steer Git, and
    for a size or a hash that is none."""
    files = list(files)
    for file in files:
        if not isinstance(file.path, str) or any(len(os.fsencode(p)) > _LONGEST_NAME for p in file.path.split("/")):
            raise UserError(f"{repo_id} lists the path {file.path!r:.100}, which is none; is HF_ENDPOINT a Hub?")
    folders = {str(parent) for file in files for parent in PurePosixPath(file.path).parents}
    for file in files:
        parts, windows = file.path.split("/"), PureWindowsPath(file.path)
        unsafe_part = any(part in ("", ".", "..") for part in parts) or parts[0] in (STAGING, RECORD)
        unsafe_part |= any(part.lower() == ".git" for part in parts)
        if unsafe_part or windows.drive or windows.root or "\\" in file.path or not file.path.isprintable():
            raise UserError(
                f"{repo_id} lists the path {file.path!r}, which may not be written here; nothing was fetched"
            )
        hash_is_good = (_SHA256 if file.sha256 else _SHA1).fullmatch(file.digest)
        if not isinstance(file.size, int) or file.size < 0 or not hash_is_good:
            raise UserError(f"{repo_id} lists {file.path} with a size or a hash that is none; is HF_ENDPOINT a Hub?")
        if file.path in folders:
            raise UserError(f"{repo_id} lists {file.path!r} as a file and as a folder; nothing was fetched")


def _in_dot_folder(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/")[:-1])


def local_path(name: str, folder: Path) -> Path:
    """Where a file of this path belongs. UserError if a symbolic link stands in the way: it could lead out of the
    folder."""
    path = folder
    for part in name.split("/"):
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
    kind, start = ("sha256", b"") if file.sha256 else ("sha1", b"blob %d\0" % size)
    with open(path, "rb") as content:
        actual = hashlib.file_digest(content, lambda: hashlib.new(kind, start)).hexdigest()
    return None if actual == file.digest else f"has the {kind} {actual[:12]}..., {file.digest[:12]}... expected"


@dataclass(frozen=True)
class Repository:
    """A repository on the Hub, and how long to insist when it is asked."""

    repo_id: str
    repo_type: str
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        prepare_client()  # not in `fetch`, which threads call at once

    def listing(self, revision: str | None = None) -> Listing:
        """The files at a revision (default: the newest), by path.

        UserError if there is no such repository or revision, it is refused, or a path in the listing is unsafe here.
        """
        from huggingface_hub import HfApi, RepoFile

        api = HfApi()
        of_type: dict[str, Any] = {"repo_type": self.repo_type}

        def ask() -> Listing:
            with plain_errors(self.repo_id, self.repo_type, revision):
                commit = api.repo_info(self.repo_id, revision=revision, timeout=_TIMEOUT_S, **of_type).sha
                tree = api.list_repo_tree(self.repo_id, recursive=True, revision=commit, **of_type)
                files = [_remote_file(entry) for entry in tree if isinstance(entry, RepoFile)]
            return Listing(commit or "", sorted(files, key=lambda file: str(file.path)))

        try:
            listing = self.policy.call(f"list of {self.repo_id}", ask)
        except DownloadFailed as error:
            raise UserError(f"{error}. Check the network, or HF_ENDPOINT if it is set. {mirror_advice()}") from error
        if not _SHA1.fullmatch(listing.commit):
            raise UserError(f"{host()} names no commit of {self.repo_id}; is HF_ENDPOINT a Hub?")
        refuse_unsafe(listing.files, self.repo_id)
        # Programs take orders from folders such as .github and .vscode; nothing that we use lies in one.
        listing = replace(listing, files=[file for file in listing.files if not _in_dot_folder(file.path)])
        return listing

    def fetch(
        self,
        file: RemoteFile,
        commit: str,
        folder: Path,
        report: Callable[[int], None] = lambda count: None,
        earlier: Sequence[RemoteFile] = (),
    ) -> Path:
        """Fetch one file at a commit into `folder`, verify it, put it in its place, and return that.

        Replaces what is there; a text that is none of the `earlier` versions stays beside the new one as
        `<name>.changed-1`. `report` hears how many bytes came, below 0 for those of a try that failed. UserError for
        what more tries cannot mend (refused, gone, wrong name, disk full: NoSpace); DownloadFailed if they are used
        up.
        """
        from huggingface_hub import hf_hub_download

        target = local_path(file.path, folder)

        def once() -> None:
            bar = _silent_bar(file, report, self.policy)
            options = {"repo_type": self.repo_type, "revision": commit, "tqdm_class": bar}
            try:
                with plain_errors(self.repo_id, self.repo_type, commit), _staging_folder(folder) as staging:
                    # The cache folder is an empty one: what is in the user's may be damaged.
                    options |= {"local_dir": staging, "cache_dir": f"{staging}/cache"}
                    part = Path(hf_hub_download(self.repo_id, file.path, **options))
                    problem = content_problem(part, file)
                    if problem is not None:
                        raise TransientError(f"what {host()} sent {problem}")
                    _publish(part, target, (file, *earlier))
            except BaseException:
                report(-bar.size)
                raise

        self.policy.call(file.path, once)
        return target


def _remote_file(entry: Any) -> RemoteFile:
    if entry.lfs:
        return RemoteFile(entry.path, entry.lfs.size, sha256=entry.lfs.sha256)
    return RemoteFile(entry.path, entry.size, git_sha1=entry.blob_id)


def _staging_folder(folder: Path) -> tempfile.TemporaryDirectory:
    """A new folder in which a file is fetched and verified, on the disk on which it will stay."""
    staging = local_path(STAGING, folder)
    staging.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=staging, ignore_cleanup_errors=True)


def remove_staging(folder: Path) -> None:
    """Remove what killed runs left half fetched below `folder`; whoever calls it knows that nobody is fetching."""
    shutil.rmtree(local_path(STAGING, folder), ignore_errors=True)


def _silent_bar(file: RemoteFile, report: Callable[[int], None], policy: RetryPolicy) -> Any:
    """A class of progress bars that shows nothing. The library feeds it the bytes before it writes them, so it can end
    the transfer if all work is stopped, or if more of them come than the file has."""
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # else each such class starts a thread of its own, for good
        size = 0

        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(disable=True)

        def update(self, n: float | None = 1) -> None:
            count = int(n or 0)
            if policy.stopped.is_set():
                raise DownloadFailed("stopped")
            if Bar.size + count > file.size:
                raise TransientError(f"{host()} sends more than the {file.size:,} bytes that it lists")
            Bar.size += count
            report(count)

        def update_transfer(self, *arguments: object, **options: object) -> None:
            """Bytes on the wire and their rate, which Xet reports besides."""

        set_transfer_postfix_str = update_transfer

    return Bar


def _publish(staged: Path, target: Path, versions: Sequence[RemoteFile]) -> None:
    """Move a verified file to its place, on disk before it has its name. A text there that is none of these versions
    gets a second name first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(staged, "rb") as content:
        os.fsync(content.fileno())
    if target.suffix in _TEXTS and target.is_file() and all(content_problem(target, file) for file in versions):
        names = (target.with_name(f"{target.name}.changed-{number}") for number in itertools.count(1))
        saved = next(name for name in names if not name.exists())
        try:
            saved.hardlink_to(target)
        except OSError:  # no links on this disk
            shutil.copy2(target, saved)
        say(f"{target} is replaced by the Hub's; what was there stays as {saved.name}")
    staged.replace(target)
