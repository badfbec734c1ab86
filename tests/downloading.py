"""Running the download scripts against a Hub on the loopback, and looking at what they leave."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from leap.downloads.fetch import RECORD
from tests.conftest import REPOSITORY, Done
from tests.hub_server import SIGNATURE, TOKEN, Hub


def start(
    hub: Hub,
    script: str,
    *arguments: str | Path,
    token: str | None = TOKEN,
    first_pause_s: float | None = 0.02,
    **more: str,
) -> subprocess.Popen:
    """Start a script with the real client, which reads its address when it is imported: in a process of its own.

    `first_pause_s` is None for a script without that flag; `more` is added to the environment.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "http", "HTTP", "ALL"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": os.environ["LEAP_WORKSPACE"] + "/home", "NO_PROXY": "127.0.0.1"}
    if token:
        environment["HF_TOKEN"] = token
    command = [sys.executable, REPOSITORY / "scripts" / script, *arguments]
    if first_pause_s is not None:
        command += ["--first_pause_s", first_pause_s]
    return subprocess.Popen(
        list(map(str, command)), env=environment | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def fetch(hub: Hub, script: str, *arguments: str | Path, **options) -> Done:
    process = start(hub, script, *arguments, **options)
    out, err = process.communicate(timeout=100)
    assert SIGNATURE not in out + err
    assert TOKEN not in out + err
    return Done(process.returncode, out, err)


def holds(folder: Path, files: dict[str, bytes]) -> None:
    """The folder holds just these files and the record, whole."""
    paths = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() or p.is_symlink()}
    assert paths == {*files, RECORD}
    for path, content in files.items():
        assert (folder / path).read_bytes() == content, path


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until it is so; an AssertionError if that takes too long."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)
