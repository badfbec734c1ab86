"""Rows that teach which number is which object: what they ask and answer, and which examples give none."""

import json
import random
import shutil

import pytest

from configs.errors import UserError
from leap.demo.build import episode_of_split, write_example
from leap.demo.tasks import TASKS
from leap.files import read_jsonl
from leap.plans.reading import read_official
from leap.rows.chat import resolve_image
from leap.rows.records import read_rows
from leap.vlabench.examples import examples_below
from leap.vlabench.grounding_rows import drawn, objects_of, pools_of
from tests.conftest import assert_one_line_error, run_script

SCRIPT = "utils/make_grounding_rows.py"


@pytest.fixture
def source(tmp_path):
    """A folder of six examples of three tasks, over tables that no benchmark has."""
    rng = random.Random(5)
    for task in TASKS[:3]:
        for number in range(2):
            folder = tmp_path / "source" / task.dimension / task.name / f"example{number}"
            write_example(folder, episode_of_split(rng, task, "train", 4))
    return tmp_path / "source"


def make(source, demo, tmp_path, *flags):
    benchmark = demo / "dataset" / "vlm_evaluation_v1.0"
    output = tmp_path / "rows" / "grounding.jsonl"
    words = ("--data_path", source, "--benchmark", benchmark, "--output", output, *flags)
    return run_script(SCRIPT, *words), output


def test_every_kind_of_row_names_the_numbers_that_are_drawn(source, demo, tmp_path):
    done, output = make(source, demo, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "held out: 6 examples with 12 pictures compared with 28 examples" in done.stdout
    examples = {(e.task, e.number): e for e in examples_below(source)}
    kinds = set()
    for record, row in zip(read_jsonl(output), read_rows(output), strict=True):
        kind, _, task, number, *name = row.id.split("-")
        example = examples[task, int(number)]
        assert record["scene"] == json.loads(example.env_config_file.read_text())["scene"]
        assert row.task_name == example.instruction()
        pictures = [item["image"] for item in row.messages[0]["content"] if item["type"] == "image"]
        shown = [resolve_image(written, row, None, tmp_path).read_bytes() for written in pictures]
        tags = dict(objects_of(example))
        if kind == "plan":
            assert shown == [example.plain_image.read_bytes(), example.tagged_image.read_bytes()]
            assert read_official(row.steps) == example.ground_truth()
        else:
            assert shown == [example.tagged_image.read_bytes()]
            assert row.steps == (str(tags[name[0]]) if name else " ".join(f"{n} {t}" for n, t in sorted(tags.items())))
        kinds.add(kind)
    assert kinds == {"listing", "find", "plan"}


def test_shares_are_met_and_a_seed_gives_the_same_rows(source, demo, tmp_path):
    flags = ("--count", 10, "--listing_share", 1, "--find_share", 3, "--plan_share", 1)
    done, output = make(source, demo, tmp_path, *flags)
    assert "10 rows (2 listing, 6 find, 2 plan)" in done.stdout
    first = output.read_bytes()
    assert make(source, demo, tmp_path, *flags)[0].returncode == 0, "rows that are there already are left alone"
    done, _ = make(source, demo, tmp_path, *flags, "--seed", 1)
    assert_one_line_error(done, "holds something else already", "--overwrite")
    assert make(source, demo, tmp_path, *flags, "--seed", 1, "--overwrite")[0].returncode == 0
    assert output.read_bytes() != first
    assert len({record["id"] for record in read_jsonl(output)}) == 10


def test_pictures_may_stay_where_they_are(source, demo, tmp_path):
    done, output = make(source, demo, tmp_path, "--no-copy_pictures")
    assert done.returncode == 0, done.stderr
    assert not (output.parent / "images").exists()
    for record in read_jsonl(output):
        pictures = [item["image"] for item in record["messages"][0]["content"] if item["type"] == "image"]
        assert all(path.startswith(str(source)) for path in pictures)


def test_an_example_without_a_list_of_objects_gives_its_plan_alone(source, demo, tmp_path):
    for example in examples_below(source)[:5]:
        example.env_config_file.write_text(json.dumps({"scene": {"name": "kitchen"}, "objects": "apple"}))
    done, output = make(source, demo, tmp_path, "--plan_share", 0)
    assert "5 of 6 examples name no objects" in done.stdout
    assert {record["id"].split("-")[3] for record in read_jsonl(output)} == {"1"}
    done, output = make(source, demo, tmp_path, "--listing_share", 0, "--find_share", 0, "--overwrite")
    assert "6 rows (6 plan) of 6 examples" in done.stdout
    assert sum("scene" in record for record in read_jsonl(output)) == 1


def test_objects_of_one_name_are_listed_and_not_looked_for(source):
    example = examples_below(source)[0]
    objects = [{"name": "cup", "tag": 4}, {"name": "cup", "tag": 2}, {"name": "plate", "tag": 1}]
    example.env_config_file.write_text(json.dumps({"objects": objects}))
    pools = pools_of([example])
    assert [draft.answer for draft in pools["listing"]] == ["cup 2 cup 4 plate 1"]
    assert [(draft.name, draft.answer) for draft in pools["find"]] == [("plate", "1")]


def test_more_rows_than_there_are_is_an_error_that_says_how_many_can_be_had(source):
    pools = pools_of(examples_below(source))
    shares = {"listing": 0.5, "find": 0.0, "plan": 0.5}
    assert len(drawn(pools, shares, None, random.Random(0))) == 12
    with pytest.raises(UserError, match="--count 13 .* at most 12 can be had"):
        drawn(pools, shares, 13, random.Random(0))
    with pytest.raises(UserError, match="nothing to write"):
        drawn({"listing": [], "find": [], "plan": pools["plan"]}, shares | {"plan": 0.0}, None, random.Random(0))


def test_examples_that_are_tested_on_are_refused(source, demo, tmp_path):
    benchmark = demo / "dataset" / "vlm_evaluation_v1.0"
    done, output = make(benchmark, demo, tmp_path)
    assert_one_line_error(done, "28 of 28 examples do", "--benchmark")
    assert not output.exists()
    stolen, example = examples_below(benchmark)[0], examples_below(source)[3]
    shutil.copy(stolen.env_config_file, example.env_config_file)
    done, _ = make(source, demo, tmp_path)
    assert_one_line_error(done, f"{example.folder}: has the scene of {stolen.folder}", "1 of 6 examples does")


def test_a_folder_of_none_and_no_folder_are_errors_of_one_line(demo, tmp_path):
    assert_one_line_error(run_script(SCRIPT), "--data_path")
    (tmp_path / "empty").mkdir()
    assert_one_line_error(make(tmp_path / "empty", demo, tmp_path)[0], "no <dimension>/<task>/example<N> folder")
