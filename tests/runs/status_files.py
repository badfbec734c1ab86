"""Status files of runs that go on or ended."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from leap.files import read_json, write_json
from leap.runs.status import Status
from tests.conftest import REPOSITORY


def start_code(code: str, path: Path) -> subprocess.Popen:
    """A process of its own that runs `code` with `path` as argument; its status file there has a phase by now."""
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=REPOSITORY)
    limit = time.monotonic() + 30
    while not path.is_file() or read_json(path)["phase"] is None:
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.01)
    return process


def start_run(path: Path) -> subprocess.Popen:
    """An evaluation in a process of its own: 3 of 10 answered in its status, then silence."""
    code = (
        "import sys, time; from pathlib import Path; from leap.runs.status import Status\n"
        "about = {'model': Path(sys.argv[1]).parent.name, 'dimension': Path(sys.argv[1]).parent.parent.name}\n"
        "with Status(Path(sys.argv[1]), 'evaluation', about, total=10, unit='example', done=1) as status:\n"
        "    time.sleep(0.1); status.update(3, phase='answering'); time.sleep(100)"
    )
    return start_code(code, path)


def ended(path: Path, error: BaseException | None = None, age: timedelta = timedelta(), **options) -> Path:
    """The status file of a run of this process, which ended `age` ago."""
    about = {"run": path.parent.name}
    try:
        with Status(path, **{"kind": "training", "about": about, "total": 20, "unit": "step"} | options) as status:
            status.update(20 if error is None else 7)
            if error is not None:
                raise error
    except (Exception, KeyboardInterrupt):
        pass
    updated = (datetime.now(UTC) - age).isoformat(timespec="seconds")
    write_json(path, read_json(path) | {"updated": updated})
    return path
