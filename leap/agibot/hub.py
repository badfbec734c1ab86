"""The archives of LOVE-Agibot on the Hub as jobs, and its annotations."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from configs.errors import UserError
from leap.agibot.frames import ARCHIVE_NAME
from leap.agibot.jobs import ArchiveJob, in_order
from leap.downloads.access import DownloadFailed
from leap.downloads.fetch import Listing, Repository, content_problem, local_path

_ANNOTATIONS = re.compile(r"json/(?:output|task)_([0-9]{1,20})\.jsonl?")


def list_repository(repo_id: str, revision: str | None) -> Listing:
    """The archives and annotations at a revision (default: the newest)."""
    listing = Repository(repo_id, "dataset").listing(revision)
    return Listing(listing.commit, [file for file in listing.files if file.path.startswith(("image/", "json/"))])


def jobs_of_listing(listing: Listing, repo_id: str, data: Path, keep: bool = False) -> list[ArchiveJob]:
    """A job for each archive `image/task_<id>.tar.gz`, by task id; UserError if there is none."""
    jobs = [
        ArchiveJob(match[1], file.path, file.size, data, repo_id, listing.commit, file.sha256, file.git_sha1, keep)
        for file in listing.files
        if (match := ARCHIVE_NAME.fullmatch(PurePosixPath(file.path).name))
    ]
    if not jobs:
        raise UserError(f"{repo_id} has no image/task_<id>.tar.gz at {listing.commit}; check --repo_id and --revision")
    return in_order(jobs)


def fetch_annotations(listing: Listing, repo_id: str, tasks: set[str], data: Path) -> list[Path]:
    """The annotations json/output_<id>.json of these tasks, as far as there are any, in data/agibot/json/.

    What is there and right is not fetched again; what is there and another text stays as `<name>.changed-1`. UserError
    if one cannot be fetched.
    """
    folder = data / "agibot"
    paths = []
    for file in listing.files:
        match = _ANNOTATIONS.fullmatch(file.path)
        if match and match[1] in tasks:
            path = local_path(file.path, folder)
            if content_problem(path, file) is not None:
                try:
                    Repository(repo_id, "dataset").fetch(file, listing.commit, folder)
                except DownloadFailed as error:
                    raise UserError(f"{error}. The same command continues") from error
            paths.append(path)
    return paths
