"""What planning files hold: rows, tasks, plans, words, pictures, duplicates, and what the files share.

    {"files": {name: {"path", "rows", "tasks", "episodes", "kinds": {kind: rows}, "duplicates": {what: rows},
                      "distributions": {what: {"count", "mean", "min", "median", "p95", "max", "values": {value: n}}},
                      "counts": {"verbs" | "objects" | "picture sizes" | "task rows": {name: count}}}},
     "pictures_by": "content" | "file", "shared": an overlap report (leap/data/overlap.py), or null for a single file}

Pictures are told apart by content where their hashes are known, else by file. Values that cannot be told are left out.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.data.image_checks import journaled_checks, look_stamp
from leap.data.overlap import overlap_report, share_text
from leap.data.plan_words import plan_words, words_of
from leap.data.planning_files import naming_the_check
from leap.data.splits import SplitRow, hash_images, read_split_rows, task_labels
from leap.files import sha256_json
from leap.progress import Progress
from leap.rows.chat import image_items
from leap.rows.images import image_size
from leap.rows.records import iter_rows
from leap.text import markdown_table

Description = dict[str, Any]

STEPS, PLAN_WORDS, STEP_WORDS, PROMPT_WORDS, IMAGES = (
    "steps a plan",
    "words a plan",
    "words a step",
    "words a prompt",
    "images a row",
)
VERBS, OBJECTS, SIZES, TASK_ROWS = "verbs", "objects", "picture sizes", "task rows"
BY_CONTENT, BY_FILE = "content", "file"
UNREADABLE = "(unreadable)"

_MOST_NAMES = 15  # names of each kind in the table


@dataclass
class _FileCounts:
    """Counts over the rows of one file."""

    kinds: Counter = field(default_factory=Counter)
    values: dict[str, Counter] = field(default_factory=dict)
    verbs: Counter = field(default_factory=Counter)
    objects: Counter = field(default_factory=Counter)
    prompts: list[str] = field(default_factory=list)  # a digest a row

    def count(self, what: str, value: int) -> None:
        self.values.setdefault(what, Counter())[value] += 1


def describe(files: Sequence[Path], image_root: Path | None, workspace: Path, hash_pictures: int = 0) -> Description:
    """Describe planning files, the one trained on first. UserError names file, line and defect.

    `hash_pictures` is the number of threads that read every picture, so that equal ones are told by content; with 0
    they are if the image check (leap/data/image_checks.py) has kept all their hashes.
    """
    sides = {}
    for name, path in zip(_names(files), files, strict=True):
        try:
            sides[name] = read_split_rows(path, image_root, workspace)
        except UserError as error:
            raise naming_the_check(error, path) from error
    everything = [row for rows in sides.values() for row in rows]
    sizes, by_content = _pictures(everything, files, hash_pictures)
    task_of = dict(zip(map(id, everything), _task_names(everything), strict=True))
    names = list(sides)
    pairs = [(trained, tested) for index, tested in enumerate(names) for trained in names[:index]]
    return {
        "files": {
            name: _describe_file(path, rows, [task_of[id(row)] for row in rows], sizes)
            for (name, rows), path in zip(sides.items(), files, strict=True)
        },
        "pictures_by": BY_CONTENT if by_content else BY_FILE,
        "shared": overlap_report(sides, pairs) if pairs else None,
    }


def _describe_file(
    path: Path, rows: Sequence[SplitRow], row_tasks: Sequence[str | None], sizes: Mapping[Path, str]
) -> dict[str, Any]:
    """The entry of one file; `row_tasks` names each row's task, `sizes` says how large each picture is."""
    counts = _count_words(path, len(rows))
    tasks = Counter(row_tasks)
    pictures = dict.fromkeys(image for row in rows for image in row.images if image)
    return {
        "path": str(path),
        "rows": len(rows),
        "tasks": len(tasks.keys() - {None}),
        "rows without a task": tasks.pop(None, 0),
        "episodes": len({row.episode for row in rows} - {None}),
        "pictures": len({digest for row in rows for digest in row.digests if digest}),
        "missing pictures": sum(image is None for row in rows for image in row.images),
        "kinds": dict(counts.kinds.most_common()),
        "duplicates": _duplicates(rows, counts.prompts),
        "distributions": {what: distribution(values) for what, values in counts.values.items()},
        "counts": {
            VERBS: dict(counts.verbs.most_common()),
            OBJECTS: dict(counts.objects.most_common()),
            SIZES: dict(Counter(sizes[image] for image in pictures).most_common()),
            TASK_ROWS: dict(tasks.most_common()),
        },
    }


def add_token_lengths(description: Description, name: str, parts: Mapping[str, Iterable[int]]) -> None:
    """Add tokens by part of a row (visual, prompt, supervised, total) to the distributions of a file."""
    for part, values in parts.items():
        description["files"][name]["distributions"][f"{part} tokens a row"] = distribution(Counter(values))


def distribution(values: Mapping[int, int]) -> dict[str, Any]:
    """Summary of values that were each counted so often."""
    ordered = sorted(values.items())
    count = sum(values.values())
    return {
        "count": count,
        "mean": sum(value * times for value, times in ordered) / count,
        "min": ordered[0][0],
        "median": _median(ordered, count),
        "p95": _value_of_rank(ordered, int(0.95 * (count - 1))),
        "max": ordered[-1][0],
        "values": {str(value): times for value, times in ordered},
    }


def most_frequent(files: Iterable[Mapping[str, Any]], what: str, most: int) -> tuple[list[str], int]:
    """The `most` most frequent names of a kind over described files, and how many there are."""
    everywhere: Counter = Counter()
    for file in files:
        everywhere.update(file["counts"][what])
    return [name for name, _ in everywhere.most_common(most)], len(everywhere)


def description_text(description: Description) -> str:
    """The description as Markdown tables."""
    files = description["files"]
    lines = ["# What the planning files hold", "", markdown_table([["", *files], *_overview(files)])]
    by = "content" if description["pictures_by"] == BY_CONTENT else "file (two files with the same content count twice)"
    lines += ["", f"Pictures are told apart by {by}.", "", _distributions_table(files), ""]
    for what in (VERBS, OBJECTS, SIZES, TASK_ROWS):
        lines += [_counts_table(what, files), ""]
    if description["shared"]:
        lines += ["## What the files share", "", _overlap_table(description["shared"]), ""]
    return "\n".join(lines)


def _distributions_table(files: Mapping[str, dict]) -> str:
    rows = [["distribution", "file", "count", "mean", "min", "median", "95 %", "max"]]
    for what in dict.fromkeys(what for file in files.values() for what in file["distributions"]):
        for name, file in files.items():
            if entry := file["distributions"].get(what):
                marks = [f"{entry[mark]:,}" for mark in ("min", "median", "p95", "max")]
                rows.append([what, name, f"{entry['count']:,}", f"{entry['mean']:.1f}", *marks])
    return markdown_table(rows)


def _overlap_table(report: Mapping[str, Any]) -> str:
    rows = [["seen / tested", "of", "shared", "tested rows that hold one", "cannot tell"]]
    for pair, kinds in report["overlap"].items():
        for kind, entry in kinds.items():
            rows.append([pair, kind, f"{entry['shared']:,}", share_text(entry), f"{entry['unknown']:,}"])
    return markdown_table(rows)


def _count_words(path: Path, count: int) -> _FileCounts:
    counts = _FileCounts()
    with Progress(f"describing {path.name}", count, "row") as progress:
        for row in iter_rows(path):
            plan = plan_words(row.steps)
            counts.kinds[plan.kind] += 1
            if plan.steps is not None:
                counts.count(STEPS, plan.steps)
            counts.count(PLAN_WORDS, plan.words)
            if plan.step_words:
                counts.values.setdefault(STEP_WORDS, Counter()).update(plan.step_words)
            items = [item for turn in row.messages for item in turn["content"]]
            words, prompt = _prompt(tuple(item["text"] for item in items if item["type"] == "text"))
            counts.count(PROMPT_WORDS, words)
            counts.count(IMAGES, len(image_items(row)))
            counts.verbs.update(plan.verbs)
            counts.objects.update(plan.objects)
            counts.prompts.append(prompt)
            progress.advance()
    return counts


@functools.lru_cache(maxsize=1 << 16)
def _prompt(texts: tuple[str, ...]) -> tuple[int, str]:
    """(number of words, digest) of a prompt."""
    return sum(len(words_of(text)) for text in texts), sha256_json(texts)


def _duplicates(rows: Sequence[SplitRow], prompts: Sequence[str]) -> dict[str, int]:
    """Rows that repeat an earlier one, by what is equal: plans by their words, pictures where there are some."""
    pairs = list(zip(rows, prompts, strict=True))
    picture_sets = [tuple(row.digests) if row.digests and all(row.digests) else None for row in rows]
    return {
        "plan": len(rows) - len({row.plan for row in rows}),
        "prompt and plan": len(rows) - len({(prompt, row.plan) for row, prompt in pairs}),
        "pictures": _repeated(picture_sets),
        "pictures and plan": _repeated(
            [(s, row.plan) if s else None for s, row in zip(picture_sets, rows, strict=True)]
        ),
    }


def _repeated(keys: Sequence[Any]) -> int:
    usable = [key for key in keys if key is not None]
    return len(usable) - len(set(usable))


def _pictures(rows: Sequence[SplitRow], files: Sequence[Path], threads: int) -> tuple[dict[Path, str], bool]:
    """The size of each picture as text; fills in `digests`. Whether these are of content."""
    checks = journaled_checks(dict.fromkeys(file.parent for file in files))
    paths = dict.fromkeys(image for row in rows for image in row.images if image)
    sizes: dict[Path, str] = {}
    digests: dict[Path, str | None] = {}
    with Progress("reading pictures' sizes", len(paths), "picture") as progress:
        for path in paths:
            check = checks.get(str(path))
            if check and check.width and _is_current(path, check.stamp):
                sizes[path], digests[path] = f"{check.width} x {check.height}", check.sha256
            else:
                sizes[path] = _size(path)
            progress.advance()
    by_content = bool(paths) and all(map(digests.get, paths))
    if threads and not all(map(digests.get, paths)):
        hash_images(list(rows), threads)
        return sizes, True
    digests = digests if by_content else _real_paths(paths)
    for row in rows:
        row.digests = [digests[image] if image else None for image in row.images]
    return sizes, by_content


def _real_paths(paths: Iterable[Path]) -> dict[Path, str | None]:
    """What tells files apart whose contents are not known: the path that each one leads to."""
    folder_of = functools.cache(os.path.realpath)  # follows the links of each folder on the way but once
    real: dict[Path, str | None] = {}
    for path in paths:
        in_folder = os.path.join(folder_of(path.parent), path.name)
        real[path] = os.path.realpath(path) if os.path.islink(in_folder) else in_folder
    return real


def _is_current(path: Path, stamp: str) -> bool:
    try:
        return look_stamp(path) == stamp
    except OSError:
        return False


def _size(path: Path) -> str:
    try:
        width, height = image_size(path, "")
    except UserError:
        return UNREADABLE
    return f"{width} x {height}"


def _task_names(rows: Sequence[SplitRow]) -> list[str | None]:
    """What each row's task is called: id and name where it has both; equal for rows of one task."""
    labels = task_labels(list(rows))
    names: dict[str, str] = {}
    for label, row in zip(labels, rows, strict=True):
        if label:
            name = " ".join(filter(None, (row.task_id, row.task_name)))
            names[label] = max(names.get(label, ""), name, key=len)
    taken = Counter(names.values())
    unique = {label: name if taken[name] == 1 else f"{name} ({label})" for label, name in names.items()}
    return [unique[label] if label else None for label in labels]


def _names(files: Sequence[Path]) -> list[str]:
    names = [file.name for file in files]
    return names if len(set(names)) == len(names) else list(map(str, files))


def _value_of_rank(ordered: Sequence[tuple[int, int]], rank: int) -> int:
    """The value of this rank, from 0, of counted values in order."""
    passed = 0
    for value, times in ordered:
        passed += times
        if passed > rank:
            return value
    raise IndexError(rank)


def _median(ordered: Sequence[tuple[int, int]], count: int) -> float:
    """The middle one of `count` values, or the mean of the middle two; an int if it is whole."""
    twice = _value_of_rank(ordered, (count - 1) // 2) + _value_of_rank(ordered, count // 2)
    return twice / 2 if twice % 2 else twice // 2


def _overview(files: Mapping[str, dict]) -> list[list[str]]:
    plain = ("rows", "tasks", "rows without a task", "episodes", "pictures", "missing pictures")
    lines = [[key, *(f"{file[key]:,}" for file in files.values())] for key in plain]
    for kind in dict.fromkeys(kind for file in files.values() for kind in file["kinds"]):
        lines.append([f"plans: {kind}", *(f"{file['kinds'].get(kind, 0):,}" for file in files.values())])
    for what in ("plan", "prompt and plan", "pictures", "pictures and plan"):
        lines.append([f"rows that repeat a {what}".replace("a pictures", "pictures"),
                      *(f"{file['duplicates'][what]:,}" for file in files.values())])  # fmt: skip
    return lines


def _counts_table(what: str, files: Mapping[str, dict]) -> str:
    """The most frequent names over all files, with their counts in each."""
    top, number = most_frequent(files.values(), what, _MOST_NAMES)
    rows = [[name, *(f"{file['counts'][what].get(name, 0):,}" for file in files.values())] for name in top]
    rest = number - len(top)
    if rest > 0:
        left = [sum(file["counts"][what].values()) - sum(file["counts"][what].get(n, 0) for n in top)
                for file in files.values()]  # fmt: skip
        rows.append([f"{rest:,} other{'s' * (rest > 1)}", *(f"{count:,}" for count in left)])
    return markdown_table([[what, *files], *rows]) if rows else f"No {what}."
