"""Planning rows that teach which number is which object, from examples in the benchmark's folder format.

Planners fail at ids: LEAP's published checkpoint-5000 scores 72.2 on skills and 0.3 on entities under the official
rules. A plan names few objects; rows that name all of a picture train the way from a name to its number densely.

    listing   the tagged picture -> all objects by name with their numbers, "apple 1 lemon 7"
    find      the tagged picture and the name of one object -> its number, "7"
    plan      the benchmark's own prompt -> its ground truth, a fenced list of skills with whole numbers as ids

Names and numbers are those of `objects` in env_config.json, [{"name": "apple", "tag": 1}, ...], as the demo writes it.
An example without such a list, as VLABench's own may be, gives a row of its plan alone. A row has id, task_name (the
instruction) and, where env_config.json has it as a text, scene.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob
from leap.data.image_checks import checks_journal
from leap.data.splits import write_new
from leap.files import read_json, replacing
from leap.plans.reading import fenced_steps, steps_of
from leap.progress import say
from leap.text import plural
from leap.vlabench.examples import Example, examples_below
from leap.vlabench.held_out import DisplayedRow, refuse_leaks, scene_of
from leap.vlabench.prompts import LANGUAGES, STYLES, PromptWriter

LISTING, FIND, PLAN = "listing", "find", "plan"
LISTING_PROMPT = "List the tagged objects by name."
FIND_PROMPT = "Which number is on the {name}?"


@dataclass(frozen=True)
class GroundingKnobs:
    """Which examples become rows, and which rows."""

    data_path: Path | None = knob(None, "folder of examples in the benchmark's format, none of which is tested on")
    benchmark: Path = knob(Path("dataset/vlm_evaluation_v1.0"), "folder of the examples that are tested on")
    output: Path = knob(Path("data/grounding.jsonl"), "planning file to write; pictures go to images/ beside it")
    count: int | None = knob(None, "rows (default: as many as the shares allow without a repeat)", check="> 0")
    listing_share: float = knob(0.3, "share of rows that list all objects of a picture", check=">= 0")
    find_share: float = knob(0.3, "share of rows that find one object", check=">= 0")
    plan_share: float = knob(0.4, "share of rows that plan", check=">= 0")
    seed: int = knob(42, "seed of what is drawn, and of its order", check=">= 0")
    prompt: str = knob("auto", "wording: VLABench's own, ours, or its own if the submodule is there", choices=STYLES)
    language: str = knob("en", "language of the prompt", choices=LANGUAGES)
    copy_pictures: bool = knob(True, "copy the pictures; else rows name them where they are")
    overwrite: bool = knob(False, "replace a planning file that holds something else")

    @property
    def shares(self) -> dict[str, float]:
        return {LISTING: self.listing_share, FIND: self.find_share, PLAN: self.plan_share}


class NamedObject(NamedTuple):
    """An object of a scene, and the number that is drawn on it."""

    name: str
    tag: int


@dataclass(frozen=True)
class Draft:
    """A row to be: its kind, its example, its answer and, to find an object, the name."""

    kind: str
    example: Example
    answer: str
    name: str = ""


def write_grounding_rows(knobs: GroundingKnobs, workspace: WorkspaceConfig) -> None:
    """Write the rows and say what of. UserError if an example is tested on or damaged, or nothing can be drawn."""
    if knobs.data_path is None:
        raise UserError("name the folder of examples with --data_path, one that is not tested on")
    examples = examples_below(workspace.require(knobs.data_path, "folder of examples"))
    if not examples:
        raise UserError(f"no <dimension>/<task>/example<N> folder below {knobs.data_path}")
    for example in examples:
        if problem := example.problem():
            raise UserError(problem)
    say(refuse_tested(examples, knobs))
    pools = pools_of(examples)
    if without := len(examples) - len(pools[LISTING]):
        say(f"{without} of {plural(len(examples), 'example')} name no objects in env_config.json: plans alone of these")
    drafts = drawn(pools, knobs.shares, knobs.count, random.Random(knobs.seed))
    writer = PromptWriter(workspace, knobs.prompt, knobs.language)
    pictures = PictureFolder(knobs.output.parent, copied=knobs.copy_pictures)
    lines = [_line(draft, writer, pictures) for draft in drafts]
    write_new({knobs.output: lambda: lines}, knobs.overwrite)
    counts = Counter(draft.kind for draft in drafts)
    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in knobs.shares if counts[kind])
    used = len({draft.example for draft in drafts})
    say(f"{knobs.output}: {plural(len(drafts), 'row')} ({kinds}) of {plural(used, 'example')}")


def refuse_tested(examples: Sequence[Example], knobs: GroundingKnobs) -> str:
    """What was compared, in words. UserError if an example shows a picture or a scene of the benchmark."""
    rows = [
        DisplayedRow(
            str(example.folder),
            example.instruction(),
            (),
            scene_of(example),
            (example.plain_image, example.tagged_image),
        )
        for example in examples
    ]
    advice = "Take these out of --data_path, or name the folder that is tested on with --benchmark"
    looks = checks_journal(knobs.output.parent)
    return refuse_leaks("example", rows, knobs.benchmark, looks, advice, shared_instructions=True)


def objects_of(example: Example) -> list[NamedObject]:
    """The objects that env_config.json names with the numbers on them, sorted; none where it has no such list."""
    with contextlib.suppress(UserError, OSError, AttributeError, LookupError, TypeError):
        objects = [NamedObject(entry["name"], entry["tag"]) for entry in read_json(example.env_config_file)["objects"]]
        if all(isinstance(name, str) and name.strip() and type(tag) is int for name, tag in objects):
            return sorted(objects)
    return []


def pools_of(examples: Sequence[Example]) -> dict[str, list[Draft]]:
    """All rows that can be made, by kind. A name that two objects share finds neither."""
    pools: dict[str, list[Draft]] = {LISTING: [], FIND: [], PLAN: []}
    for example in examples:
        pools[PLAN].append(Draft(PLAN, example, fenced_steps(steps_of(example.ground_truth()))))
        if objects := objects_of(example):
            pools[LISTING].append(Draft(LISTING, example, " ".join(f"{name} {tag}" for name, tag in objects)))
        names = Counter(name for name, _ in objects)
        pools[FIND] += [Draft(FIND, example, str(tag), name) for name, tag in objects if names[name] == 1]
    return pools


def drawn(
    pools: Mapping[str, Sequence[Draft]], shares: Mapping[str, float], count: int | None, rng: random.Random
) -> list[Draft]:
    """`count` of these rows in random order, none twice, by the shares of those kinds that there are. UserError if
    there are not so many."""
    parts = {kind: shares[kind] for kind, pool in pools.items() if pool and shares[kind]}
    if not parts:
        raise UserError("nothing to write: the shares leave only kinds of rows that these examples cannot give")
    parts = {kind: share / sum(parts.values()) for kind, share in parts.items()}
    most = int(min(len(pools[kind]) / share for kind, share in parts.items()) + 1e-9)
    if count is not None and count > most:
        short = min(parts, key=lambda kind: len(pools[kind]) / parts[kind])
        raise UserError(
            f"--count {count} at these shares needs more than {plural(len(pools[short]), short + ' row')}; at most "
            f"{most} can be had. Lower it, or --{short}_share"
        )
    drafts: list[Draft] = []
    total, asked_for = count or max(most, 1), 0.0
    for kind, share in parts.items():  # running sums, so that the parts make up the whole
        asked_for += share * total
        drafts += rng.sample(pools[kind], min(round(asked_for) - len(drafts), len(pools[kind])))
    rng.shuffle(drafts)
    return drafts


class PictureFolder:
    """Where rows in a folder find the pictures of examples."""

    def __init__(self, folder: Path, *, copied: bool) -> None:
        self._folder, self._copied = folder, copied

    def path_of(self, picture: Path, example: Example) -> str:
        """The path to write into a row, once the picture is there. A copy is named after its content too, so that it
        never replaces another one."""
        if not self._copied:
            return str(picture.resolve())
        plain, tagged = example.picture_sha256s()
        digest, look = (tagged, "tags") if picture == example.tagged_image else (plain, "plain")
        words = f"{example.dimension}-{example.task}-{example.number}-{look}-{digest[:8]}"
        path = self._folder / "images" / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', words)}.png"
        if not path.is_file():
            with replacing(path) as file:
                file.write(picture.read_bytes())
        return path.relative_to(self._folder).as_posix()


def _line(draft: Draft, writer: PromptWriter, pictures: PictureFolder) -> bytes:
    """The line of a row in a planning file."""
    example = draft.example
    words = (draft.kind, example.dimension, example.task, str(example.number), draft.name)
    content = [
        item | {"image": pictures.path_of(Path(item["image"]), example)} if item["type"] == "image" else item
        for item in _prompt(draft, writer)
    ]
    scene = scene_of(example)
    record = {
        "id": "-".join(filter(None, words)),
        "task_name": example.instruction().strip(),
        **({"scene": scene} if scene else {}),
        "messages": [{"role": "user", "content": content}],
        "target": {"steps": draft.answer},
    }
    return (json.dumps(record) + "\n").encode()


def _prompt(draft: Draft, writer: PromptWriter) -> Iterator[dict]:
    """The items of the user turn."""
    if draft.kind == PLAN:
        yield from writer.write(draft.example)
        return
    yield {"type": "image", "image": str(draft.example.tagged_image)}
    yield {"type": "text", "text": LISTING_PROMPT if draft.kind == LISTING else FIND_PROMPT.format(name=draft.name)}
