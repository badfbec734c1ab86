import io
import json
import shutil

import pytest
from PIL import Image

from configs.errors import UserError
from leap.vlabench.examples import example_problems, find_examples


@pytest.fixture
def benchmark(demo, tmp_path):
    folder = tmp_path / "benchmark"
    shutil.copytree(demo / "dataset" / "vlm_evaluation_v1.0", folder)
    return folder


def test_examples_are_ordered_by_task_and_number(benchmark):
    for number in (2, 10):
        shutil.copytree(
            benchmark / "Spatial/select_book_spatial/example0",
            benchmark / f"Spatial/select_book_spatial/example{number}",
        )
    found = find_examples(benchmark, ["Spatial"])["Spatial"]
    assert [(e.task, e.number) for e in found] == [
        *(("select_book_spatial", n) for n in (0, 1, 2, 10)),
        ("select_fruit_spatial", 0),
        ("select_fruit_spatial", 1),
    ]


def test_limits_and_tasks_choose_examples(benchmark):
    found = find_examples(benchmark, ["M&T", "Spatial"], tasks=["select_fruit"], num_episodes=1)
    assert [(e.task, e.number) for e in found["M&T"]] == [("select_fruit", 0)]
    assert "Spatial" not in found
    assert len({e.task for e in find_examples(benchmark, ["M&T"], max_tasks=3)["M&T"]}) == 3


def test_an_unknown_task_or_a_missing_dimension_is_named(benchmark):
    with pytest.raises(UserError, match="unknown task 'select_fruitt'.*select_fruit_spatial"):
        find_examples(benchmark, ["Spatial"], tasks=["select_fruitt"])
    shutil.rmtree(benchmark / "Complex")
    with pytest.raises(UserError, match="dimension folder not found: .*Complex"):
        find_examples(benchmark, ["Complex"])


def test_the_drawn_benchmark_has_no_defect(benchmark):
    for examples in find_examples(
        benchmark, ["M&T", "CommenSence", "Semantic", "Spatial", "PhysicsLaw", "Complex"]
    ).values():
        for example in examples:
            assert example_problems(example) == []


def picture(size) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size).save(content, "PNG")
    return content.getvalue()


PICK = {"name": "pick", "params": {"target_entity_name": 1}}


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("input/input.png", None, "is missing"),
        ("input/input.png", b"", "the file is empty"),
        ("input/input_mask.png", b"\x89PNG\r\n\x1a\nxx", "is no intact picture"),
        ("input/input.png", picture((4000, 10)), "one side is more than 200 times the other, which Qwen-VL's"),
        ("input/instruction.txt", None, "is missing"),
        ("input/instruction.txt", b" \n", "is empty"),
        ("input/instruction.txt", b"\xff\xff", "cannot be read"),
        ("env_config/env_config.json", None, "is missing"),
        ("env_config/env_config.json", b"{", "is not valid JSON"),
        ("output/operation_sequence.json", None, "is missing"),
        ("output/operation_sequence.json", b"[", "is not valid JSON"),
        ("output/operation_sequence.json", b"{}", "no skill_sequence list"),
        ("output/operation_sequence.json", [{"name": "grab", "params": {}}], "skill 0 has the unknown name 'grab'"),
        ("output/operation_sequence.json", [PICK], "no official sub-task pattern matches"),
        ("output/operation_sequence.json", [PICK, {"name": "lift"}], "skill 1 is no object with name and params"),
        (
            "output/operation_sequence.json",
            [{"name": "press", "params": {"target_entity_name": "1"}}],
            "not an integer id",
        ),
    ],
)
def test_each_defect_is_found_with_its_path(benchmark, file, content, reason):
    example = find_examples(benchmark, ["Spatial"])["Spatial"][0]
    path = example.folder / file
    path.unlink()
    if isinstance(content, list):
        content = json.dumps({"skill_sequence": content}).encode()
    if content is not None:
        path.write_bytes(content)
    [(named, found)] = example_problems(example)
    assert named == path
    assert reason in found
