"""The planner that runs a model itself: answers do not depend on what is beside them, and failures are told apart."""

import re
import shutil
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image

from configs.errors import UserError
from leap.files import read_json, write_json
from leap.models.answer import Answer
from leap.models.checkpoints import MANIFEST
from leap.models.loading import UnusableModel, load_processor, load_weights
from leap.planners import Query, UnreadablePicture, UnusablePrompt, huggingface
from tests.planners.lively import (
    PLAN,
    answers,
    make_parrot,
    planner_of,
    queries_of,
    write_adapter,
    write_lively,
)


def test_a_batch_gives_the_answers_of_one_at_a_time(planner, queries):
    together = answers(planner, [queries])
    alone = answers(planner, [[query] for query in queries])
    assert together == alone
    assert len({answer.text for answer in together.values()}) > 1


@pytest.fixture(scope="module")
def drawing(lively):
    return planner_of(lively, max_new_tokens=12, temperature=3.0, top_p=0.95)


def seeded(queries):
    return [replace(query, seed=100 + place) for place, query in enumerate(queries)]


def test_a_drawn_answer_depends_on_its_seed_and_on_nothing_beside_it(drawing, queries):
    queries = seeded(queries)
    together = answers(drawing, [queries])
    assert answers(drawing, [queries[::-1]]) == together
    assert answers(drawing, [queries[:3], queries[3:4], queries[4:]]) == together
    reseeded = answers(drawing, [[replace(query, seed=query.seed + 1) for query in queries]])
    assert all(reseeded[key] != answer for key, answer in together.items())
    same = answers(drawing, [[replace(queries[0], key=str(seed), seed=seed) for seed in range(8)]])
    assert len({answer.text for answer in same.values()}) > 4


def test_rows_that_end_early_do_not_change_what_the_others_draw(drawing, queries):
    queries = seeded(queries)
    together = answers(drawing, [queries])
    [cut] = [answers(drawing, [queries[:1]])[queries[0].key]]
    ends = drawing.model.generation_config.eos_token_id
    first = drawing.processor.tokenizer(cut.text).input_ids[0]
    drawing.model.generation_config.eos_token_id = [*ends, first]
    try:
        ended = answers(drawing, [queries])
        alone = answers(drawing, [[query] for query in queries])
    finally:
        drawing.model.generation_config.eos_token_id = ends
    assert ended == alone
    assert ended[queries[0].key].stop == "end"
    assert any(answer == together[key] for key, answer in ended.items())


def test_drawing_shows_in_the_identity_and_greedy_decoding_leaves_it_as_it_was(drawing, planner):
    decoding = {"do_sample": False, "repetition_penalty": 1.0, "max_new_tokens": 24, "stop_at_plan": True}
    decoding["ends_at"] = [2, 0]
    assert list(planner.identity()["decoding"].items()) == list(decoding.items())
    drawn = decoding | {"do_sample": True, "temperature": 3.0, "top_p": 0.95, "max_new_tokens": 12}
    assert drawing.identity() == planner.identity() | {"decoding": drawn}


def test_what_a_model_folder_says_of_generation_changes_no_answer(demo, planner, queries, tmp_path):
    other = write_lively(demo / "models" / "tiny-planner", tmp_path / "other")
    settings = {"num_beams": 3, "no_repeat_ngram_size": 2, "min_new_tokens": 20, "suppress_tokens": [5, 6, 7, 8]}
    settings |= {"max_time": 1e-4, "stop_strings": ["a"], "repetition_penalty": 1.7, "max_length": 5, "min_length": 900}
    settings |= {"bad_words_ids": [[9]], "sequence_bias": [[[4], -10.0]], "num_return_sequences": 2}
    change_json(other / "generation_config.json", settings)
    talkative = planner_of(other, max_new_tokens=24)
    assert answers(talkative, talkative.batches(queries)) == answers(planner, planner.batches(queries))
    assert talkative.identity() == planner.identity()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"do_sample": False, "num_return_sequences": 4}, "do not support `num_return_sequences`"),
        ({"eos_token_id": "</s>"}, "eos_token_id is '</s>', no id of a token"),
        ({"watermarking_config": {"a": 1}}, "unexpected keyword argument"),
    ],
)
def test_a_model_folder_whose_generation_settings_contradict_each_other_is_unusable(demo, tmp_path, settings, words):
    other = write_lively(demo / "models" / "tiny-planner", tmp_path / "other")
    change_json(other / "generation_config.json", settings)
    with pytest.raises(UnusableModel, match=re.escape(words)):
        planner_of(other, max_new_tokens=24)


def test_a_template_that_loops_on_one_prompt_fails_that_prompt_alone(demo, queries, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface, "TEMPLATE_S", 0.3)
    planner = planner_of(write_lively(demo / "models" / "tiny-planner", tmp_path / "other"), max_new_tokens=4)
    planner.processor.chat_template = (
        "{% if messages[0].content[0].text == 'loop' %}"
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}"
    ) + planner.processor.chat_template
    looping = Query("looping", "t", [{"role": "user", "content": [{"type": "text", "text": "loop"}]}])
    replies = answers(planner, planner.batches([looping, queries[0]]))
    assert isinstance(replies["looping"], UnusablePrompt)
    assert "it takes longer than 0.3 s" in str(replies["looping"])
    assert isinstance(replies[queries[0].key], Answer)


def test_an_answer_ends_at_the_tokenizers_end_of_turn_too_and_the_identity_says_so(demo, planner, queries, tmp_path):
    batches = planner.batches(queries)
    plain = answers(planner, batches)
    first = planner.processor.tokenizer.encode(plain[queries[0].key].text)[0]
    other = write_lively(demo / "models" / "tiny-planner", tmp_path / "other")
    change_json(other / "generation_config.json", {"eos_token_id": [first]})
    ending = planner_of(other, max_new_tokens=24)
    assert ending.identity()["decoding"]["ends_at"] == [first, planner.processor.tokenizer.eos_token_id]
    assert ending.model.generation_config.eos_token_id == [first]
    assert answers(ending, batches)[queries[0].key] == Answer("", 1, "end")


def change_json(path, changes) -> None:
    write_json(path, read_json(path) | changes)


def test_the_identity_follows_tokenizer_and_image_processor(lively, planner, tmp_path):
    for name, changes in (("tokenizer.json", {"normalizer": {"type": "Lowercase"}}), ("processor_config.json", None)):
        shutil.copytree(lively, tmp_path / name)
        if changes is None:
            content = read_json(lively / name)
            changes = {"image_processor": content["image_processor"] | {"image_mean": [0.1, 0.1, 0.1]}}
        change_json(tmp_path / name / name, changes)
        differing = planner_of(tmp_path / name, max_new_tokens=24).identity()
        assert differing["processor_sha256"] != planner.identity()["processor_sha256"]


def test_words_and_turns_that_the_model_cannot_take_fail_alone(lively, queries):
    planner = planner_of(lively, max_new_tokens=4)
    planner.processor.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
        "{% if messages|length == 3 %}{{ messages[2].nothing.there }}{% endif %}" + planner.processor.chat_template
    )
    system = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    refused = replace(queries[0], key="refused", messages=[system, *queries[0].messages])
    undefined = replace(queries[0], key="undefined", messages=queries[0].messages * 3)
    words = [*queries[0].messages[0]["content"], {"type": "text", "text": "Say <|image_pad|>."}]
    pictured = replace(queries[0], key="pictured", messages=[{"role": "user", "content": words}])
    found = answers(planner, planner.batches([refused, pictured, undefined, queries[0]]))
    assert found["refused"].kind == found["pictured"].kind == "data"
    assert "chat template refuses the prompt: no system turns" in str(found["refused"])
    assert "chat template refuses the prompt: 'dict object' has no attribute 'nothing'" in str(found["undefined"])
    assert "own words hold <|image_pad|>" in str(found["pictured"])
    assert isinstance(found[queries[0].key], Answer)


def test_batches_hold_prompts_of_like_length_and_do_not_depend_on_the_order_of_asking(lively, queries):
    planner = planner_of(lively, batch_size=3)
    batches = planner.batches(queries)
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert sorted(query.key for batch in batches for query in batch) == sorted(query.key for query in queries)
    shots = [query.key[0] for batch in batches for query in batch]
    assert shots == sorted(shots, reverse=True)  # the longest first
    assert planner.batches(queries) == batches


def test_an_answer_at_the_token_limit_says_so(planner, queries):
    for answer in answers(planner, [queries]).values():
        assert answer.stop in ("end", "length")
        assert (answer.stop == "length") == (answer.new_tokens == 24)


def test_an_answer_stops_behind_its_plan(demo, tmp_path, queries):
    make_parrot(demo / "models" / "tiny-planner", tmp_path / "parrot", ["So: ", PLAN, "``", "`!", " More"])
    for stop_at_plan, text, tokens, stop in (
        (True, f"So: {PLAN}```!", 4, "plan"),
        (False, f"So: {PLAN}```! More More", 6, "length"),
    ):
        planner = planner_of(tmp_path / "parrot", max_new_tokens=6, stop_at_plan=stop_at_plan)
        assert list(answers(planner, [queries]).values()) == [Answer(text, tokens, stop)] * len(queries)


def test_running_out_of_memory_halves_the_batch_from_then_on(lively, queries, monkeypatch):
    """Memory cannot be made to run out here; the error that it raises can."""
    drawn = {"max_new_tokens": 4, "temperature": 3.0}
    queries = seeded(queries)
    planner = planner_of(lively, **drawn)
    whole, tried = planner.model.generate, []

    def generate(**inputs):
        tried.append(len(inputs["input_ids"]))
        if tried[-1] > 2:
            raise torch.OutOfMemoryError("out of memory")
        return whole(**inputs)

    monkeypatch.setattr(planner.model, "generate", generate)
    expected = answers(planner_of(lively, **drawn), [queries])
    assert answers(planner, [queries[:6], queries[6:]]) == expected
    assert tried == [6, 3, 2, 1, 2, 1, 2]


def test_a_prompt_that_does_not_fit_alone_is_a_machine_failure(lively, queries, monkeypatch):
    planner = planner_of(lively, max_new_tokens=4)

    def generate(**inputs):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(planner.model, "generate", generate)
    failures = answers(planner, [queries[:2]])
    assert [str(failure) for failure in failures.values()] == ["out of memory with one prompt at once"] * 2


def test_blank_images_change_what_the_model_sees(demo, planner, queries):
    blind = queries_of(demo, blank_images=True)
    assert answers(planner, [blind]) != answers(planner, [queries])
    [own, grey] = [of[0].pictures()[0] for of in (queries, blind)]
    assert len(grey.getcolors()) == 1
    assert grey.size == own.size


def test_an_unreadable_picture_fails_its_own_prompt_only(planner, queries, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nope")
    item = {"type": "image", "image": str(tmp_path / "broken.png")}
    broken = Query("broken", "t", [{"role": "user", "content": [item]}])
    found = answers(planner, [[queries[0], broken, queries[1]]])
    assert isinstance(found["broken"], UnreadablePicture)
    assert "broken.png" in str(found["broken"])
    assert {found[query.key].stop for query in queries[:2]} <= {"end", "length"}


def test_a_picture_that_the_processor_refuses_fails_its_own_prompt_only(planner, queries, tmp_path):
    strip = tmp_path / "strip.png"
    Image.new("RGB", (4000, 10)).save(strip)
    content = [{"type": "image", "image": str(strip)}, {"type": "text", "text": "Plan."}]
    refused = replace(queries[0], key="refused", messages=[{"role": "user", "content": content}])
    found = answers(planner, [[queries[0], refused, queries[1]]])
    assert found["refused"].kind == "data"
    assert "absolute aspect ratio must be smaller than 200" in str(found["refused"])
    assert str(strip) in str(found["refused"])
    assert {key: found[key] for key in (queries[0].key, queries[1].key)} == answers(planner, [queries[:2]])


def test_a_checkpoint_trained_with_other_pictures_or_template_is_noted(lively, tmp_path):
    folder = tmp_path / "trained"
    shutil.copytree(lively, folder)
    own = planner_of(folder).identity()
    manifest = dict.fromkeys(("base_model", "base_weights_sha256", "data_sha256"), "x")
    manifest |= {"kind": "full", "recipe": {}, "library_versions": {}}
    manifest |= {"pixel_budget": own["pixel_budget"], "chat_template_sha256": own["chat_template_sha256"]}
    write_json(folder / MANIFEST, manifest)
    assert planner_of(folder).notes == []
    [note] = planner_of(folder, image_tokens_min=1, image_tokens_max=4).notes
    assert "trained with pictures of" in note
    write_json(folder / MANIFEST, manifest | {"chat_template_sha256": "another"})
    [note] = planner_of(folder).notes
    assert "another chat template" in note


def test_the_identity_follows_the_weights(lively, planner, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(lively, other)
    assert planner_of(other, max_new_tokens=24).identity() == planner.identity()
    with open(other / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert planner_of(other, max_new_tokens=24).identity() != planner.identity()


def test_an_adapter_is_put_on_its_base(lively, tmp_path, queries, planner):
    folder = write_adapter(lively, tmp_path / "adapter")
    adapted = planner_of(folder, max_new_tokens=24)
    assert adapted.base == lively
    assert answers(adapted, [queries[:4]]) != answers(planner, [queries[:4]])
    with pytest.raises(UserError, match=r"is an adapter and its base .*nowhere cannot be used"):
        planner_of(folder, base_model=tmp_path / "nowhere")


def test_an_adapter_whose_tokenizer_has_grown_beyond_its_base_says_so(lively, tmp_path, queries):
    model = get_peft_model(load_weights(lively, "float32"), LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    processor = load_processor(lively)
    processor.tokenizer.add_tokens([f"word{number}" for number in range(200)])
    processor.save_pretrained(tmp_path)
    planner = planner_of(tmp_path, base_model=lively)
    with pytest.raises(UserError, match=r"its vocabulary has .* tokens, the base's .*--base_model"):
        list(planner.answer([queries[:1]]))


def test_a_named_device_that_is_not_there_is_an_error(demo):
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        planner_of(demo / "models" / "tiny-planner", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"device cuda:0 is not there; 0 CUDA device\(s\) found"):
            planner_of(demo / "models" / "tiny-planner", device="cuda:0")
