"""A small benchmark tree with plans only: what scoring needs, quickly made."""

from __future__ import annotations

import json
from pathlib import Path

from leap.vlabench.examples import Example

TASKS = {"Spatial": ("select_book_spatial", "select_fruit_spatial"), "Complex": ("book_rearrange", "cook_dishes")}


def pick(entity):
    return {"name": "pick", "params": {"target_entity_name": entity}}


def place(container):
    return {"name": "place", "params": {"target_container_name": container}}


def make_example(root: Path, dimension: str, task: str, number: int, plan: list[dict]) -> Example:
    """Write an example's instruction and ground truth below `root`."""
    example = Example(dimension, task, number, root / dimension / task / f"example{number}")
    example.plan_file.parent.mkdir(parents=True, exist_ok=True)
    example.plan_file.write_text(json.dumps({"skill_sequence": plan}))
    example.instruction_file.parent.mkdir(exist_ok=True)
    example.instruction_file.write_text(f"Do number {number} of {task}.")
    return example


def make_benchmark(root: Path) -> dict[str, list[Example]]:
    """Ten examples a task in two dimensions: one sub-task in Spatial, two in Complex."""
    found: dict[str, list[Example]] = {}
    for dimension, tasks in TASKS.items():
        found[dimension] = []
        for task in tasks:
            for number in range(10):
                plan = [pick(number), place(20)]
                if dimension == "Complex":
                    plan += [pick(number + 10), place(21)]
                found[dimension].append(make_example(root, dimension, task, number, plan))
    return found
