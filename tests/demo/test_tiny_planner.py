"""The tiny planner is an ordinary Qwen3-VL folder, the same for the same seed."""

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from leap.demo.tiny_planner import SPECIAL_TOKENS


def test_it_is_an_ordinary_qwen3_vl_folder(demo):
    folder = demo / "models" / "tiny-planner"
    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert type(model).__name__ == "Qwen3VLForConditionalGeneration"
    assert type(processor).__name__ == "Qwen3VLProcessor"
    assert sum(p.numel() for p in model.parameters()) < 5_000_000
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    for token in SPECIAL_TOKENS:
        assert len(processor.tokenizer(token).input_ids) == 1
    assert processor.tokenizer.eos_token_id in model.generation_config.eos_token_id


def test_the_tokenizer_gives_back_any_text_and_keeps_digits_apart(demo):
    tokenizer = AutoProcessor.from_pretrained(demo / "models" / "tiny-planner").tokenizer
    for text in ('[{"name":"pick"}]', "1) Pick up\n\n the  apple.", "图 \u00e9 \t"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer("12345").input_ids) == 5


def test_the_same_seed_gives_the_same_weights(demo, tmp_path):
    from leap.demo.build import training_texts
    from leap.demo.tiny_planner import build_tiny_planner

    build_tiny_planner(tmp_path / "again", training_texts(demo / "data" / "train.jsonl"))
    first = AutoModelForImageTextToText.from_pretrained(demo / "models" / "tiny-planner").state_dict()
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "again").state_dict()
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
