import pytest

from configs.errors import UserError
from leap.models.names import Curve, base_suffix, checked_name, curve_and_step, curves_in, order_of


@pytest.mark.parametrize(
    ("name", "run", "step", "suffix"),
    [
        ("checkpoint-200", "", 200, ""),
        ("checkpoint-200_1shot_CoT", "", 200, "_1shot_CoT"),
        ("lora_standard-checkpoint-3000_blank", "lora_standard", 3000, "_blank"),
        ("a-checkpoint-1-checkpoint-20", "a-checkpoint-1", 20, ""),
    ],
)
def test_a_checkpoint_is_a_run_a_step_and_a_way_of_asking(name, run, step, suffix):
    assert curve_and_step(name) == (Curve(run, suffix), step)
    assert base_suffix(name) is None


@pytest.mark.parametrize("name", ["constant", "gpt-4o", "checkpoint-200-merged", "checkpoint-", "baseline_1shot"])
def test_other_models_are_no_checkpoints(name):
    assert curve_and_step(name) is None


def test_the_base_keeps_the_way_of_asking():
    assert base_suffix("baseline") == ""
    assert base_suffix("baseline_1shot_zh") == "_1shot_zh"
    assert base_suffix("baselines") is None


def test_checkpoints_are_grouped_by_curve_in_the_order_of_their_steps():
    names = ["baseline", "checkpoint-1000", "checkpoint-200", "checkpoint-200_CoT", "lora-checkpoint-5"]
    found = curves_in(names)
    assert [curve.title for curve in found] == ["checkpoint", "checkpoint (CoT)", "lora"]
    assert found[Curve("", "")] == {200: "checkpoint-200", 1000: "checkpoint-1000"}


def test_models_are_sorted_with_the_base_first_and_steps_as_numbers():
    names = ["baseline", "checkpoint-200", "checkpoint-1000", "lora-checkpoint-5", "gpt-4o", "other"]
    assert sorted(set(names), key=order_of) == names


@pytest.mark.parametrize("name", [".", "..", "../x", "a/b", "a\\b", "a\x1bb", "n" * 201])
def test_a_name_that_would_lead_out_of_the_results_is_refused(name):
    with pytest.raises(UserError, match="--suffix .* a part of a folder's name"):
        checked_name(name, "--suffix")


def test_an_ordinary_name_passes():
    assert [checked_name(name, "--model") for name in ("", "T07", "qwen3-vl:2b")] == ["", "T07", "qwen3-vl:2b"]
