"""The tasks of the tabletop benchmark: which scene, which instruction, which plan.

Names and skill patterns follow VLABench's tasks of the same name where they fit a drawn table.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from leap.demo.tabletop import CELL_NAMES, Scene, family, random_scene

MAX_OBJECTS = 4

# Skill templates: (skill, what it acts on); "item" and "container" become the tags of the scene's objects.
PUT_ON = (("pick", "item"), ("place", "container"))
INSERT = (("pick", "item"), ("insert", "container"))
POUR = (("pick", "item"), ("pour", "container"))
PULL = (("pick", "item"), ("pull", None))
PRESS = (("press", "item"),)


@dataclass(frozen=True)
class TabletopTask:
    """One task: `clues` are pairs of (words of the instruction, kind they mean); spatial tasks have none."""

    name: str
    dimension: str
    family: str
    skills: tuple[tuple[str, str | None], ...]
    container: str | None
    phrases: tuple[str, ...]
    clues: tuple[tuple[str, str], ...] = ()
    items: int = 1


@dataclass(frozen=True)
class TabletopEpisode:
    """A scene with its instruction, skill sequence (VLABench form) and the same plan as numbered prose."""

    task: TabletopTask
    scene: Scene
    instruction: str
    skill_sequence: list[dict]
    steps: str


def _named(kinds: list[str]) -> tuple[tuple[str, str], ...]:
    return tuple((kind, kind) for kind in kinds)


TASKS = (
    TabletopTask(
        "select_fruit",
        "M&T",
        "fruit",
        PUT_ON,
        "plate",
        ("Put the {clue} on the plate", "Move the {clue} onto the plate"),
        _named(family("fruit")),
    ),
    TabletopTask(
        "insert_flower",
        "M&T",
        "flower",
        INSERT,
        "vase",
        ("Put the {clue} into the vase", "Insert the {clue} in the vase"),
        _named(family("flower")),
    ),
    TabletopTask(
        "add_condiment",
        "M&T",
        "condiment",
        POUR,
        "pan",
        ("Add {clue} to the pan", "Pour {clue} into the pan"),
        _named(family("condiment")),
    ),
    TabletopTask(
        "select_book", "M&T", "book", PULL, None, ("Take the {clue} out", "Pull out the {clue}"), _named(family("book"))
    ),
    TabletopTask(
        "select_fruit_common_sense",
        "CommenSence",
        "fruit",
        PUT_ON,
        "plate",
        ("Put the {clue} fruit on the plate",),
        (("sour yellow", "lemon"), ("wine dark", "plum"), ("keeps the doctor away", "apple"), ("mojito", "lime")),
    ),
    TabletopTask(
        "add_condiment_common_sense",
        "CommenSence",
        "condiment",
        POUR,
        "pan",
        ("The dish should be {clue}",),
        (("saltier", "salt"), ("hotter", "pepper"), ("tomato flavoured", "ketchup")),
    ),
    TabletopTask(
        "select_fruit_semantic",
        "Semantic",
        "fruit",
        PUT_ON,
        "plate",
        ("I would love some {clue} now, on the plate please", "My guest came for the {clue}, serve it on the plate"),
        _named(family("fruit")),
    ),
    TabletopTask(
        "insert_flower_semantic",
        "Semantic",
        "flower",
        INSERT,
        "vase",
        ("Her birthday calls for a {clue}, the vase is empty", "That {clue} needs water, use the vase"),
        _named(family("flower")),
    ),
    TabletopTask("select_book_spatial", "Spatial", "book", PULL, None, ("Take the book at the {clue} out",)),
    TabletopTask(
        "select_fruit_spatial", "Spatial", "fruit", PUT_ON, "plate", ("Put the fruit at the {clue} on the plate",)
    ),
    TabletopTask(
        "density_qa",
        "PhysicsLaw",
        "block",
        PRESS,
        None,
        ("Press the block that {clue}",),
        (("floats on water", "cork"), ("weighs most", "gold")),
    ),
    TabletopTask(
        "magnetism_qa",
        "PhysicsLaw",
        "block",
        PRESS,
        None,
        ("Press the block that {clue}",),
        (("a magnet pulls", "iron"), ("may rust", "iron"), ("burns", "cork")),
    ),
    TabletopTask(
        "cook_dishes",
        "Complex",
        "condiment",
        PUT_ON,
        "pan",
        ("Cook with {clue} and {clue2} in the pan",),
        _named(family("condiment")),
        items=2,
    ),
    TabletopTask(
        "book_rearrange",
        "Complex",
        "book",
        PUT_ON,
        "shelf",
        ("Shelve first the {clue}, then the {clue2}",),
        _named(family("book")),
        items=2,
    ),
)

PROSE: dict[str, Callable[[str], str]] = {
    "pick": lambda name: f"Pick up the {name}.",
    "place": lambda name: f"Place it on the {name}.",
    "insert": lambda name: f"Insert it into the {name}.",
    "pour": lambda name: f"Pour it over the {name}.",
    "pull": lambda name: "Pull it out.",
    "press": lambda name: f"Press the {name}.",
}


def random_episode(rng: random.Random, task: TabletopTask, objects: int = MAX_OBJECTS) -> TabletopEpisode:
    """One episode of `task` on a table with `objects` things (raised to what the task needs, at most four)."""
    pool = family(task.family)
    if task.clues:
        clues = rng.sample(task.clues, task.items)
        targets = [kind for _, kind in clues]
    else:
        clues, targets = [], rng.sample(pool, 1)
    needed = targets + ([task.container] if task.container else [])
    others = [kind for kind in pool if kind not in needed]
    extra = max(0, min(objects, MAX_OBJECTS) - len(needed))
    distractors = rng.sample(others, min(extra, len(others)))
    if len(distractors) < extra:
        rest = [kind for kind in family("fruit") + family("container") if kind not in needed + distractors]
        distractors += rng.sample(rest, extra - len(distractors))
    scene = random_scene(rng, needed + distractors)

    words = {"clue": clues[0][0] if clues else CELL_NAMES[next(o.cell for o in scene.objects if o.kind == targets[0])]}
    if task.items == 2:
        words["clue2"] = clues[1][0]
    instruction = rng.choice(task.phrases).format(**words)

    plan, prose = [], []
    for target in targets:
        for skill, role in task.skills:
            acts_on = {"item": target, "container": task.container or "", None: ""}[role]
            params = {}
            if role:
                params = {f"target_{'entity' if role == 'item' else 'container'}_name": scene.tag_of(acts_on)}
            plan.append({"name": skill, "params": params})
            prose.append(PROSE[skill](acts_on))
    steps = " ".join(f"{i}) {text}" for i, text in enumerate(prose, 1))
    return TabletopEpisode(task, scene, instruction, plan, steps)
