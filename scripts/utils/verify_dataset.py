#!/usr/bin/env python3
"""Check a benchmark folder: every file there, pictures decode, ground truth can be scored, counts as in VLABench.

    python scripts/utils/verify_dataset.py
    python scripts/utils/verify_dataset.py --data_path dataset/vlm_evaluation_v1.0 --dimension Spatial
    python scripts/utils/verify_dataset.py --fix
    python scripts/utils/verify_dataset.py --json -

Prints a table by dimension and the defects with their paths; exit status 1 if there is any. --fix fetches again what is
missing or broken, from the commit that the download recorded; a broken file goes only when its successor is verified.
Where the folder is a download of VLABench's data set, or with --expected vlabench, the six dimensions must hold their
45 tasks with 100 examples each.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig, dimensions_named
from leap.cli import knob, parse_knobs, run
from leap.downloads.access import choose_host
from leap.downloads.run import FetchOptions
from leap.files import write_json
from leap.progress import say
from leap.vlabench.fix import fix
from leap.vlabench.verify import verification_table, verify


@dataclass(frozen=True)
class Options(FetchOptions):
    data_path: Path = knob(Path("dataset/vlm_evaluation_v1.0"), "folder of the benchmark")
    dimension: list[str] = knob(["all"], "dimensions to check, or all")
    expected: str = knob("auto", "which tasks and counts there must be", choices=("auto", "vlabench", "none"))
    hash: bool = knob(False, "also compare every file with the hash that its download recorded")
    fix: bool = knob(False, "fetch what is missing or broken again")
    json: str | None = knob(None, "also write what was found to this JSON file; - prints it alone, progress to stderr")


def main() -> int:
    options = parse_knobs(Options, None, __doc__)
    dimensions = dimensions_named(options.dimension)
    WorkspaceConfig.from_environment().require(options.data_path, "benchmark")
    quiet = options.json == "-"
    verification = verify(options.data_path, dimensions, options.expected, options.workers, options.hash, quiet)
    if options.fix and verification.defects:
        if not quiet:
            say(verification_table(verification))
        with contextlib.redirect_stdout(sys.stderr) if quiet else contextlib.nullcontext():
            choose_host(mirror=options.mirror)
            fix(verification, options)
        verification = verify(options.data_path, dimensions, options.expected, options.workers, options.hash, quiet)
    if not quiet:
        say(verification_table(verification))
    if quiet:
        say(json.dumps(verification.as_json(), indent=2))
    elif options.json:
        write_json(Path(options.json), verification.as_json())
    return 1 if verification.defects else 0


if __name__ == "__main__":
    run(main)
