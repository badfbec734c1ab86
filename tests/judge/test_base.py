"""The base of a review, and the order of its models."""

import pytest

from configs.errors import UserError
from leap.judge.summary import summarise
from tests.judge.synthetic import outputs_of, ratings


def test_the_base_comes_first_then_runs_by_step():
    models = ["lora-checkpoint-50", "checkpoint-1000", "constant", "checkpoint-200", "baseline"]
    found = summarise(outputs_of(models, 2), [])
    assert found["models"] == ["baseline", "checkpoint-200", "checkpoint-1000", "lora-checkpoint-50", "constant"]
    assert found["base"] == "baseline"
    assert found["judges"] == {}
    assert "No judge has said anything yet." in found["words"]


def test_another_model_may_be_the_base_but_must_have_outputs():
    assert summarise(outputs_of(), ratings(), base="checkpoint-200")["models"][0] == "checkpoint-200"
    with pytest.raises(UserError, match="no outputs of the base 'nobody'"):
        summarise(outputs_of(), [], base="nobody")


@pytest.mark.parametrize(
    ("models", "base"),
    [
        (["Baseline", "checkpoint-1"], "Baseline"),
        (["Baseline", "baseline"], "baseline"),
        (["baseline_1shot", "baseline"], "baseline"),
        (["baselines", "base"], None),
    ],
)
def test_the_model_called_baseline_is_the_base_whatever_its_case(models, base):
    assert summarise(outputs_of(models), [])["base"] == base
