#!/usr/bin/env python3
"""Fetch LEAP's planning rows EvanSirius/leap-agibot-processed into data/, and unpack their pictures into data/images/.

    python scripts/download/download_dataset.py
    python scripts/download/download_dataset.py --keep_archive
    python scripts/download/download_dataset.py --mirror

Every file is verified, and the archive's pictures appear only when all of it proved intact; then the archive is deleted
unless it is to be kept. The same command goes on with an interrupted download; when all is done it does nothing.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from configs.config import next_line
from leap.cli import knob, parse_knobs, run
from leap.downloads.access import checked_repo_id, choose_host
from leap.downloads.picture_archives import forget_lost_pictures, room_for_pictures, unpack_pictures
from leap.downloads.record import Selection, read_record
from leap.downloads.run import DownloadOptions, download
from leap.progress import say


@dataclass(frozen=True)
class Options(DownloadOptions):
    repo_id: str = knob("EvanSirius/leap-agibot-processed", "data set on the Hub, owner/name")
    local_dir: Path = knob(Path("data"), "folder for the files")
    keep_archive: bool = knob(False, "keep the archive of pictures after unpacking")


def main() -> int:
    options = parse_knobs(Options, None, __doc__)
    choose_host(mirror=options.mirror)
    folder = options.local_dir
    forget_lost_pictures(folder, hash_again=options.verify)
    result = download(
        checked_repo_id(options.repo_id),
        "dataset",
        folder,
        lambda paths: Selection(),
        options,
        extra_bytes=lambda missing: room_for_pictures(missing, folder),
    )
    if result.failed:
        return 1
    unpack_pictures(folder, keep_archive=options.keep_archive)
    record = read_record(folder)
    rows = sorted(path for path in record.files if path.endswith(".jsonl")) if record else []
    for path in sorted(rows, key=lambda path: "train" not in path)[:1]:
        say(next_line(f"python scripts/training/validate_data.py --rows {shlex.quote(str(folder / path))}"))
    return 0


if __name__ == "__main__":
    run(main)
