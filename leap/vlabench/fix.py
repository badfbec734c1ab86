"""Mend a benchmark folder: fetch what is missing or broken again, from the commit that its download recorded."""

from __future__ import annotations

from configs.errors import UserError
from leap.download_record import read_record
from leap.download_run import FetchOptions, Outcome, claimed, fetch_files
from leap.downloads import RECORD, content_problem
from leap.progress import say
from leap.vlabench.verify import Verification


def fix(found: Verification, options: FetchOptions) -> Outcome:
    """Fetch the files behind the defects that differ from the Hub's; the others are as broken there, and are named.

    UserError if the folder has no record of its download.
    """
    folder = found.folder
    with claimed(folder):
        record = read_record(folder)
        if record is None:
            raise UserError(
                f"{folder} has no {RECORD}, so nobody knows what belongs there. Run: python "
                "scripts/download/download_vlabench_with_retry.py. It keeps what is right and fetches the rest"
            )
        wanted = []
        for defect in found.defects:
            name = defect.path.relative_to(folder).as_posix()
            below = [file for path, file in record.files.items() if path == name or path.startswith(f"{name}/")]
            if not below:
                say(f"{defect.path} {defect.reason}: commit {record.commit[:12]} does not list it either")
            wanted += below
        wanted = list({file.path: file for file in wanted}.values())
        broken = [file for file in wanted if content_problem(folder / file.path, file) is not None]
        for file in wanted:
            if file not in broken:
                say(f"{folder / file.path} is as the Hub has it, so fetching it again would not mend it")
        outcome = Outcome(folder, record.commit, len(broken))
        if broken:
            say(f"fetching {len(broken):,} files of {record.repo_id} at {record.commit[:12]} again")
            for file in broken:
                record.verified.pop(file.path, None)
            fetch_files(broken, folder, record, options, outcome)
        for path, reason in outcome.failed.items():
            say(f"failed: {path}: {reason}")
        return outcome
