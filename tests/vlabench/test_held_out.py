"""What rows show of a benchmark: its pictures under any name or encoding, its scenes, its instructions."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from configs.errors import UserError
from leap.data.image_checks import checks_journal
from leap.data.near_duplicates import Fingerprints, near_duplicates, perceptual_hash, thumbnail
from leap.demo.tabletop import Scene, SceneObject, draw
from leap.rows.chat import image_items
from leap.rows.records import read_rows
from leap.vlabench.held_out import check_held_out, scene_of
from tests.conftest import run_script
from tests.vlabench.benchmark_tree import make_benchmark

INSTRUCTION = "Take the novel out"


@pytest.fixture
def tested(examples):
    """An example whose scene and instruction are known."""
    examples[0].instruction_file.write_text(INSTRUCTION)
    examples[0].env_config_file.write_text(json.dumps({"scene": "0:novel:3"}))
    return examples[0]


def row(*pictures, words="Plan it.", **more):
    content = [{"type": "image", "image": str(picture)} for picture in pictures] + [{"type": "text", "text": words}]
    return {"messages": [{"role": "user", "content": content}], "target": {"steps": "1) Go."}} | more


def check(tmp_path, *records, shared=False):
    """What is said of these rows beside the benchmark of the test."""
    path = tmp_path / "data" / "mine.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))

    def pictures_of(planning):
        return [path.parent / written for written in image_items(planning)]

    return check_held_out(read_rows(path), [path], tmp_path / "benchmark", pictures_of, shared_instructions=shared)


def test_rows_of_other_tables_pass_though_they_share_instructions(demo, tmp_path):
    file = tmp_path / "train.jsonl"
    shutil.copy(demo / "data" / "train.jsonl", file)
    rows, benchmark = read_rows(file), demo / "dataset" / "vlm_evaluation_v1.0"

    def pictures_of(planning):
        return [demo / "data" / written for written in image_items(planning)]

    sentence = check_held_out(rows, [file], benchmark, pictures_of, shared_instructions=True)
    pictures = {path for planning in rows for path in pictures_of(planning)}
    assert f"200 rows with {len(pictures)} pictures compared with 28 examples" in sentence
    assert "rows with an instruction in common" in sentence
    with pytest.raises(UserError, match=r"train.jsonl:\d+: states the instruction of .* by instruction"):
        check_held_out(rows, [file], benchmark, pictures_of, shared_instructions=False)
    assert checks_journal(tmp_path).is_file(), "looks are kept for the next run"


def test_a_picture_under_another_name_is_found_with_file_and_line(tested, tmp_path):
    copy = tmp_path / "renamed.png"
    shutil.copy(tested.tagged_image, copy)
    other = tmp_path / "other.png"
    Image.effect_noise((64, 64), 80).save(other)
    with pytest.raises(UserError) as error:
        check(tmp_path, row(other), row(other, copy), row(copy), shared=True)
    text = str(error.value)
    assert text.startswith(f"{tmp_path / 'data' / 'mine.jsonl'}:2: shows a picture of {tested.folder}")
    assert "2 of 3 rows do (2 by picture)" in text
    assert "check_and_clean_images.py --benchmark" in text


def as_jpeg(picture, path):
    picture.save(path.with_suffix(".jpg"), quality=80)
    return path.with_suffix(".jpg")


def twice_as_large(picture, path):
    picture.resize((128, 128), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.mark.parametrize("encode", [as_jpeg, twice_as_large])
def test_a_picture_encoded_anew_is_found(tested, tmp_path, encode):
    path = encode(Image.open(tested.plain_image), tmp_path / "anew.png")
    with pytest.raises(UserError, match=r"looks like one of .*1 of 1 row does \(1 by near picture\)"):
        check(tmp_path, row(path), shared=True)


def test_a_table_whose_tags_alone_differ_is_another_one(tested, tmp_path):
    def table(*tags):
        kinds = ("plate", "plum", "lemon", "apple")
        objects = (SceneObject(kind, cell, tag) for cell, (kind, tag) in enumerate(zip(kinds, tags, strict=True)))
        return draw(Scene(tuple(objects), look=3), tags=True)

    def fingerprint(picture):
        levels = np.frombuffer(thumbnail(picture), np.uint8)
        return Fingerprints(np.array([perceptual_hash(picture)], dtype=np.uint64), levels[None])

    trained, shown = table(5, 2, 7, 1), table(8, 4, 2, 7)
    assert near_duplicates(fingerprint(trained), fingerprint(shown), 8, 24), "the search alone takes them for the same"
    shown.save(tested.tagged_image)
    trained.save(tmp_path / "trained.png")
    assert "no picture and no scene in common" in check(tmp_path, row(tmp_path / "trained.png"))


def test_a_scene_is_found_by_its_name_alone(tested, tmp_path):
    with pytest.raises(UserError, match=r"mine.jsonl:2: has the scene of .*\(1 by scene\)"):
        check(tmp_path, row(scene="0:novel:4"), row(scene="0:novel:3"), shared=True)


def test_a_scene_that_is_no_text_says_nothing(tested, tmp_path):
    tested.env_config_file.write_text(json.dumps({"scene": {"name": "kitchen"}}))
    assert scene_of(tested) is None
    assert "no scene in common" in check(tmp_path, row(scene={"name": "kitchen"}), shared=True)


@pytest.mark.parametrize(
    "record",
    [
        row(task_name="take the NOVEL  out."),
        row(words="Task name: Take the novel out.\nPlan it."),
        row(words="You plan for a robot.\nInstruction: Take the novel out\n"),
    ],
)
def test_an_instruction_is_found_whatever_its_case_blanks_and_place(tested, tmp_path, record):
    with pytest.raises(UserError, match="states the instruction of"):
        check(tmp_path, record)
    assert "1 row with an instruction in common" in check(tmp_path, record, shared=True)


def test_a_part_of_an_instruction_is_another_one(tested, tmp_path):
    assert check(tmp_path, row(task_name="Take the novel"), row(words="Take the novel outside"))


def test_an_example_without_pictures_is_compared_by_its_words(tmp_path):
    make_benchmark(tmp_path / "benchmark")
    with pytest.raises(UserError, match="example3, which is tested on"):
        check(tmp_path, row(task_name="Do number 3 of cook_dishes"))


def test_without_a_benchmark_the_sentence_says_that_nothing_was_checked(tmp_path):
    assert check(tmp_path, row()) == f"held out: not checked, there is no benchmark in {tmp_path / 'benchmark'}"


def test_the_advised_command_leaves_the_other_rows(tested, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(tested.plain_image, data / "copy.png")
    Image.effect_noise((64, 64), 80).save(data / "other.png")
    records = [row("copy.png"), row("other.png"), row("other.png", scene="0:novel:3")]
    with pytest.raises(UserError):
        check(tmp_path, *records, shared=True)
    file, benchmark = data / "mine.jsonl", tmp_path / "benchmark"
    done = run_script("utils/check_and_clean_images.py", "--rows", file, "--benchmark", benchmark, "--workers", 1)
    assert done.returncode == 1, done.stderr
    assert "2 rows: shows what a benchmark tests" in done.stdout
    assert (data / "mine.cleaned.jsonl").read_text() == json.dumps(records[1]) + "\n"
    file.write_bytes((data / "mine.cleaned.jsonl").read_bytes())
    assert "no picture and no scene" in check(tmp_path, records[1], shared=True)
