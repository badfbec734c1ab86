#!/usr/bin/env python3
"""Fetch the benchmark VLABench/vlm_evaluation_v1.0 into dataset/, every file verified, then check the examples.

    python scripts/download/download_vlabench_with_retry.py
    python scripts/download/download_vlabench_with_retry.py --dimension Spatial PhysicsLaw
    python scripts/download/download_vlabench_with_retry.py --mirror

Waits out rate limits as the server says and retries lost connections, with bounds; the same command goes on with an
interrupted download, at the same commit, without fetching finished files again. Exit status 1 if a file or an example
is not as it should be. The 22,500 files need some 45,000 requests: a token (`hf auth login`) raises the Hub's limits.
"""

from __future__ import annotations

import glob
import shlex
from dataclasses import dataclass
from pathlib import Path

from configs.config import DIMENSIONS, WorkspaceConfig, dimensions_named, next_line
from leap.cli import knob, parse_knobs, run
from leap.downloads.access import checked_repo_id, choose_host
from leap.downloads.record import Selection
from leap.downloads.run import DownloadOptions, download
from leap.progress import say
from leap.vlabench.fix import can_mend
from leap.vlabench.verify import BENCHMARK_ID, verification_table, verify


@dataclass(frozen=True)
class Options(DownloadOptions):
    dimension: list[str] = knob(["all"], "dimensions to fetch, or all")
    repo_id: str = knob(BENCHMARK_ID, "data set on the Hub, owner/name")
    local_dir: Path = knob(Path("dataset/vlm_evaluation_v1.0"), "folder for the files", flags=("--data_path",))


def main() -> int:
    options = parse_knobs(Options, None, __doc__)
    choose_host(mirror=options.mirror)
    dimensions = dimensions_named(options.dimension)
    selection = Selection(tuple(f"{glob.escape(dimension)}/*" for dimension in dimensions))
    repo_id = checked_repo_id(options.repo_id)
    result = download(repo_id, "dataset", options.local_dir, lambda paths: selection, options)
    verification = verify(options.local_dir, dimensions, workers=options.workers)
    say(verification_table(verification))
    flags = ["--dimension", *(dimensions if len(dimensions) < len(DIMENSIONS) else ["all"])]
    if options.local_dir != WorkspaceConfig.from_environment().benchmark:
        flags += ["--data_path", str(options.local_dir)]
    if result.failed or verification.defects:
        if result.failed or can_mend(verification):
            mirror = ["--mirror"] if options.mirror else []
            say(f"mend with: python scripts/utils/verify_dataset.py --fix {shlex.join([*flags, *mirror])}")
        return 1
    say(next_line(f"python scripts/evaluation/run_vlm_evaluation.py {shlex.join(flags)}"))
    return 0


if __name__ == "__main__":
    run(main)
