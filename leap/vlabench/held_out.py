"""Whether rows show what a benchmark tests: its pictures, its scenes, its instructions.

A number on examples that a planner has trained on says what it remembers. A row gives an example away if

    picture      it shows one of the example's two pictures, by the hash of the file
    near picture it shows one encoded anew or rescaled: the search of leap/data/near_duplicates.py at the image check's
                 thresholds finds it, and in no place of a 16 x 16 thumbnail do the two differ by more than 40 levels
    scene        its `scene` is that of the example's env_config.json, where both are texts
    instruction  its task is the example's instruction, or this (two words at least) stands in its words; case, blanks
                 and signs aside

The finer thumbnail is there because drawn tables whose tags alone differ are near by the search: among 12,000 rows of
the demo and its 280 examples (17,000 by 560 pictures) two pairs of different scenes were, 54 levels apart at least. Of
the 560 pictures all are found as JPEG of quality 75 or at twice their size, 97 % at three quarters, 83 % as JPEG of
quality 50.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from configs.errors import UserError
from leap.data.cleaning import CleaningKnobs
from leap.data.image_checks import PictureCheck, check_pictures, checks_journal
from leap.data.near_duplicates import near_duplicates
from leap.data.row_checks import TESTED, DropReason, PlanningFile, fingerprints_of
from leap.files import json_object, read_json
from leap.rows.chat import task_name_of
from leap.rows.images import decode_image
from leap.rows.records import PlanningRow
from leap.text import plural
from leap.vlabench.examples import Example, examples_below

PICTURE, NEAR_PICTURE, SCENE, INSTRUCTION = "picture", "near picture", "scene", "instruction"
REASONS = (PICTURE, NEAR_PICTURE, SCENE, INSTRUCTION)

_THRESHOLDS = CleaningKnobs()
_FINE_THUMBNAIL = 16  # pixels a side
_FINE_LEVELS = 40  # of 255, in its worst place
_FEWEST_WORDS = 2  # of an instruction that is looked for within other words
_FEW_PICTURES = 500  # which are read sooner than worker processes start


@dataclass(frozen=True)
class DisplayedRow:
    """What of a row can give an example away; `where` names the row."""

    where: str
    task: str
    texts: Sequence[str]
    scene: str | None
    pictures: Sequence[Path]


@dataclass(frozen=True)
class Leak:
    """A row that gives `example` away, for one of REASONS."""

    row: DisplayedRow
    reason: str
    example: Example


def check_held_out(
    rows: Sequence[PlanningRow],
    files: Sequence[Path],
    benchmark: Path,
    pictures_of: Callable[[PlanningRow], list[Path]],
    *,
    shared_instructions: bool,
) -> str:
    """A sentence for the log that says what was compared, of rows of planning `files` and a benchmark's folder.

    UserError if a row gives an example of any dimension away; with `shared_instructions` an instruction alone is no
    reason, as a drawn table's words go with many scenes. Looks at pictures are kept beside the first file, as the image
    check keeps them.
    """
    scenes = scenes_in(files)
    displayed_rows = [_displayed_row(row, scenes.get(row.where), pictures_of(row)) for row in rows]
    looks = checks_journal(files[0].parent)
    advice = _advice(files, benchmark)
    return refuse_leaks("row", displayed_rows, benchmark, looks, advice, shared_instructions=shared_instructions)


def refuse_leaks(
    noun: str, rows: Sequence[DisplayedRow], benchmark: Path, looks: Path, advice: str, *, shared_instructions: bool
) -> str:
    """As `check_held_out`, of what `noun` calls the rows, in files or not; the error ends with `advice`, and the file
    `looks` keeps looks at pictures."""
    examples = examples_below(benchmark)
    if not examples:
        return f"held out: not checked, there is no benchmark in {benchmark}"
    leaks = find_leaks(rows, examples, looks)
    counts = Counter(leak.reason for leak in leaks)
    excused = counts.pop(INSTRUCTION, 0) if shared_instructions else 0
    if counts:
        raise _refusal(leaks, counts, plural(len(rows), noun), advice)
    pictures = len({picture for row in rows for picture in row.pictures})
    sentence = (
        f"held out: {plural(len(rows), noun)} with {plural(pictures, 'picture')} compared with "
        f"{plural(len(examples), 'example')} of {benchmark}: no picture and no scene in common"
    )
    return f"{sentence}; {plural(excused, noun)} with an instruction in common" if excused else sentence


def find_leaks(rows: Sequence[DisplayedRow], examples: Sequence[Example], looks: Path) -> list[Leak]:
    """Every row that gives an example away, in order, once for each reason."""
    by_picture = _PictureLookup(rows, examples, looks)
    by_scene = {scene: example for example in examples if (scene := scene_of(example))}
    by_instruction = _InstructionLookup(examples)

    def of_row(row: DisplayedRow) -> Iterator[tuple[str, Example | None]]:
        for picture in row.pictures:
            yield by_picture.leak_of(picture)
        yield SCENE, by_scene.get(row.scene) if row.scene else None
        yield INSTRUCTION, by_instruction.example_of(row)

    leaks: list[Leak] = []
    for row in rows:
        by_reason = {reason: example for reason, example in of_row(row) if example}
        leaks += [Leak(row, reason, by_reason[reason]) for reason in REASONS if reason in by_reason]
    return leaks


def drop_leaks(files: Iterable[PlanningFile], benchmark: Path) -> None:
    """Give the training rows that show a picture or a scene of a benchmark's folder a reason to be dropped."""
    examples = examples_below(benchmark)
    for file in files:
        if file.tested:
            continue
        scenes, rows = scenes_in([file.path]), {f"{file.path}:{row.number}": row for row in file.rows}
        displayed = [
            DisplayedRow(where, "", (), scenes.get(where), [path for _, path in row.pictures if path])
            for where, row in rows.items()
        ]
        for leak in find_leaks(displayed, examples, checks_journal(file.path.parent)):
            rows[leak.row.where].reasons.append(DropReason(TESTED, f"{leak.reason} of {leak.example.folder}"))


def scene_of(example: Example) -> str | None:
    """The text in `scene` of an example's env_config.json; None where there is none, or something else."""
    with contextlib.suppress(UserError, OSError, AttributeError):
        scene = read_json(example.env_config_file).get("scene")
        return scene if isinstance(scene, str) and scene.strip() else None
    return None


def scenes_in(files: Iterable[Path]) -> dict[str, str]:
    """The `scene` of each row of these files that has one, by "file:line". UserError for a line that is no JSON."""
    scenes = {}
    for path in files:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if b'"scene"' not in line:
                    continue
                scene = json_object(line, f"{path}:{number}").get("scene")
                if isinstance(scene, str):
                    scenes[f"{path}:{number}"] = scene
    return scenes


def _displayed_row(row: PlanningRow, scene: str | None, pictures: Sequence[Path]) -> DisplayedRow:
    texts = [item["text"] for turn in row.messages for item in turn["content"] if item["type"] == "text"]
    return DisplayedRow(row.where, task_name_of(row) or "", texts, scene, pictures)


def _advice(files: Iterable[Path], benchmark: Path) -> str:
    command = f"python scripts/utils/check_and_clean_images.py --benchmark {shlex.quote(str(benchmark))}"
    names = shlex.join(map(str, files))
    return f"{command} --rows {names} writes the rows of other pictures and scenes to *.cleaned.jsonl"


def _refusal(leaks: Sequence[Leak], counts: Mapping[str, int], total: str, advice: str) -> UserError:
    """The error that rows stand in the benchmark, for the reasons in `counts`."""
    first = next(leak for leak in leaks if leak.reason in counts)
    rows = len({leak.row.where for leak in leaks if leak.reason in counts})
    by_reason = ", ".join(f"{counts[reason]:,} by {reason}" for reason in REASONS if reason in counts)
    return UserError(
        f"{first.row.where}: {_WORDS[first.reason]} {first.example.folder}, which is tested on; {rows:,} of {total} "
        f"{'does' if rows == 1 else 'do'} ({by_reason}). {advice}"
    )


_WORDS = {
    PICTURE: "shows a picture of",
    NEAR_PICTURE: "shows a picture that looks like one of",
    SCENE: "has the scene of",
    INSTRUCTION: "states the instruction of",
}


class _InstructionLookup:
    """The examples whose instruction is a row's task or stands in its words."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self._by_words: dict[tuple[str, ...], Example] = {}
        self._openings: dict[str, list[tuple[str, ...]]] = {}  # instructions by their first word
        self._texts: dict[str, Example | None] = {}  # most rows begin with the same ones
        for example in examples:
            with contextlib.suppress(UserError):  # one without an instruction cannot be asked
                words = _words(example.instruction())
                if words and self._by_words.setdefault(words, example) is example and len(words) >= _FEWEST_WORDS:
                    self._openings.setdefault(words[0], []).append(words)

    def example_of(self, row: DisplayedRow) -> Example | None:
        if example := self._by_words.get(_words(row.task)):
            return example
        return next(filter(None, map(self._example_in, row.texts)), None)

    def _example_in(self, text: str) -> Example | None:
        if text not in self._texts:
            words = _words(text)
            phrases = (
                phrase
                for i, word in enumerate(words)
                for phrase in self._openings.get(word, ())
                if words[i : i + len(phrase)] == phrase
            )
            phrase = next(phrases, None)
            self._texts[text] = self._by_words[phrase] if phrase else None
        return self._texts[text]


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.casefold()))


class _PictureLookup:
    """The example that shows a row's picture, or one near to it. Every picture is read once, also in later runs."""

    def __init__(self, rows: Iterable[DisplayedRow], examples: Iterable[Example], looks: Path) -> None:
        row_pictures = dict.fromkeys(picture for row in rows for picture in row.pictures)
        tested = {path: e for e in examples for path in (e.plain_image, e.tagged_image) if path.is_file()}
        paths = list(dict.fromkeys([*row_pictures, *tested]))
        workers = os.cpu_count() or 1 if len(paths) > _FEW_PICTURES else 1
        self._checks = check_pictures(paths, looks, workers, _THRESHOLDS.max_pixels)
        self._equal = {digest: tested[path] for digest, path in self._by_content(tested).items()}
        self._near = self._near_contents(self._by_content(row_pictures), self._by_content(tested), tested)

    def leak_of(self, picture: Path) -> tuple[str, Example | None]:
        digest = self._checks[picture].sha256 or ""
        if digest in self._equal:
            return PICTURE, self._equal[digest]
        return NEAR_PICTURE, self._near.get(digest)

    def _by_content(self, paths: Iterable[Path]) -> dict[str, Path]:
        """The first of each content, by its hash, of those that could be decoded."""
        contents: dict[str, Path] = {}
        for path in paths:
            if digest := self._checks[path].sha256:
                contents.setdefault(digest, path)
        return contents

    def _near_contents(
        self, contents: Mapping[str, Path], tested: Mapping[str, Path], example_of: Mapping[Path, Example]
    ) -> dict[str, Example]:
        """The example near to each content that is near to one and equal to none."""
        apart = [path for digest, path in contents.items() if digest not in tested]
        if not apart or not tested:
            return {}
        others = list(tested.values())
        trained, tested_looks = (fingerprints_of([self._checks[path] for path in paths]) for paths in (apart, others))
        pairs = near_duplicates(trained, tested_looks, _THRESHOLDS.distance, _THRESHOLDS.colour_distance)
        candidates = ((apart[pair.trained], others[pair.tested]) for pair in pairs)
        return {_digest(self._checks[a]): example_of[b] for a, b in candidates if _look_alike(a, b)}


def _digest(check: PictureCheck) -> str:
    assert check.sha256 is not None, "only pictures that were decoded are compared"
    return check.sha256


def _look_alike(a: Path, b: Path) -> bool:
    """Whether two pictures differ by at most _FINE_LEVELS in every place of a thumbnail."""
    # (16, 16, 3) levels each
    first, second = (
        np.asarray(
            decode_image(path.read_bytes()).resize((_FINE_THUMBNAIL, _FINE_THUMBNAIL), Image.Resampling.BOX), np.int16
        )
        for path in (a, b)
    )
    return int(np.abs(first - second).max()) <= _FINE_LEVELS
