from pathlib import Path

import pytest
from PIL import Image

from configs.errors import UserError
from leap.rows.chat import planning_prompt, resolve_image, task_name_in
from leap.rows.records import PlanningRow


def row_in(folder: Path) -> PlanningRow:
    return PlanningRow([{"role": "user", "content": [{"type": "text", "text": "x"}]}], "1) x", "f:1", folder)


@pytest.mark.parametrize("written", ["data/images/1-2.png", "images/1-2.png", "demo-data/images/1-2.png"])
def test_all_published_forms_of_an_image_path_resolve(tmp_path, written):
    image = tmp_path / "data" / "images" / "1-2.png"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(image)
    assert resolve_image(written, row_in(tmp_path / "data"), None, tmp_path).samefile(image)
    assert resolve_image(written, row_in(tmp_path / "elsewhere"), None, tmp_path).samefile(image)
    assert resolve_image(written, row_in(tmp_path / "elsewhere"), tmp_path / "data", tmp_path / "x").samefile(image)


def test_an_image_root_is_the_only_place_looked_at_once_it_is_named(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    with pytest.raises(UserError, match=r"f:1: image not found: images/a.png .*--image_root"):
        resolve_image("images/a.png", row_in(tmp_path), tmp_path / "other", tmp_path)


def test_pictures_that_are_still_packed_beside_the_rows_name_the_archive_and_what_unpacks_it(tmp_path):
    (tmp_path / "images.tar.gz").write_bytes(b"packed")
    with pytest.raises(UserError, match=r"images\.tar\.gz is still packed: .*download_dataset\.py --local_dir"):
        resolve_image("images/a.png", row_in(tmp_path), None, tmp_path)


def test_a_picture_inside_the_row_is_no_file_to_be_found(tmp_path):
    with pytest.raises(UserError, match="f:1: image not found: data:image/png;base64"):
        resolve_image("data:image/png;base64," + "A" * 5000, row_in(tmp_path), None, tmp_path)


@pytest.mark.parametrize(
    "prompt",
    [
        planning_prompt("Pick apples"),
        # The form of the published rows, with spaces or line breaks, with and without a full stop after the name.
        "Please look. Task name: Pick apples. Based on the above description, analyze it. Output format: steps: 1) ...",
        "Please look.\nTask name: Pick apples\nBased on the above description, analyze it.",
        "Task name: Pick apples",
    ],
)
def test_the_task_name_is_found_in_every_known_prompt(prompt):
    assert task_name_in(prompt) == "Pick apples"


def test_a_prompt_without_a_task_name_has_none():
    assert task_name_in("Do it.") is None
