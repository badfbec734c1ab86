#!/usr/bin/env python3
"""Watch the evaluations and trainings of the workspace: state, progress, speed, time left, failures, GPU use.

    python scripts/utils/monitor_evaluation.py            # live on a terminal; Ctrl-C ends it
    python scripts/utils/monitor_evaluation.py --once     # a table
    python scripts/utils/monitor_evaluation.py --json     # for machines
    python scripts/utils/monitor_evaluation.py --all      # everything that ever ran

Shows what runs, what finished in the last hour, and what died, failed, was interrupted or fell silent (on another
host) in the last week. Reads status files and journals only, and changes nothing. Exit status 0 whatever it shows.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig
from leap.cli import knob, parse_knobs, run
from leap.progress import say
from leap.runs.monitor import Monitor, as_json
from leap.runs.table import table
from leap.text import printable

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # the other screen without a cursor, and back
_TOP, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"  # to the upper left corner; clear from the cursor on


@dataclass(frozen=True)
class Options:
    interval: float = knob(2.0, "seconds between two looks", check="> 0")
    once: bool = knob(False, "print a table and end; so does a standard output that is no terminal")
    json: bool = knob(False, "print JSON and end")
    all: bool = knob(False, "show also what ended longer ago")
    results_dir: Path | None = knob(None, "folder of results (default: eva_results of the workspace)")
    logs_dir: Path | None = knob(None, "folder of training logs (default: logs of the workspace)")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    workspace = WorkspaceConfig.from_environment()
    for folder, what in ((options.results_dir, "folder of results"), (options.logs_dir, "folder of logs")):
        if folder is not None:
            workspace.require(folder, what)
    monitor = Monitor(options.results_dir or workspace.results, options.logs_dir or workspace.logs)
    snapshot = monitor.snapshot(options.all)
    if options.json:
        say(json.dumps(as_json(snapshot), indent=2))
    elif snapshot.is_empty:
        say(f"nothing has run yet: no status file in {monitor.results} or {monitor.logs}")
    elif options.once or not sys.stdout.isatty():
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        say("\n".join(table(snapshot, width)))
    else:
        watch(monitor, options)


def watch(monitor: Monitor, options: Options) -> None:
    """Redraw in place until Ctrl-C; the last table stays on the terminal."""
    signal.signal(signal.SIGTERM, lambda *arguments: sys.exit(128 + signal.SIGTERM))  # to leave the terminal in order
    sys.stdout.write(_ENTER)
    try:
        while True:
            snapshot = monitor.snapshot(options.all)
            size = shutil.get_terminal_size()
            title = time.strftime("%H:%M:%S") + f"  every {options.interval:g} s, Ctrl-C ends"
            lines = [title[: size.columns], *table(snapshot, size.columns, size.lines - 2)]
            # Cleared before it is written: after a line as wide as the terminal the cursor is still on its last letter.
            drawn = "".join(f"{_CLEAR_LINE}{printable(line)}\n" for line in lines)
            sys.stdout.write(_TOP + drawn + _CLEAR_REST)
            sys.stdout.flush()
            time.sleep(options.interval)
    except KeyboardInterrupt:
        pass
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
    say("\n".join(table(snapshot, shutil.get_terminal_size().columns)))


if __name__ == "__main__":
    run(main)
