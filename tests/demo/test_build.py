"""The drawn benchmark and rows: every dimension, every kind of row, no scene in two of them."""

import json
import random

import pytest

from configs.errors import UserError
from leap.archives import work_folder
from leap.demo.build import ROW_SHARES, build_folder, episode_of_split
from leap.demo.tabletop import PICTURE_PIXELS
from leap.demo.tasks import TASKS
from leap.files import read_jsonl, sha256_json
from leap.plans.reading import read_official
from leap.rows.chat import task_name_in
from leap.rows.images import load_image
from leap.rows.records import read_rows
from leap.vlabench.examples import find_examples, plan_problem

BENCHMARK_DIMENSIONS = ["M&T", "CommenSence", "Semantic", "Spatial", "PhysicsLaw", "Complex"]


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


def test_a_demo_that_another_process_builds_is_left_to_it(tmp_path):
    with work_folder(tmp_path / ".models.part"), pytest.raises(UserError, match="in use by another process"):
        build_folder(tmp_path / "models", lambda folder: (folder / "x").touch())
    build_folder(tmp_path / "models", lambda folder: (folder / "x").touch())
    assert [path.name for path in tmp_path.rglob("*")] == ["models", "x"]
