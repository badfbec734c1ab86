"""The drawn tabletop: what a scene shows, and which split it belongs to."""

import random

import pytest

from leap.demo.tabletop import CELL_PIXELS, GRID, KINDS, PICTURE_PIXELS, draw, random_scene, split_of


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


def test_a_scene_belongs_to_one_split_whatever_its_shifts():
    rng = random.Random(0)
    scenes = [random_scene(rng, ["apple", "plate", "iris", "salt"]) for _ in range(1000)]
    shares = {split: sum(split_of(s) == split for s in scenes) / 1000 for split in ("train", "validation", "benchmark")}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "benchmark": 0.2}, abs=0.05)
    for scene in scenes[:20]:
        assert split_of(type(scene)(scene.objects, look=scene.look + 1)) == split_of(scene)
