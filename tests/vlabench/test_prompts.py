import json
import shutil

import pytest

from configs.config import REPOSITORY, WorkspaceConfig
from configs.errors import UserError
from leap.plans.reading import read_official, read_tolerant
from leap.vlabench.examples import find_examples
from leap.vlabench.prompts import PromptWriter, _official_assembly, prompt_text

SUBMODULE = REPOSITORY / "VLABench" / "VLABench"
needs_submodule = pytest.mark.skipif(not SUBMODULE.is_dir(), reason="the VLABench submodule is not checked out")


@pytest.fixture
def examples(demo):
    return find_examples(demo / "dataset" / "vlm_evaluation_v1.0", ["Spatial", "M&T"])


def writer(**options):
    return PromptWriter(WorkspaceConfig(REPOSITORY), style=options.pop("style", "builtin"), **options)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_builtin_prompt_shows_both_pictures_and_ends_with_the_instruction(examples, language):
    example = examples["Spatial"][0]
    items = writer(language=language).write(example)
    assert [item["image"] for item in items if item["type"] == "image"] == [
        str(example.plain_image),
        str(example.tagged_image),
    ]
    assert items[-1]["text"].strip().endswith(example.instruction())
    for word in ("target_entity_name", "target_container_name", "open_door", "pick pour place", "JSON"):
        assert word.lower() in prompt_text(items).lower()


def test_nothing_of_the_answer_or_the_environment_is_in_the_prompt(examples):
    for example in examples["M&T"]:
        text = prompt_text(writer().write(example))
        assert json.loads(example.env_config_file.read_text())["scene"] not in text
        assert json.dumps(example.ground_truth()) not in text


def test_shots_are_seeded_never_the_query_and_answerable_by_the_official_parser(examples):
    pool = examples["Spatial"]
    three = writer(few_shot_num=3, pool=pool)
    for example in pool:
        shots = three.shots_for(example)
        assert example not in shots
        assert len({shot.folder for shot in shots}) == 3
        assert shots == writer(few_shot_num=3, pool=pool).shots_for(example)
        items = three.write(example)
        assert sum(item["type"] == "image" for item in items) == 8
        answers = [item["text"] for item in items if item["type"] == "text" and item["text"].startswith("```")]
        assert [read_official(answer) for answer in answers] == [shot.ground_truth() for shot in shots]
    assert any(three.shots_for(e) != writer(few_shot_num=3, pool=pool, seed=1).shots_for(e) for e in pool)


def test_too_few_examples_for_the_shots_is_an_error(examples):
    with pytest.raises(UserError, match="4 shots wanted, 3 other examples there"):
        writer(few_shot_num=4, pool=examples["Spatial"]).shots_for(examples["Spatial"][0])


def test_a_chain_of_thought_is_asked_for_at_the_end(examples):
    assert "step by step" in writer(with_cot=True).write(examples["Spatial"][0])[-1]["text"]


def test_the_fingerprint_tells_prompts_apart():
    prints = [
        writer().fingerprint(),
        writer(language="zh").fingerprint(),
        writer(with_cot=True).fingerprint(),
        writer(few_shot_num=1).fingerprint(),
        writer(few_shot_num=1, seed=7).fingerprint(),
    ]
    assert len({json.dumps(p) for p in prints}) == len(prints)


def test_auto_falls_back_to_the_builtin_prompt_and_official_names_the_submodule(examples, monkeypatch, tmp_path):
    monkeypatch.setattr(WorkspaceConfig, "vlabench", property(lambda self: tmp_path / "VLABench"))
    assert writer(style="auto").fingerprint()["style"] == "builtin"
    with pytest.raises(UserError, match="VLABench's prompt not found"):
        writer(style="official")


@needs_submodule
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_official_prompt_has_the_official_items_in_order(examples, language):
    example = examples["Spatial"][0]
    items = writer(style="official", language=language, few_shot_num=1, pool=examples["Spatial"], with_cot=True).write(
        example
    )
    shot = writer(few_shot_num=1, pool=examples["Spatial"]).shots_for(example)[0]
    assert items[0]["text"] == (SUBMODULE / f"configs/prompt/eval_vlm_{language}.txt").read_text(encoding="utf-8")
    assert [i["image"] for i in items if i["type"] == "image"] == [
        str(path) for e in (shot, example) for path in (e.plain_image, e.tagged_image)
    ]
    if language == "en":
        assert [i["text"] for i in items[1:] if i["type"] == "text"] == [
            "Example 0 input picture:",
            "Example 0 input picture with numbered tags",
            "Example 0 language instruction:",
            shot.instruction(),
            "Example 0 output skill sequence",
            json.dumps(json.loads(shot.plan_file.read_text())),
            "Input picture",
            "Input picture with numbered tags",
            "Language instruction:",
            example.instruction(),
            "Please give the output skill sequence",
            "Please analyze the problem step by step and give the answer",
        ]


@needs_submodule
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("shots", [0, 1, 3])
@pytest.mark.parametrize("with_cot", [False, True])
def test_the_official_prompt_is_that_of_the_official_function(examples, language, shots, with_cot):
    pool = examples["Spatial"]
    ours = writer(style="official", language=language, few_shot_num=shots, pool=pool, with_cot=with_cot)
    for example in pool:
        asked = {
            "pre_prompt": (SUBMODULE / f"configs/prompt/eval_vlm_{language}.txt").read_text(encoding="utf-8"),
            "input_pic": str(example.plain_image),
            "input_pic_gt": str(example.tagged_image),
            "input_instruction": example.instruction(),
        }
        if shots:
            shown = {str(i): shot for i, shot in enumerate(ours.shots_for(example))}
            asked["shot_input_pic"] = {i: str(s.plain_image) for i, s in shown.items()}
            asked["shot_input_pic_gt"] = {i: str(s.tagged_image) for i, s in shown.items()}
            asked["shot_input_instruction"] = {i: s.instruction() for i, s in shown.items()}
            asked["shot_output"] = {i: json.loads(s.plan_file.read_text()) for i, s in shown.items()}
        official = _official_assembly(WorkspaceConfig(REPOSITORY))(asked, language, with_cot)
        assert [[item["type"], item[item["type"]]] for item in ours.write(example)] == official


@needs_submodule
def test_official_shots_can_be_fenced(examples):
    pool = examples["Spatial"]
    fenced = writer(style="official", few_shot_num=2, pool=pool, shot_format="fenced")
    plain = writer(style="official", few_shot_num=2, pool=pool)
    assert fenced.fingerprint() != plain.fingerprint()
    for ours, theirs in zip(fenced.write(pool[0]), plain.write(pool[0]), strict=True):
        if ours != theirs:
            assert read_official(ours["text"]) == json.loads(theirs["text"])["skill_sequence"]
    assert sum(a != b for a, b in zip(fenced.write(pool[0]), plain.write(pool[0]), strict=True)) == 2


def test_builtin_shots_can_have_the_official_form(examples):
    pool = examples["Spatial"]
    items = writer(few_shot_num=1, pool=pool, shot_format="official").write(pool[0])
    [answer] = [item["text"] for item in items if item.get("text", "").startswith('{"skill_sequence"')]
    assert read_tolerant(answer)


def test_shots_may_come_from_another_folder(examples):
    pool = examples["M&T"]
    shots = writer(few_shot_num=2, pool=pool).shots_for(examples["Spatial"][0])
    assert {shot.dimension for shot in shots} == {"M&T"}


def test_a_broken_example_is_no_shot_and_lends_no_picture(demo, tmp_path):
    folder = tmp_path / "benchmark"
    shutil.copytree(demo / "dataset" / "vlm_evaluation_v1.0" / "Spatial", folder / "Spatial")
    pool = find_examples(folder, ["Spatial"])["Spatial"]
    pool[1].plain_image.write_bytes(b"")
    for example in pool:
        if example != pool[1]:
            assert pool[1] not in writer(few_shot_num=2, pool=pool).shots_for(example)
    shuffled = writer(pictures="shuffled", examples=pool)
    donors = {shuffled.donor(example) for example in pool if example != pool[1]}
    assert donors == set(pool) - {pool[1]}


def test_an_empty_instruction_is_named(demo, tmp_path):
    folder = tmp_path / "benchmark"
    shutil.copytree(demo / "dataset" / "vlm_evaluation_v1.0" / "Spatial", folder / "Spatial")
    example = find_examples(folder, ["Spatial"])["Spatial"][0]
    example.instruction_file.write_text("")
    with pytest.raises(UserError, match=r"instruction.txt is empty. Check the whole folder with"):
        writer().write(example)
