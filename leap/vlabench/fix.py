"""Mend a benchmark folder: fetch what is missing or broken again, from the commit that its download recorded."""

from __future__ import annotations

import shlex
from pathlib import Path

from configs.errors import UserError
from leap.downloads.fetch import RECORD, RemoteFile, content_problem
from leap.downloads.record import Record, read_record
from leap.downloads.run import FetchOptions, claimed, fetch_files
from leap.progress import print_some, say
from leap.vlabench.verify import Defect, Verification


def fix(verification: Verification, options: FetchOptions) -> None:
    """Fetch the files behind the defects that differ from the Hub's; the others are as broken there, and are named.

    UserError if the folder has no record of its download.
    """
    folder = verification.folder
    with claimed(folder):
        record = read_record(folder)
        if record is None:
            raise UserError(
                f"{folder} has no {RECORD}, so nobody knows what belongs there. If it is of VLABench, this keeps what "
                "is right and fetches the rest: python scripts/download/download_vlabench_with_retry.py --local_dir "
                f"{shlex.quote(str(folder))}"
            )
        broken: dict[str, RemoteFile] = {}
        in_vain = []
        for defect in verification.defects:
            below = _listed(record, folder, defect)
            differing = [file for file in below if content_problem(folder / file.path, file) is not None]
            broken |= {file.path: file for file in differing}
            if not differing:
                in_vain.append(_why_in_vain(defect, below, record.commit[:12]))
        if in_vain:
            print_some(in_vain, "verify_dataset.py --json FILE")
        if broken:
            say(f"fetching {len(broken):,} files of {record.repo_id} at {record.commit[:12]} again")
            for path in broken:
                record.verified.pop(path, None)
            fetch_files(list(broken.values()), folder, record, options)


def can_mend(verification: Verification) -> bool:
    """Whether `fix` would fetch anything: a file behind a defect is not as the download recorded it.

    Of a folder with a wrong count nothing is hashed: what lacks there is a defect of its own.
    """
    record = read_record(verification.folder)
    if record is None:
        return False
    folder = verification.folder
    files = (record.files.get(_name(folder, defect)) for defect in verification.defects)
    return any(file is not None and content_problem(folder / file.path, file) is not None for file in files)


def _name(folder: Path, defect: Defect) -> str:
    return defect.path.relative_to(folder).as_posix()


def _listed(record: Record, folder: Path, defect: Defect) -> list[RemoteFile]:
    """The recorded files that a defect is about: the one, or all of the folder."""
    name = _name(folder, defect)
    return [file for path, file in record.files.items() if path == name or path.startswith(f"{name}/")]


def _why_in_vain(defect: Defect, below: list[RemoteFile], commit: str) -> str:
    if not below:
        return f"{defect.path} {defect.reason}: it is not among what was fetched of commit {commit}"
    if defect.path.is_dir():
        return (
            f"{defect.path} {defect.reason}: all {len(below):,} files that commit {commit} lists there are as the Hub "
            "has them"
        )
    return f"{defect.path} is as the Hub has it, so fetching it again would not mend it"
