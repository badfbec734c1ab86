"""Near-duplicates are found by hash and thumbnail, quickly, and other scenes are not taken for them."""

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from leap.data.near_duplicates import HASH_BITS, Fingerprints, near_duplicates, perceptual_hash, thumbnail
from leap.demo.tabletop import KINDS, draw, random_scene

DISTANCE, COLOUR = 8, 24  # as the script has them


def looks_of(pictures) -> Fingerprints:
    pictures = list(pictures)
    hashes = np.array([perceptual_hash(picture) for picture in pictures], dtype=np.uint64)
    return Fingerprints(hashes, np.array([np.frombuffer(thumbnail(picture), np.uint8) for picture in pictures]))


def scenes(count: int, seed: int):
    rng = random.Random(seed)
    return [random_scene(rng, rng.sample(list(KINDS), rng.choice((1, 2, 3, 4)))) for _ in range(count)]


def objects(scene):
    return [(placed.cell, placed.kind) for placed in scene.objects]


def photograph(seed: int) -> Image.Image:
    """A picture with detail at all scales, as a camera's has."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((320, 240)), dtype=float)
        for n in (3, 6, 12, 48)
    ]
    return Image.fromarray(np.average(layers, axis=0, weights=(4, 3, 2, 1)).astype(np.uint8))


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


CHANGES = {
    "encoded anew": lambda picture: jpeg(picture, 75),
    "larger": lambda picture: picture.resize((400, 300), Image.Resampling.BICUBIC),
    "half as large, encoded anew": lambda picture: jpeg(picture.resize((160, 120)), 80),
    "a little brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.05),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_picture_encoded_anew_or_rescaled_is_found_and_no_other_one(change):
    pictures = [photograph(seed) for seed in range(60)]
    found = near_duplicates(looks_of(pictures), looks_of([change(picture) for picture in pictures]), DISTANCE, COLOUR)
    assert [(near.trained, near.tested, near.others) for near in found] == [(i, i, 0) for i in range(60)]


def test_drawn_scenes_with_other_objects_are_never_taken_for_the_same():
    seen, tested = scenes(800, 1), scenes(800, 2)
    found = near_duplicates(
        *(looks_of([draw(s, tags=True) for s in side]) for side in (seen, tested)), DISTANCE, COLOUR
    )
    assert found, "of 640,000 pairs some show the same objects"
    assert all(objects(seen[near.trained]) == objects(tested[near.tested]) for near in found)


def test_most_drawn_scenes_are_found_after_they_are_encoded_anew_and_shrunk():
    pictures = [draw(scene, tags=True) for scene in scenes(200, 3)]
    changes = {198: lambda picture: jpeg(picture, 75), 185: lambda picture: picture.resize((51, 51))}
    for fewest, change in changes.items():
        found = near_duplicates(looks_of(pictures), looks_of(map(change, pictures)), DISTANCE, COLOUR)
        assert len({near.trained for near in found}) >= fewest


@pytest.mark.parametrize("distance", [0, 1, 8, 20])
def test_the_bands_find_what_all_pairs_find(distance):
    rng = np.random.default_rng(distance)
    tested = rng.integers(0, 2**64, 300, dtype=np.uint64)
    seen = np.concatenate([rng.integers(0, 2**64, 200, dtype=np.uint64), tested])
    for i in range(200, 500):
        for bit in rng.choice(HASH_BITS, rng.integers(0, 2 * distance + 2), replace=False):
            seen[i] ^= np.uint64(1) << np.uint64(bit)
    blank = [np.zeros((len(side), 192), np.uint8) for side in (seen, tested)]
    apart = np.bitwise_count(seen[:, None] ^ tested[None, :])
    found = near_duplicates(Fingerprints(seen, blank[0]), Fingerprints(tested, blank[1]), distance, 0)
    within = apart <= distance
    assert [near.trained for near in found] == np.flatnonzero(within.any(axis=1)).tolist()
    for near in found:
        assert near.bits == apart[near.trained].min() == apart[near.trained, near.tested]
        assert near.others == within[near.trained].sum() - 1


def test_the_nearest_by_bits_and_then_by_colour_is_named():
    levels = np.array([[5], [3], [9]], np.uint8).repeat(192, axis=1)
    tested = Fingerprints(np.array([1, 1, 3], np.uint64), levels)
    seen = Fingerprints(np.array([1], np.uint64), np.zeros((1, 192), np.uint8))
    (near,) = near_duplicates(seen, tested, 8, 9)
    assert (near.tested, near.bits, near.colour, near.others) == (1, 0, 3, 2)
    (near,) = near_duplicates(seen, tested, 8, 3)
    assert (near.tested, near.others) == (1, 0)
    assert near_duplicates(seen, tested, 8, 2) == []
