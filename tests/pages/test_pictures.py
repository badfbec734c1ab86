"""Pictures of a page: equal ones once, thumbnails that fit."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

from leap.files import write_text
from leap.pages.pictures import find_pictures, make_thumbnails


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Twelve pictures of 200 x 140 noisy pixels, the last two equal, and a file that is none."""
    paths = []
    for number in range(12):
        noise = Image.effect_noise((200, 140), 60 + min(number, 10)).convert("RGB")
        paths.append(tmp_path / f"{number}.png")
        noise.save(paths[-1])
    shutil.copy(paths[10], paths[11])
    write_text(tmp_path / "none.png", "no picture")
    return [*paths, tmp_path / "none.png"]


def test_equal_pictures_are_stored_once(photos):
    pictures = find_pictures([*photos, *photos, Path("/nowhere.png")])
    assert len(pictures.files) == 12
    assert pictures.number[photos[10]] == pictures.number[photos[11]]
    assert Path("/nowhere.png") not in pictures.number


def test_thumbnails_shrink_until_they_fit(photos):
    files = find_pictures(photos).files
    free, tight = make_thumbnails(files, 1e9), make_thumbnails(files, 80_000)
    assert free.side > tight.side
    assert sum(len(base64.b64encode(content)) for content in tight.encoded) <= 80_000
    assert free.unreadable == tight.unreadable == 1
    assert make_thumbnails(files, 5_000) is None


def test_a_small_picture_is_shown_as_the_model_saw_it(photos):
    (content,) = make_thumbnails([photos[0]], 1e9).encoded
    shown, original = Image.open(io.BytesIO(content)), Image.open(photos[0])
    assert shown.convert("RGB").tobytes() == original.tobytes()
