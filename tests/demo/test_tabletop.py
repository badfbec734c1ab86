import json
import random

import pytest

from leap.demo.build import ROW_SHARES, episode_of_split
from leap.demo.tabletop import CELL_PIXELS, GRID, KINDS, MOST_TAG, PICTURE_PIXELS, draw, random_scene, split_of
from leap.demo.tasks import TASKS, random_episode
from leap.files import read_jsonl, sha256_json
from leap.plans.reading import read_official, subtasks
from leap.rows.chat import task_name_in
from leap.rows.images import load_image
from leap.rows.records import read_rows
from leap.vlabench.examples import find_examples, plan_problem

BENCHMARK_DIMENSIONS = ["M&T", "CommenSence", "Semantic", "Spatial", "PhysicsLaw", "Complex"]


def test_no_two_kinds_look_alike():
    assert len({(kind.shape, kind.color) for kind in KINDS.values()}) == len(KINDS)


def test_a_picture_is_what_its_scene_says_and_tags_change_it():
    scene = random_scene(random.Random(0), ["apple", "plate", "iris"])
    plain, tagged = draw(scene, tags=False), draw(scene, tags=True)
    assert plain.size == (PICTURE_PIXELS, PICTURE_PIXELS)
    assert draw(scene, tags=True).tobytes() == tagged.tobytes()
    for cell in range(GRID**2):
        row, column = divmod(cell, GRID)
        box = (column * CELL_PIXELS, row * CELL_PIXELS, (column + 1) * CELL_PIXELS, (row + 1) * CELL_PIXELS)
        occupied = any(thing.cell == cell for thing in scene.objects)
        assert (len(plain.crop(box).getcolors()) > 1) == occupied
        assert (plain.crop(box).tobytes() != tagged.crop(box).tobytes()) == occupied


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


def test_the_benchmark_has_all_dimensions_with_two_or_more_tasks(demo):
    found = find_examples(demo / "dataset" / "vlm_evaluation_v1.0", BENCHMARK_DIMENSIONS)
    assert list(found) == BENCHMARK_DIMENSIONS
    for examples in found.values():
        assert len({example.task for example in examples}) >= 2


def test_no_scene_is_shared_between_training_validation_benchmark_and_blind_review(demo):
    scenes = {
        split: {record["scene"] for record in read_jsonl(demo / "data" / f"{split}.jsonl")}
        for split in ("train", "val", "blind_10")
    }
    found = find_examples(demo / "dataset" / "vlm_evaluation_v1.0", BENCHMARK_DIMENSIONS)
    scenes["benchmark"] = {
        json.loads(e.env_config_file.read_text())["scene"] for examples in found.values() for e in examples
    }
    assert all(scenes.values())
    assert len(set.union(*scenes.values())) == sum(map(len, scenes.values()))


def test_the_blind_review_has_ten_prose_rows_of_ten_tasks(demo):
    rows = read_rows(demo / "data" / "blind_10.jsonl")
    assert len({row.task_name for row in rows}) == len(rows) == 10
    for row in rows:
        [picture, text] = row.messages[0]["content"]
        assert load_image(demo / "data" / picture["image"], row.where).size == (PICTURE_PIXELS, PICTURE_PIXELS)
        assert task_name_in(text["text"]) == row.task_name
        assert row.steps.startswith(("1) Pick", "1) Press"))


def test_the_rows_of_a_seed_stay_as_they_were():
    """Numbers in the README come from them."""
    rng = random.Random("validation 0")
    episodes = [episode_of_split(rng, rng.choice(TASKS), "validation", rng.choice((1, 2, 3, 4))) for _ in range(50)]
    drawn = [[episode.instruction, episode.steps, episode.scene.key(), episode.scene.look] for episode in episodes]
    assert sha256_json(drawn) == "b3ef34a1ac26a2efb304de58da6bfddcaa19819bb6f0cd86cb92ea69d7b3fa47"


def test_a_scene_belongs_to_one_split_whatever_its_shifts():
    rng = random.Random(0)
    scenes = [random_scene(rng, ["apple", "plate", "iris", "salt"]) for _ in range(1000)]
    shares = {split: sum(split_of(s) == split for s in scenes) / 1000 for split in ("train", "validation", "benchmark")}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "benchmark": 0.2}, abs=0.05)
    for scene in scenes[:20]:
        assert split_of(type(scene)(scene.objects, look=scene.look + 1)) == split_of(scene)


def test_rows_are_planning_rows_of_every_kind_with_their_pictures(demo):
    rows = read_rows(demo / "data" / "train.jsonl")
    plans = [row for row in rows if row.steps.startswith("```json")]
    prose = [row for row in rows if row.steps.startswith("1) Pick") or row.steps.startswith("1) Press")]
    assert len(plans) == pytest.approx(len(rows) * ROW_SHARES["plan"], rel=0.35)
    assert prose
    for row in plans:
        assert plan_problem({"skill_sequence": read_official(row.steps)}) is None
    for row in rows:
        for item in row.messages[0]["content"]:
            if item["type"] == "image":
                assert load_image(demo / "data" / item["image"], row.where).size == (PICTURE_PIXELS, PICTURE_PIXELS)
