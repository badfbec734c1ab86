"""The archives and annotations of LOVE-Agibot on the Hub, as jobs and as files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from configs.errors import UserError
from leap.agibot.frames import ARCHIVE_NAME
from leap.agibot.jobs import ArchiveJob, in_order


def jobs_of_repository(repo_id: str, revision: str | None, data: Path, keep: bool = False) -> list[ArchiveJob]:
    """A job for each archive `image/task_<id>.tar.gz`, of the commit that `revision` is now; UserError if none."""
    from leap.downloads import list_files

    listing = list_files(repo_id, "dataset", revision, ["image/*"])
    jobs = [
        ArchiveJob(match[1], file.path, file.size, data, repo_id, listing.commit, file.sha256, file.git_sha1, keep)
        for file in listing.files
        if (match := ARCHIVE_NAME.fullmatch(PurePosixPath(file.path).name))
    ]
    if not jobs:
        raise UserError(f"{repo_id} has no image/task_<id>.tar.gz at {listing.commit}; check --repo_id and --revision")
    return in_order(jobs)
