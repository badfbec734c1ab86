"""Is a benchmark folder whole? Every example read and decoded, counts compared, files compared with their download.

What VLABench's VLM track holds is the table below, read off the data set VLABench/vlm_evaluation_v1.0 on the Hub: 45
tasks of 100 examples. The folder that a task lies in decides its dimension.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from leap.downloads.fetch import RemoteFile, content_problem
from leap.downloads.record import Record, read_record
from leap.progress import Progress
from leap.vlabench.examples import Example, example_problems, find_examples

BENCHMARK_ID = "VLABench/vlm_evaluation_v1.0"
EXAMPLES_A_TASK = 100
_MOST_LINES = 200  # of defects in the table
_M_AND_T = (
    *("add_condiment", "insert_flower", "select_billiards", "select_book", "select_chemistry_tube"),
    *("select_drink", "select_fruit", "select_poker", "select_toy"),
)
TASKS: dict[str, tuple[str, ...]] = {
    "M&T": _M_AND_T,
    "CommenSence": (
        *(
            f"{task}_common_sense"
            for task in ("add_condiment", "insert_flower", "select_billiards", "select_chemistry_tube")
        ),
        *(f"{task}_common_sense" for task in ("select_drink", "select_fruit", "select_toy")),
        "select_nth_largest_poker",
    ),
    "Semantic": tuple(f"{task}_semantic" for task in _M_AND_T),
    "Spatial": (
        *(f"{task}_spatial" for task in ("add_condiment", "select_billiards", "select_book", "select_chemistry_tube")),
        *(f"{task}_spatial" for task in ("select_fruit", "select_poker", "select_toy")),
        "insert_bloom_flower",
    ),
    "PhysicsLaw": (
        *("density_qa", "friction_qa", "magnetism_qa", "reflection_qa", "speed_of_sound_qa", "thermal_expansion_qa"),
    ),
    "Complex": (
        *("book_rearrange", "cook_dishes", "hammer_nail_and_hang_picture", "take_chemistry_experiment"),
        "texas_holdem",
    ),
}


@dataclass(frozen=True)
class Defect:
    """Something that is not as it should be, and its file or folder."""

    path: Path
    reason: str


@dataclass
class DimensionCheck:
    """One dimension: tasks and examples found, and how many were expected (None: nothing is known)."""

    dimension: str
    tasks: int = 0
    examples: int = 0
    expected_tasks: int | None = None
    expected_examples: int | None = None
    defects: list[Defect] = field(default_factory=list)


@dataclass
class Verification:
    """What was checked. `expected` says where the expected counts come from."""

    folder: Path
    expected: str
    dimensions: list[DimensionCheck]
    commit: str | None = None
    record_files: int = 0

    @property
    def defects(self) -> list[Defect]:
        return [defect for checked in self.dimensions for defect in checked.defects]

    def as_json(self) -> dict:
        """For machines: counts and defects by dimension."""
        plain = [asdict(checked) for checked in self.dimensions]
        for checked in plain:
            checked["defects"] = [{"path": str(d["path"]), "reason": d["reason"]} for d in checked["defects"]]
        return {
            "folder": str(self.folder),
            "expected": self.expected,
            "commit": self.commit,
            "sound": not self.defects,
            "tasks": sum(checked.tasks for checked in self.dimensions),
            "examples": sum(checked.examples for checked in self.dimensions),
            "dimensions": plain,
        }


def verify(
    folder: Path,
    dimensions: Sequence[str],
    expected: str = "auto",
    workers: int = 4,
    hash_files: bool = False,
    quiet: bool = False,
) -> Verification:
    """Check the examples of some dimensions.

    `expected` is "vlabench" (compare with VLABench's tasks and counts), "none", or "auto": as vlabench if the record of
    a download in the folder names that data set. Where there is a record, each file that it lists is looked for, by
    size, with `hash_files` also by hash.
    """
    record = read_record(folder)
    if expected == "auto":
        expected = "vlabench" if record is not None and record.repo_id == BENCHMARK_ID else "none"
    verification = Verification(folder, expected, [], record.commit if record else None)
    with ThreadPoolExecutor(workers) as pool:
        for dimension in dimensions:
            checked = DimensionCheck(dimension)
            verification.dimensions.append(checked)
            files = files_below(record, f"{dimension}/") if record else []
            verification.record_files += len(files)
            look = partial(_hash_problem if hash_files else _size_problem, folder)
            _gather(pool, f"{dimension} files", files, look, checked, quiet)
            if not (folder / dimension).is_dir():
                checked.defects.append(Defect(folder / dimension, "is missing"))
                examples = []
            else:
                examples = find_examples(folder, [dimension], allow_empty=True).get(dimension, [])
                if not examples:
                    checked.defects.append(Defect(folder / dimension, "holds no example"))
            _gather(pool, dimension, examples, _example_defects, checked, quiet)
            checked.tasks, checked.examples = len({e.task for e in examples}), len(examples)
            if expected == "vlabench":
                _compare_counts(folder, checked, examples)
            checked.defects = list({defect.path: defect for defect in reversed(checked.defects)}.values())[::-1]
    return verification


def files_below(record: Record, prefix: str) -> list[RemoteFile]:
    """The files of a record whose path begins with `prefix`."""
    return [file for path, file in sorted(record.files.items()) if path.startswith(prefix)]


def _gather(
    pool: ThreadPoolExecutor,
    what: str,
    items: Sequence,
    look: Callable[[Any], list[Defect]],
    checked: DimensionCheck,
    quiet: bool,
) -> None:
    if quiet:
        checked.defects += [defect for defects in pool.map(look, items) for defect in defects]
        return
    with Progress(what, len(items), "example" if look is _example_defects else "file") as progress:
        for defects in pool.map(look, items):
            checked.defects += defects
            progress.advance()


def _example_defects(example: Example) -> list[Defect]:
    return [Defect(path, reason) for path, reason in example_problems(example)]


def _size_problem(folder: Path, file: RemoteFile) -> list[Defect]:
    path = folder / file.path
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return [Defect(path, "is missing")]
    return [] if size == file.size else [Defect(path, f"has {size:,} bytes, {file.size:,} expected")]


def _hash_problem(folder: Path, file: RemoteFile) -> list[Defect]:
    problem = content_problem(folder / file.path, file)
    return [Defect(folder / file.path, problem)] if problem else []


def _compare_counts(folder: Path, checked: DimensionCheck, examples: Sequence[Example]) -> None:
    tasks = TASKS[checked.dimension]
    counts = Counter(example.task for example in examples)
    checked.expected_tasks, checked.expected_examples = len(tasks), len(tasks) * EXAMPLES_A_TASK
    for task in tasks:
        if counts[task] != EXAMPLES_A_TASK:
            reason = f"has {counts[task]} examples, {EXAMPLES_A_TASK} expected"
            checked.defects.append(Defect(folder / checked.dimension / task, reason))
    for task in sorted(set(counts) - set(tasks)):
        checked.defects.append(Defect(folder / checked.dimension / task, "is no task of this dimension in VLABench"))


def verification_table(verification: Verification) -> str:
    """Counts by dimension, the first 200 defects with their paths, and what was compared."""
    lines = [f"{'dimension':14}{'tasks':>10}{'examples':>14}{'defects':>9}"]
    for checked in verification.dimensions:
        tasks = _of_expected(checked.tasks, checked.expected_tasks)
        examples = _of_expected(checked.examples, checked.expected_examples)
        lines.append(f"{checked.dimension:14}{tasks:>10}{examples:>14}{len(checked.defects):>9}")
    lines += [f"{defect.path}: {defect.reason}" for defect in verification.defects[:_MOST_LINES]]
    if len(verification.defects) > _MOST_LINES:
        lines.append(
            f"and {len(verification.defects) - _MOST_LINES:,} more; verify_dataset.py --json FILE has them all"
        )
    if verification.expected == "none":
        lines.append("counts are not compared with VLABench's; --expected vlabench does that")
    if verification.commit:
        lines.append(
            f"{verification.record_files:,} files compared with the download of commit {verification.commit[:12]}"
        )
    lines.append(f"{len(verification.defects)} defects" if verification.defects else "no defects")
    return "\n".join(lines)


def _of_expected(number: int, expected: int | None) -> str:
    return str(number) if expected is None else f"{number}/{expected}"
