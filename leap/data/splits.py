"""Splits of planning rows: whole tasks or whole episodes on one side, and a blind sample of the test side.

LEAP's 90/10 split was published without the code that made it; here a split follows from its rows and a seed.

A row's task id and episode are its own fields, else those in a picture's name (`images/<task>-<episode>.png`); its task
name is its own field, else the one that its prompt states. Rows are of one task if they share its id or its name.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from configs.errors import UserError
from leap.files import numbered_jsonl, replacing, sha256_file
from leap.progress import Progress
from leap.rows.chat import first_file, image_candidates, image_items, task_name_of
from leap.rows.records import PlanningRow, no_rows, row_from_record

_TASK_AND_EPISODE = re.compile(r"(\d+)-(\d+)")  # stem of a published picture: 327-648642
_BATCH = 4096  # pictures handed to the threads at once


@dataclass(slots=True)
class SplitRow:
    """What splitting needs of a row; its text stays in `file` at line `number` (from 1).

    `images` and `digests` go with `written`: the files meant and their sha256, None where a picture cannot be read.
    `plan` and `content` are digests of the plan's words and of the conversation.
    """

    file: Path
    number: int
    task_id: str | None
    task_name: str | None
    episode: str | None
    written: list[str]
    images: list[Path | None]
    plan: bytes
    content: str
    digests: list[str | None]


def read_split_rows(path: Path, image_root: Path | None, workspace: Path) -> list[SplitRow]:
    """The rows of a planning JSONL; UserError names file, line and defect. An empty file is an error."""
    rows = []
    for number, record in numbered_jsonl(path):
        row = row_from_record(record, f"{path}:{number}", path.parent)
        task_id, episode = _task_and_episode(row)
        written = image_items(row)
        images = [_image(item, path.parent, image_root, workspace) for item in written]
        words = " ".join(re.findall(r"\w+", row.steps.casefold()))
        plan = hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()
        content = hashlib.sha256(json.dumps(row.messages, sort_keys=True).encode()).hexdigest()
        name = task_name_of(row)
        rows.append(
            SplitRow(path, number, task_id, name, episode, written, images, plan, content, [None] * len(images))
        )
    if not rows:
        raise no_rows(path)
    return rows


def hash_images(rows: list[SplitRow], workers: int) -> None:
    """Fill in `digests`: each picture is read once, as bytes, by one of `workers` threads."""
    paths = sorted({image for row in rows for image in row.images if image})
    digests: dict[Path, str | None] = {}
    with ThreadPoolExecutor(workers) as pool, Progress("hashing pictures", len(paths), "picture") as progress:
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            for path, digest in zip(batch, pool.map(_digest, batch), strict=True):
                digests[path] = digest
                progress.advance()
    for row in rows:
        row.digests = [digests[image] if image else None for image in row.images]


def split(rows: list[SplitRow], by: str, test: float, val: float, seed: int) -> dict[str, list[SplitRow]]:
    """Sides `train`, `val` (if `val` > 0) and `test`, each in the order of `rows`; no group lies on two of them.

    `by` is "task" or "episode"; a row that states none is grouped by its pictures. `test` and `val` are fractions of
    the rows, met as nearly as whole groups allow. Neither `seed` nor groups depend on the order of `rows`.
    Raises UserError if a side would be empty.
    """
    check_fractions(test, val)
    groups = _groups(rows, by)
    sizes = Counter(groups)
    side_of: dict[str, str] = {}
    for side, fraction in {"test": test, "val": val}.items():
        if fraction:
            left = {group: size for group, size in sizes.items() if group not in side_of}
            if len(left) < 2:
                raise UserError(
                    f"{len(rows)} rows of {len(sizes)} {by}s cannot fill train and {side}: a {by} stays whole. "
                    + ("Give more rows" if by == "episode" else "Split them with --by episode, or give more tasks")
                )
            chosen = _choose(left, max(1, round(fraction * len(rows))), f"{seed} {side}")
            side_of |= dict.fromkeys(chosen, side)
    sides: dict[str, list[SplitRow]] = {side: [] for side in ("train", *(["val"] if val else []), "test")}
    for row, group in zip(rows, groups, strict=True):
        sides[side_of.get(group, "train")].append(row)
    return sides


def check_fractions(test: float, val: float) -> None:
    """UserError if these sides leave nothing to train on."""
    if test + val >= 1:
        raise UserError(f"test_fraction {test} and val_fraction {val} leave nothing to train on; lower them")


def task_labels(rows: list[SplitRow]) -> list[str | None]:
    """One name a row, equal for rows of one task: by id, by name or through others; None for a row that has neither.

    Union-find over ids and names: a row with both joins them, and each set is named by its least member, so that the
    order of `rows` does not matter.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]  # halves the path for the next call
        return key

    keys = [[f"{kind} {v}" for kind, v in (("id", row.task_id), ("name", row.task_name)) if v] for row in rows]
    for first, *others in filter(None, keys):
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return [root(key[0]) if key else None for key in keys]


def blind_sample(rows: list[SplitRow], count: int, seed: int) -> list[SplitRow]:
    """One random row a task name, of the `count` most frequent names; of fewer names there are fewer rows.

    LEAP's own rule for its blind_10 (seed 42), to the draw: it draws for every name in order of first appearance, and
    where there are more than `count` names draws again for the most frequent. Rows without a name take no part.
    """
    by_name: dict[str, list[SplitRow]] = {}
    for row in rows:
        if row.task_name:
            by_name.setdefault(row.task_name, []).append(row)
    if not by_name:
        raise UserError(f"no row of {rows[0].file} states a task name, as field task_name or as 'Task name: ...'")
    rng = random.Random(seed)
    sample = [rng.choice(group) for group in by_name.values()]
    if len(sample) <= count:
        return sample
    return [rng.choice(group) for group in sorted(by_name.values(), key=len, reverse=True)[:count]]


def check_images_from(folder: Path, rows: list[SplitRow], image_root: Path | None, workspace: Path) -> None:
    """UserError if a picture that a row's own file leads to would be another, or none, from a file in `folder`."""
    lost = []
    for row in rows:
        if image_root or row.file.parent == folder:
            continue
        for written, image in zip(row.written, row.images, strict=True):
            if image and not _same_file(_image(written, folder, None, workspace), image):
                lost.append(f"{written} of {row.file}:{row.number}, now {image}")
    if lost:
        raise UserError(
            f"from {folder} {len(lost)} image paths would lead elsewhere or nowhere (first: {lost[0]}). Write beside "
            "the source, or name the images' folder with --image_root, here and in training"
        )


def _same_file(path: Path | None, image: Path) -> bool:
    return path is not None and (path == image or path.samefile(image))


def raw_lines(rows: list[SplitRow]) -> Iterator[bytes]:
    """The rows' lines as they are in their files, in the order of `rows`; each ends with a line break."""
    for file, group in groupby(rows, key=lambda row: row.file):
        with open(file, "rb") as lines:
            position = 0
            for row in group:
                if row.number <= position:
                    lines.seek(0)
                    position = 0
                line = next(islice(lines, row.number - position - 1, None))
                position = row.number
                yield line if line.endswith(b"\n") else line + b"\n"


def sha256_lines(lines: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return digest.hexdigest()


def write_new(contents: dict[Path, Callable[[], Iterable[bytes]]], overwrite: bool) -> None:
    """Write each path's lines, each file in one step; one that holds them already is left alone.

    Raises UserError before anything is written if a file holds something else, unless `overwrite`.
    """
    changed = [path for path, lines in contents.items() if not _holds(path, lines)]
    for path in changed:
        if path.is_dir() or (path.parent.exists() and not path.parent.is_dir()):
            raise UserError(f"cannot write {path}: {path if path.is_dir() else path.parent} is in the way")
        if path.exists() and not overwrite:
            raise UserError(f"{path} holds something else already; replace it with --overwrite, or name another place")
    for path in changed:
        with replacing(path) as file:
            file.writelines(contents[path]())


def _holds(path: Path, lines: Callable[[], Iterable[bytes]]) -> bool:
    return path.is_file() and sha256_file(path) == sha256_lines(lines())


def _image(written: str, folder: Path, image_root: Path | None, workspace: Path) -> Path | None:
    return first_file(image_candidates(written, folder, image_root, workspace))


def _digest(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


def published_ids(row: PlanningRow) -> tuple[str | None, str | None]:
    """The ids of a row's task and episode: its own fields, else what the name of a picture says (<task>-<episode>)."""
    stems = (_TASK_AND_EPISODE.fullmatch(Path(item).stem) for item in image_items(row))
    named = next((match.groups() for match in stems if match), (None, None))
    return row.task_id or named[0], row.episode_id or named[1]


def _task_and_episode(row: PlanningRow) -> tuple[str | None, str | None]:
    """(task id, episode); an episode is told apart by its task too."""
    task_id, episode = published_ids(row)
    return task_id, f"{task_id or task_name_of(row)} {episode}" if episode else None


def _groups(rows: list[SplitRow], by: str) -> list[str]:
    """The group of each row; needs `digests`."""
    labels = task_labels(rows) if by == "task" else [row.episode for row in rows]
    return [f"{by} {label}" if label else _look(row) for label, row in zip(labels, rows, strict=True)]


def _look(row: SplitRow) -> str:
    """What a row shows: its pictures' contents (the path of one that is missing), or its conversation without any."""
    pictures = [digest or written for digest, written in zip(row.digests, row.written, strict=True)]
    return f"pictures {sorted(pictures)}" if pictures else f"conversation {row.content}"


def _choose(sizes: dict[str, int], target: int, seed: str) -> set[str]:
    """Groups whose rows come nearest to `wanted` but are neither none nor all; a random one of such choices.

    Subset sums by dynamic programming over the groups, in an order that hangs on the seed: `last[n]` is the group whose
    coming first made n rows reachable, so that following it back from n names the groups. A greedy choice would miss
    the target by up to the largest group.
    """
    # A hash, not random.shuffle: the order of equal rows in another order must be the same.
    order = sorted(sizes, key=lambda group: hashlib.sha256(json.dumps([seed, group]).encode()).digest())
    # Sums beyond target + the largest group can never be the nearest one.
    limit = min(sum(sizes.values()) - 1, target + max(sizes.values()))
    last = np.full(limit + 1, -1)
    reachable = np.zeros(limit + 1, dtype=bool)
    reachable[0] = True
    for index, group in enumerate(order):
        size = sizes[group]
        fresh = np.flatnonzero(reachable[: max(0, limit + 1 - size)] & ~reachable[size:]) + size
        reachable[fresh] = True
        last[fresh] = index
        if target <= limit and reachable[target]:
            break
    sums = np.flatnonzero(reachable)[1:]
    rows = int(sums[np.argmin(np.abs(sums - target))])
    chosen = set()
    while rows:
        group = order[last[rows]]
        chosen.add(group)
        rows -= sizes[group]
    return chosen
