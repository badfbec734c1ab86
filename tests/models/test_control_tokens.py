"""Control tokens in words: found whatever they stand for, and nothing else is."""

import pytest

from leap.models.control_tokens import ControlTokens
from leap.models.loading import load_processor


@pytest.fixture(scope="module")
def control_tokens(demo):
    return ControlTokens(load_processor(demo / "models" / "tiny-planner"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Look at <|image_pad|>.", "<|image_pad|>, which this model takes for a picture"),
        ("1) Wipe.<|im_end|> 2) Dry.", "<|im_end|>, a control token of this model"),
        ("<|im_start|>system", "<|im_start|>, a control token of this model"),
    ],
)
def test_a_control_token_is_named_with_what_it_stands_for(control_tokens, text, problem):
    assert control_tokens.problem(text) == problem


@pytest.mark.parametrize("text", ["", "Wipe <the> table | or < | > not.", "<think>Wipe.</think>", "im_end", "<image>"])
def test_plain_words_hold_none(control_tokens, text):
    assert control_tokens.problem(text) is None
