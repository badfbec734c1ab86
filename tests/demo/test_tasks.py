"""Tasks of the drawn tabletop: their plans follow from their scenes."""

import random

import pytest

from leap.demo.tabletop import KINDS, MOST_TAG
from leap.demo.tasks import TASKS, random_episode
from leap.plans.reading import subtasks
from leap.vlabench.examples import plan_problem


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_an_episodes_plan_follows_from_its_scene(task):
    rng = random.Random(task.name)
    for objects in (1, 2, 3, 4):
        episode = random_episode(rng, task, objects)
        tags = {placed.tag: placed.kind for placed in episode.scene.objects}
        assert len(tags) == len(episode.scene.objects) <= 4
        assert set(tags) <= set(range(1, MOST_TAG + 1))
        assert plan_problem({"skill_sequence": episode.skill_sequence}) is None
        assert subtasks([skill["name"] for skill in episode.skill_sequence])
        for skill in episode.skill_sequence:
            if "target_container_name" in skill["params"]:
                assert tags[skill["params"]["target_container_name"]] == task.container
            if "target_entity_name" in skill["params"]:
                assert KINDS[tags[skill["params"]["target_entity_name"]]].family == task.family
        assert episode.steps.startswith("1) ")


def test_a_spatial_instruction_names_the_cell_of_its_target():
    task = next(task for task in TASKS if task.name == "select_book_spatial")
    episode = random_episode(random.Random(3), task)
    target = episode.skill_sequence[0]["params"]["target_entity_name"]
    cell = next(placed.cell for placed in episode.scene.objects if placed.tag == target)
    assert ("upper left", "upper right", "lower left", "lower right")[cell] in episode.instruction
