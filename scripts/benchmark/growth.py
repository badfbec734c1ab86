#!/usr/bin/env python3
"""Measure how time and memory of each step grow with rows, examples, models, journal lines and reviewed items.

    python scripts/benchmark/growth.py
    python scripts/benchmark/growth.py --parts rows journals --largest 10000 --seconds 300
    python scripts/benchmark/growth_table.py --document docs/scale.md

Each measurement is a process of its own, the command that a user gives wherever there is one: wall seconds, CPU
seconds and the most memory that it, or a worker of it, held (what is under 50 MB cannot be told). Inputs are made from
the demo, with few distinct pictures, one size at a time, and removed when it is measured. Every result is appended to
--output at once, and a run that was interrupted continues with the same command. A step that takes longer than
--seconds is ended, noted as such, and not tried at larger sizes. The report is also opened, in Chromium where that is
installed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.config import REPOSITORY, WorkspaceConfig
from leap.cli import knob, parse_knobs, run
from leap.demo.many import write_many_answers, write_many_examples, write_many_outputs, write_many_rows
from leap.files import Journal, write_json, write_jsonl
from leap.progress import say
from leap.provenance import code_revision, hardware, utc_now

SIZES = {
    "rows": (1_000, 10_000, 100_000, 1_000_000),
    "examples": (100, 1_000, 10_000, 45_000),
    "models": (1, 5, 10, 50),
    "journals": (1_000, 10_000, 100_000, 1_000_000),
    "reviews": (10, 100, 1_000, 10_000),
}
_EXAMPLES = 280  # of each model where models are counted
_REVIEWED = ("baseline", "checkpoint-100")

# Steps of the library that no command takes alone.
_PLAN_PACKS = """
import sys
import numpy as np
from leap.training.batching import PackBatches
lengths = np.random.default_rng(0).integers(60, 400, int(sys.argv[1]))
print(len(PackBatches(lengths, 4096, 0, None).batches(0)), "packs")
"""
_READ_JOURNAL = """
import sys
from pathlib import Path
from leap.files import Journal
with Journal(Path(sys.argv[1])) as journal:
    print(len(journal.read()), "lines")
"""
_APPEND_TO_JOURNAL = """
import sys
from pathlib import Path
from leap.files import Journal
with Journal(Path(sys.argv[1])) as journal:
    for number in range(100):
        journal.append([{"key": f"{number:064x}", "text": "appended"}])
"""


@dataclass(frozen=True)
class Options:
    folder: Path | None = knob(None, "scratch folder for inputs (default: a temporary one)")
    output: Path | None = knob(None, "results as JSONL (default: growth.jsonl in the workspace's output/)")
    parts: list[str] = knob(list(SIZES), "what to count", choices=tuple(SIZES))
    largest: int | None = knob(None, "largest size to measure", check=">= 10")
    seconds: float = knob(3600.0, "limit of each measurement", check="> 0")


@dataclass(frozen=True)
class BenchmarkStep:
    """A command to measure. `files` are what it reads or makes, whose bytes are noted; what `prepares` for later steps
    runs even if it was measured before."""

    name: str
    command: Sequence[str]
    files: Sequence[Path] = ()
    prepares: bool = False
    statuses: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Measurement:
    """One line of the results; `ended` is "done", "limit" or "failed"."""

    part: str
    step: str
    size: int
    seconds: float
    cpu_seconds: float | None
    peak_mb: float | None  # 10^6 bytes
    file_bytes: int
    ended: str


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    output = options.output or WorkspaceConfig.from_environment().output / "growth.jsonl"
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="growth-", dir=options.folder, ignore_cleanup_errors=True) as folder,
        Journal(output) as journal,
    ):
        growth = Growth(Path(folder), journal, options.seconds)
        for part in options.parts:
            for size in sizes_up_to(SIZES[part], options.largest):
                growth.measure(part, size)
    say(f"results: {output}; make the tables with: python scripts/benchmark/growth_table.py --results {output}")


def sizes_up_to(sizes: Sequence[int], largest: int | None) -> list[int]:
    """The sizes that are not over `largest`; if that leaves fewer than two, a tenth of it and itself."""
    if largest is None:
        return list(sizes)
    chosen = [size for size in sizes if size <= largest]
    return chosen if len(chosen) > 1 else [largest // 10, largest]


class Growth:
    """Measures a part at a size, as far as that is not in the journal."""

    def __init__(self, folder: Path, journal: Journal, limit_s: float) -> None:
        self.folder, self.journal, self.limit_s = folder, journal, limit_s
        lines = journal.read()
        self.measured_keys = {(line["part"], line["step"], line["size"]) for line in lines}
        self.too_long = {(line["part"], line["step"]) for line in lines if line["ended"] == "limit"}
        self.made_by = {"hardware": hardware(), "code": code_revision()}

    def measure(self, part: str, size: int) -> None:
        place = self.folder / f"{part}-{size}"
        make_inputs, steps_of = PARTS[part]
        last = max((i for i, step in enumerate(steps_of(place, size)) if self.is_open(part, step, size)), default=-1)
        if last < 0:
            return
        say(f"{part}, {size:,}: making the inputs")
        # In a process of its own, for what this one held would count as held by every command that it starts.
        making = multiprocessing.get_context("fork").Process(target=make_inputs, args=(place, size))
        making.start()
        making.join()
        if making.exitcode:
            raise RuntimeError(f"the inputs of {part}, {size:,} could not be made")
        steps = steps_of(place, size)
        for step in steps[: last + 1]:
            if not step.prepares and not self.is_open(part, step, size):
                continue
            measured = self.result(part, step, size, place)
            if self.is_open(part, step, size):
                self.keep(measured)
            if measured.ended != "done" and step.prepares:
                break
            if step.name == "report":
                self.open_report(part, step, size)
        shutil.rmtree(place)

    def is_open(self, part: str, step: BenchmarkStep, size: int) -> bool:
        return (part, step.name, size) not in self.measured_keys and (part, step.name) not in self.too_long

    def result(self, part: str, step: BenchmarkStep, size: int, place: Path) -> Measurement:
        environment = os.environ | {"LEAP_WORKSPACE": str(place)}
        with open(place / "log.txt", "wb") as log:
            ended, seconds, usage = timed(step, environment, log, self.limit_s)
        if ended == "failed":
            say((place / "log.txt").read_text(errors="replace")[-2000:])
        file_bytes = sum(path.stat().st_size for path in step.files if path.is_file())
        cpu_s = usage.ru_utime + usage.ru_stime
        return Measurement(part, step.name, size, seconds, cpu_s, usage.ru_maxrss * 1024 / 1e6, file_bytes, ended)

    def open_report(self, part: str, step: BenchmarkStep, size: int) -> None:
        opening = BenchmarkStep("report, opened", ())
        if self.is_open(part, opening, size) and (browser := shutil.which("chromium") or shutil.which("google-chrome")):
            seconds = opening_seconds(browser, step.files[0], self.folder / "browser")
            self.keep(Measurement(part, opening.name, size, seconds, None, None, 0, "done"))

    def keep(self, measured: Measurement) -> None:
        self.measured_keys.add((measured.part, measured.step, measured.size))
        if measured.ended == "limit":
            self.too_long.add((measured.part, measured.step))
        self.journal.append([asdict(measured) | {"time": utc_now()} | self.made_by])
        memory = f", {measured.peak_mb:,.0f} MB" if measured.peak_mb else ""
        note = "" if measured.ended == "done" else f" ({measured.ended})"
        say(f"{measured.part}, {measured.size:,}: {measured.step}: {measured.seconds:.2f} s{memory}{note}")


def timed(step: BenchmarkStep, environment: dict[str, str], log: Any, limit_s: float) -> tuple[str, float, Any]:
    """How a command ended, its seconds and its resource usage, that of workers it waited for included."""
    started = time.perf_counter()
    process = subprocess.Popen(
        step.command, stdout=log, stderr=log, env=environment, cwd=REPOSITORY, start_new_session=True
    )
    ended, pid = "done", 0
    try:
        while not pid:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if not pid and time.perf_counter() - started > limit_s:
                ended = "limit"
                os.killpg(process.pid, signal.SIGKILL)
                pid, status, usage = os.wait4(process.pid, 0)
            elif not pid:
                time.sleep(0.01)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if ended == "done" and process.returncode not in step.statuses:
        ended = "failed"
    return ended, time.perf_counter() - started, usage


def opening_seconds(browser: str, page: Path, profile: Path) -> float:
    """Seconds from the page's address to its first view on the screen, by Chromium's DevTools pipe."""
    commands, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")
    process = subprocess.Popen(
        [
            *("bash", "-c", f'exec 3<&{commands} 4>&{answers}; exec "$@"', "bash"),
            *(browser, *flags, f"--user-data-dir={profile}", "about:blank"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(commands, answers),
    )
    os.close(commands)
    os.close(answers)
    rest = b""

    def call(method: str, session: str | None = None, **parameters: Any) -> Any:
        nonlocal rest
        message = {"id": 1, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(to_browser, json.dumps(message).encode() + b"\0")
        while True:
            line, ending, after = rest.partition(b"\0")
            if not ending:
                part = os.read(from_browser, 1 << 20)
                if not part:
                    raise RuntimeError(f"{browser} ended before {method}")
                rest += part
                continue
            rest = after
            if (answer := json.loads(line)).get("id") == 1:
                return answer["result"]

    try:
        target = next(t for t in call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        session = call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        started = time.perf_counter()
        call("Page.navigate", session, url=page.resolve().as_uri())
        has_view = "new Promise((done) => requestAnimationFrame(() => done(Boolean(document.body?.dataset.page))))"
        while not call("Runtime.evaluate", session, expression=has_view, awaitPromise=True)["result"].get("value"):
            time.sleep(0.01)
        return time.perf_counter() - started
    finally:
        process.kill()
        process.wait()
        os.close(to_browser)
        os.close(from_browser)


def script(name: str, *flags: Any) -> list[str]:
    return [sys.executable, str(REPOSITORY / "scripts" / name), *map(str, flags)]


def code(text: str, *arguments: Any) -> list[str]:
    return [sys.executable, "-c", text, *map(str, arguments)]


def make_rows(place: Path, size: int) -> None:
    place.mkdir()
    write_many_rows(place / "data" / "rows.jsonl", size)
    demo = script("utils/make_demo.py", "--rows", 60, "--val_rows", 4, "--examples_per_task", 1)
    workspace = os.environ | {"LEAP_WORKSPACE": str(place / "demo")}
    subprocess.run(demo, env=workspace, check=True, capture_output=True)


def row_steps(place: Path, size: int) -> list[BenchmarkStep]:
    rows, planner = place / "data" / "rows.jsonl", place / "demo" / "models" / "tiny-planner"
    check = script("training/validate_data.py", "--train_file", rows, "--model_name_or_path", planner)
    cleaned = place / "data" / "rows.cleaned.jsonl"
    split, described = place / "split", place / "described"
    return [
        BenchmarkStep("first check of a training", check, [rows], prepares=True),
        BenchmarkStep("start with known lengths", check),
        BenchmarkStep("packs planned", code(_PLAN_PACKS, size)),
        BenchmarkStep(
            "pictures checked", script("utils/check_and_clean_images.py", "--rows", rows), [cleaned], statuses=(0, 1)
        ),
        BenchmarkStep("split", script("utils/split_dataset.py", "--rows", rows, "--by", "task", "--output_dir", split)),
        BenchmarkStep("described", script("utils/describe_data.py", "--rows", rows, "--output", described)),
    ]


def model_names(count: int) -> list[str]:
    return ["baseline", *(f"checkpoint-{100 * number}" for number in range(1, count))]


def make_results(place: Path, examples: int, models: int) -> None:
    write_many_examples(place / "benchmark", examples)
    write_many_answers(place / "eva_results", examples, model_names(models))


def result_steps(place: Path, models: int) -> list[BenchmarkStep]:
    results, page = place / "eva_results", place / "report.html"
    places = ["--results", results, "--data_path", place / "benchmark"]
    journals = list(results.glob("*/*/generations.jsonl"))
    compared = script("evaluation/compare_models.py", "--models", *model_names(models), "--results", results)
    drawn = script("evaluation/draw_evaluation_results.py", "--results", results, "--output_dir", place / "figures")
    reported = script("evaluation/make_report.py", *places, "--output", page)
    return [
        BenchmarkStep("scored", script("evaluation/rescore.py", *places), journals, prepares=True),
        *([BenchmarkStep("compared", compared)] if models > 1 else []),
        BenchmarkStep("figures", drawn),
        BenchmarkStep("report", reported, [page]),
    ]


def make_journal(place: Path, size: int) -> None:
    """A journal as an evaluation leaves it, and its status, which the monitor brings up to date from it."""
    line = {"key": "0" * 64, "task": "select_fruit", "text": "```json\n[]\n```", "prompt": "x" * 900, "shots": []}
    folder = place / "eva_results" / "Spatial" / "baseline"
    write_jsonl(folder / "generations.jsonl", (line | {"example": number} for number in range(size)))
    status: dict[str, Any] = {"kind": "evaluation", "about": {"model": "baseline", "dimension": "Spatial"}}
    status |= {"state": "interrupted", "reason": "ended", "phase": None, "pid": 1, "process_start": None}
    status |= {"pid_namespace": None, "host": "here", "device": None, "started": utc_now(), "updated": utc_now()}
    status |= {"seconds": 1.0, "total": size, "done": size, "first_done": 0, "failures": 0, "unit": "example"}
    write_json(folder / "status.json", status | {"other_lines": 0, "counts": {}})
    (place / "logs").mkdir()


def journal_steps(place: Path, size: int) -> list[BenchmarkStep]:
    journal = place / "eva_results" / "Spatial" / "baseline" / "generations.jsonl"
    return [
        BenchmarkStep("opened and read", code(_READ_JOURNAL, journal), [journal]),
        BenchmarkStep("100 lines appended", code(_APPEND_TO_JOURNAL, journal)),
        BenchmarkStep("watched", script("utils/monitor_evaluation.py", "--once", "--all")),
    ]


def make_review(place: Path, size: int) -> None:
    write_many_rows(place / "data" / "rows.jsonl", 2 * size)
    write_many_rows(place / "data" / "reviewed.jsonl", size, seed=1)
    write_many_outputs(
        place / "eva_results" / "blind_10" / "outputs.jsonl", place / "data" / "reviewed.jsonl", _REVIEWED
    )


def review_steps(place: Path, size: int) -> list[BenchmarkStep]:
    review, rows = place / "eva_results" / "blind_10", place / "data" / "rows.jsonl"
    drawn = script("utils/split_dataset.py", "--blind_from", rows, "--blind", size, "--output_dir", place / "drawn")
    judged = script("evaluation/analyze_output_results.py", "--review_dir", review, "--judge", "reference")
    return [
        BenchmarkStep("items drawn", drawn, statuses=(0, 1)),
        BenchmarkStep("judged and summed up", judged, [review / "summary.json"], prepares=True),
        BenchmarkStep("scores drawn", script("evaluation/draw_blind10_scores.py", "--review_dir", review)),
    ]


MakeInputs, StepsOf = Callable[[Path, int], None], Callable[[Path, int], list[BenchmarkStep]]

# By part: what makes the inputs of a size in a folder, and the steps over them.
PARTS: dict[str, tuple[MakeInputs, StepsOf]] = {
    "rows": (make_rows, row_steps),
    "examples": (lambda place, size: make_results(place, size, 2), lambda place, size: result_steps(place, 2)),
    "models": (lambda place, size: make_results(place, _EXAMPLES, size), lambda place, size: result_steps(place, size)),
    "journals": (make_journal, journal_steps),
    "reviews": (make_review, review_steps),
}


if __name__ == "__main__":
    run(main)
