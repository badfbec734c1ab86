"""A picture that several prompts show is encoded once, and the answers stay as they are."""

import numpy as np
import pytest
import torch
from PIL import Image

from leap.models.generation import answer_batch, encode
from leap.models.loading import load_processor, load_weights
from leap.models.shared_pictures import encode_shared_pictures

PROMPT = "<|im_start|>user\n" + "<|vision_start|><|image_pad|><|vision_end|>" * 2 + "Plan {}<|im_end|>\n"


@pytest.fixture(scope="module")
def planner(demo):
    return demo / "models/tiny-planner"


def picture(seed, width=96, height=64):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def batch(planner, pictures):
    texts = [PROMPT.format(number * "so ") for number in range(len(pictures))]
    return encode(load_processor(planner), texts, pictures)


def loud(model):
    """Weights so large that every picture decides the answer."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def test_answers_are_those_of_every_picture_encoded_for_itself(planner, monkeypatch):
    shot, other = picture(0), picture(1, 64, 96)
    inputs = batch(planner, [[shot, picture(2)], [shot, picture(3)], [other, shot], [other, picture(2)]])
    model, tokenizer = loud(load_weights(planner, "float32")), load_processor(planner).tokenizer
    patches = []
    model.model.visual.register_forward_pre_hook(lambda module, arguments: patches.append(len(arguments[0])))
    shared = answer_batch(model, tokenizer, inputs, 8)
    monkeypatch.setattr("leap.models.generation.encode_shared_pictures", lambda model, inputs: dict(inputs))
    alone = answer_batch(model, tokenizer, inputs, 8)
    assert shared == alone
    assert len({answer.text for answer in alone}) == 4
    assert patches == [4 * 24, 8 * 24]


def test_pictures_that_differ_stay_as_they_are(planner):
    inputs = batch(planner, [[picture(0), picture(1)]])
    model = load_weights(planner, "float32")
    assert encode_shared_pictures(model, inputs).keys() == dict(inputs).keys()


def test_the_same_values_in_another_shape_are_another_picture(planner):
    flat = Image.new("RGB", (96, 64), "red")
    inputs = batch(planner, [[flat, flat.rotate(90, expand=True)]])
    assert "pixel_values" in encode_shared_pictures(load_weights(planner, "float32"), inputs)


def test_prompts_without_pictures_stay_as_they_are(planner):
    inputs = encode(load_processor(planner), ["Plan"], [[]])
    assert encode_shared_pictures(load_weights(planner, "float32"), inputs) == dict(inputs)
