#!/usr/bin/env python3
"""Measure how first frames are taken out of an AgiBot archive, against unpacking all of it and copying them.

    python scripts/benchmark/extraction.py
    python scripts/benchmark/extraction.py --episodes 400 --frames 250 --side 128 --rounds 1

Makes an archive of noise, as incompressible as photographs (by default 40 episodes of 25 frames of 0.5 MB, 500 MB in
all), and does both ways in a process of their own, in turns. `unpack` is tarfile.extractall into a folder beside the
pictures, the first frames copied, the folder removed, as the original LEAP did. Disk is what a way takes at most beside
the archive, memory the most that its process held. A run takes one archive more of disk, which is removed in the end.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import multiprocessing
import os
import resource
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import configs  # noqa: F401  says what is missing where the environment is not active

# isort: split
from PIL import Image

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.agibot.frames import take_first_frames
from leap.cli import as_plain, knob, parse_knobs, run
from leap.files import write_json
from leap.progress import Progress, say
from leap.text import markdown_table

_TASK = "327"


@dataclass(frozen=True)
class Options:
    episodes: int = knob(40, "episodes in the archive", check="> 0")
    frames: int = knob(25, "frames of each", check="> 0")
    side: int = knob(418, "width and height of a frame in pixels; of 418 it has 0.5 MB", check="> 0")
    rounds: int = knob(3, "measured rounds, in each of which both ways run once", check="> 0")
    output: Path | None = knob(None, "file to write everything measured to (JSON)")


@dataclass(frozen=True)
class Measured:
    """One run of one way."""

    seconds: float
    memory_bytes: int  # the most that the process held
    disk_bytes: int  # the most that lay on the disk beside the archive


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    output = WorkspaceConfig.from_environment().output
    output.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".extraction-", dir=output) as place:
        archive = Path(place) / f"task_{_TASK}.tar.gz"
        make_archive(archive, options)
        runs: dict[str, list[Measured]] = {"unpack": [], "stream": []}
        for number in range(options.rounds):
            for name, way in (("unpack", unpack_and_copy), ("stream", stream)):
                runs[name].append(measured(way, archive, Path(place) / name, options))
                say(f"round {number + 1}, {name}: {runs[name][-1].seconds:.2f} s")
        print(table(runs, archive.stat().st_size, options))
        if options.output:
            content = {"options": as_plain(options), "archive_bytes": archive.stat().st_size}
            content["runs"] = {name: [vars(run) for run in measured] for name, measured in runs.items()}
            write_json(options.output, content)
            print(f"written: {options.output}")


def make_archive(path: Path, options: Options) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    with (
        gzip.open(path, "wb", compresslevel=1) as zipped,
        tarfile.open(fileobj=zipped, mode="w|") as tar,
        Progress("making the archive", options.episodes * options.frames, "frame") as progress,
    ):
        for episode in range(options.episodes):
            for number in range(options.frames):
                noise = rng.integers(0, 256, (options.side, options.side, 3), np.uint8)
                content = io.BytesIO()
                Image.fromarray(noise).save(content, "PNG", compress_level=1)
                info = tarfile.TarInfo(f"{_TASK}/{episode + 1}/{number:05d}.png")
                info.size = content.tell()
                content.seek(0)
                tar.addfile(info, content)
                progress.advance()


def stream(archive: Path, folder: Path) -> None:
    take_first_frames(archive, folder, _TASK)


def unpack_and_copy(archive: Path, folder: Path) -> None:
    whole, images = folder / "temp", folder / "images"
    images.mkdir()
    with tarfile.open(archive, "r:gz") as tar:
        tar.extractall(whole, filter="data")
    for episode in sorted((whole / _TASK).iterdir()):
        shutil.copyfile(min(episode.iterdir()), images / f"{_TASK}-{episode.name}.png")
    shutil.rmtree(whole)


def measured(way: Callable[[Path, Path], None], archive: Path, folder: Path, options: Options) -> Measured:
    """Run `way` in a fresh process, watching its folder; UserError unless it gives every first frame."""
    folder.mkdir()
    disk_bytes = 0
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        run = pool.submit(timed, way, archive, folder)
        while not run.done():
            disk_bytes = max(disk_bytes, bytes_in(folder))
            time.sleep(0.05)
    seconds, memory_bytes = run.result()
    count = len(list((folder / "images").glob("*.png")))
    if count != options.episodes:
        raise UserError(f"{way.__name__} gave {count} first frames instead of {options.episodes}")
    result = Measured(seconds, memory_bytes, max(disk_bytes, bytes_in(folder)))
    shutil.rmtree(folder)
    return result


def timed(way: Callable[[Path, Path], None], archive: Path, folder: Path) -> tuple[float, int]:
    """The seconds that a way took, and the most bytes that this process held."""
    started = time.perf_counter()
    way(archive, folder)
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bytes_in(folder: Path) -> int:
    """Bytes of the files below a folder that something else may be changing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(place, name)).st_size
    return total


def table(runs: dict[str, list[Measured]], archive_bytes: int, options: Options) -> str:
    """Medians over rounds as Markdown, and what the stream saves."""
    frames = options.episodes * options.frames
    names = {"unpack": "tarfile.extractall and copy", "stream": "leap.agibot.frames"}
    rows = [["", "seconds", "frames/s", "memory, MB", "disk, MB", "disk / archive"]]
    medians = {}
    for name, measured in runs.items():
        columns = zip(*(vars(run).values() for run in measured), strict=True)
        medians[name] = m = Measured(*map(statistics.median, columns))
        sizes = f"{m.memory_bytes / 1e6:.0f}", f"{m.disk_bytes / 1e6:.0f}", f"{m.disk_bytes / archive_bytes:.2f}"
        rows.append([names[name], f"{m.seconds:.2f}", f"{frames / m.seconds:.0f}", *sizes])
    times = medians["unpack"].seconds / medians["stream"].seconds
    share = medians["stream"].disk_bytes / medians["unpack"].disk_bytes
    return (
        f"Archive of {archive_bytes / 1e6:.0f} MB, {options.episodes} episodes, {frames} frames; median of "
        f"{options.rounds} rounds\n\n{markdown_table(rows)}\n\n"
        f"The stream is {times:.1f} times as fast and takes {share:.1%} of the disk."
    )


if __name__ == "__main__":
    run(main)
