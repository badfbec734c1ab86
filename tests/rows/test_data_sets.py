"""Data sets of Hugging Face as sources of rows: folders, splits, pictures in the rows, and what is said of others."""

import datetime
import io
import json
import shutil
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, Features, List, Value
from datasets import Image as ImageColumn
from PIL import Image

from configs.errors import UserError
from leap.cli import parse_knobs
from leap.rows.data_sets import MediaFolder, content_sha256, count_rows, files_of, json_line, require_data_set
from leap.rows.sources import Source, data_named, source_of, words_of
from leap.training.preflight import check_file
from leap.training.recipes import TrainingRecipe
from tests.conftest import assert_one_line_error, run_script
from tests.downloading import fetch

TURNS = [{"role": "user", "content": "<image>Plan <image>."}, {"role": "assistant", "content": "1) Go."}]
COLUMNS = Features(
    {"messages": List({"role": Value("string"), "content": Value("string")}), "images": List(ImageColumn())}
)


def png(colour, size=(64, 64)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": f"{colour}.png"}


def pictured(*pairs):
    """Chats whose turn shows two pictures."""
    rows = [{"messages": TURNS, "images": [png(colour) for colour in pair]} for pair in pairs]
    return Dataset.from_list(rows, features=COLUMNS)


@pytest.fixture
def folder(workspace):
    pictured(("red", "blue"), ("blue", "green")).save_to_disk(workspace / "set")
    return workspace / "set"


def pictures_of(folder):
    return sorted(path for path in folder.parent.glob(f".{folder.name}.pictures/*/*"))


def test_a_folder_of_save_to_disk_is_read_with_its_pictures(folder, collator):
    check = check_file(folder, collator, 256)
    assert [row.where for row in check.rows] == [f"{folder}:1", f"{folder}:2"]
    assert [row.steps for row in check.rows] == ["1) Go.", "1) Go."]
    assert [item["type"] for item in check.rows[0].messages[0]["content"]] == ["image", "text", "image", "text"]
    colours = [picture.getpixel((0, 0)) for row in check.rows for picture in collator.pictures(row)]
    assert colours == [(255, 0, 0), (0, 0, 255), (0, 0, 255), (0, 128, 0)]
    assert len(pictures_of(folder)) == 3, "a picture is written once, however often it is shown"
    assert "read as chats" in check.text()


def test_pictures_that_are_gone_come_again_from_the_data_set_and_others_stay_untouched(folder, collator):
    check_file(folder, collator, 256)
    lost, *others = pictures_of(folder)
    times = [path.stat().st_mtime_ns for path in others]
    lost.unlink()
    check = check_file(folder, collator, 256)
    assert check.rejected == []
    assert [path.stat().st_mtime_ns for path in others] == times
    assert lost.is_file()


def test_a_split_is_named_behind_a_hash_and_may_have_a_weight(workspace, collator):
    DatasetDict({"train": pictured(("red", "red")), "test": pictured(*[("blue", "red")] * 3)}).save_to_disk(
        workspace / "set"
    )
    source = source_of(f"{workspace / 'set'}#test:0.5")
    assert source == Source(workspace / "set#test", 0.5)
    assert count_rows(source.path) == len(check_file(source.path, collator, 256).rows) == 3
    assert content_sha256(workspace / "set#test") != content_sha256(workspace / "set#train")
    for name, words in (("set", "the splits are train, test; name one as"), ("set#dev", "the splits are train, test")):
        with pytest.raises(UserError, match=words):
            count_rows(workspace / name)


def test_the_only_split_needs_no_name_and_a_set_without_splits_has_none(folder, workspace):
    DatasetDict({"all": pictured(("red", "red"))}).save_to_disk(workspace / "one")
    assert count_rows(workspace / "one") == 1
    with pytest.raises(UserError, match="there are no splits; name"):
        count_rows(workspace / "set#train")


def test_the_content_of_a_set_is_that_of_its_rows(folder, workspace):
    again = workspace / "again"
    shutil.copytree(folder, again)
    assert content_sha256(again) == content_sha256(folder)
    pictured(("red", "red")).save_to_disk(workspace / "other")
    assert content_sha256(workspace / "other") != content_sha256(folder)


def test_names_of_the_hub_pass_through_recipes(workspace):
    data = data_named(["hf://me/set#train:0.5", "hf://me/set#test", "a.jsonl"])
    assert words_of(data) == ["hf://me/set#train:0.5", "hf://me/set#test:1", "a.jsonl:1"]
    assert data_named(words_of(data)) == data
    assert words_of(data_named(["hf://me/set"])) == "hf://me/set"
    with pytest.raises(UserError, match="hf://me/set is named twice; name it once, with a weight: hf://me/set:2"):
        data_named(["hf://me/set", "hf://me/set:2"])


def test_names_of_the_hub_are_not_taken_for_paths_by_flags_and_recipes(workspace):
    recipe = workspace / "mix.yaml"
    for written, words in (
        ("hf://me/set#train", "hf://me/set#train"),
        ("[hf://me/set#train:0.5, a.jsonl]", ["hf://me/set#train:0.5", f"{workspace / 'a.jsonl'}:1"]),
    ):
        recipe.write_text(f"train_file: {written}")
        assert words_of(parse_knobs(TrainingRecipe, [], "", recipe).train_file) == words
    arguments = ["--rows", "hf://me/set#train:0.5", "hf://me/set#test"]
    data = parse_knobs(TrainingRecipe, arguments, "", recipe).train_file
    assert words_of(data) == ["hf://me/set#train:0.5", "hf://me/set#test:1"]


def test_a_folder_that_is_no_data_set_is_said_with_what_to_do(workspace):
    (workspace / "plain").mkdir()
    with pytest.raises(UserError, match="rows must be a file, or a data set as save_to_disk"):
        require_data_set(workspace / "plain", "rows")
    benchmark = workspace / "dataset" / "vlm_evaluation_v1.0"
    for place in (benchmark, benchmark / "Spatial"):
        with pytest.raises(UserError, match=r"holds examples of a benchmark.* scripts/utils/make_grounding_rows.py"):
            require_data_set(place, "rows")
    with pytest.raises(UserError, match="hf://set: a data set of the Hub is named hf://owner/name"):
        require_data_set(Path("hf:/set"), "rows")


def test_a_damaged_set_is_one_line_by_name(folder, workspace, collator):
    (rows,) = files_of(folder)
    rows.write_bytes(rows.read_bytes()[:200])
    arguments = ["--base_model", workspace / "models/tiny-planner", "--rows", folder]
    assert_one_line_error(run_script("training/validate_data.py", *arguments), f"{folder}: no data set can be read")
    rows.unlink()
    assert_one_line_error(run_script("training/validate_data.py", *arguments), f"{folder}: no data set can be read")


def test_a_picture_that_is_none_is_a_defect_of_its_row(workspace, collator):
    rows = [{"messages": TURNS, "images": [png("red"), picture]} for picture in (png("blue"), {"bytes": b"?"})]
    Dataset.from_list(rows, features=COLUMNS).save_to_disk(workspace / "set")
    check = check_file(workspace / "set", collator, 256)
    assert len(check.rows) == 1
    [rejected] = check.rejected
    assert rejected.defect.startswith(f"{workspace / 'set'}:2: unreadable image: ")


def test_a_row_as_json_has_files_for_pictures_and_text_for_what_json_has_not(tmp_path):
    record = {
        "images": [png("red"), {"bytes": None, "path": "b.png"}],
        "image": b"x",
        "when": datetime.date(2026, 1, 2),
    }
    line = json.loads(json_line(record | {"empty": None}, MediaFolder(tmp_path / "rows.parquet"), "rows.parquet:1"))
    assert line.keys() == {"images", "image", "when"}
    assert [*line["images"][1:], line["when"]] == ["b.png", "2026-01-02"]
    assert Path(line["images"][0]).read_bytes() == png("red")["bytes"]
    assert Path(line["image"]).read_bytes() == b"x"
    with pytest.raises(UserError, match="rows.parquet:1: the row holds bytes outside of image, images"):
        json_line({"sound": b"x"}, MediaFolder(tmp_path / "rows.parquet"), "rows.parquet:1")


@pytest.mark.slow
def test_a_split_of_the_hub_is_read_and_one_that_is_not_there_is_one_line(workspace, hub):
    file = io.BytesIO()
    pictured(("red", "blue"), ("blue", "green")).to_parquet(file)
    hub.add("dataset", "me/rows", {"data/train-00000-of-00001.parquet": file.getvalue(), "README.md": b"# Rows\n"})
    arguments = ["--base_model", workspace / "models/tiny-planner", "--image_tokens_min", 1, "--image_tokens_max", 16]

    def check(name, **more):
        return fetch(hub, "training/validate_data.py", *arguments, "--rows", name, first_pause_s=None, **more)

    done = check("hf://me/rows#train")
    assert done.returncode == 0, done.stderr
    assert "hf://me/rows#train: 2 rows" in done.stdout
    assert check("hf://me/rows#train", HF_HUB_OFFLINE="1").returncode == 0, "what was fetched is there without the Hub"
    for name, more in (("hf://me/gone", {}), ("hf://me/other", {"HF_HUB_OFFLINE": "1"}), ("hf://me/rows#dev", {})):
        done = check(name, **more)
        assert done.returncode == 2, done.stderr
        assert f"error: {name}: " in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
