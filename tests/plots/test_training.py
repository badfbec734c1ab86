from matplotlib.colors import to_hex

from leap.plans.measures import MEASURES
from leap.plots.training import ablation, loss_curve
from leap.statistics import Estimate


def test_the_figure_of_presets_marks_what_is_missing():
    scores = {
        name: [Estimate(mean, mean - 1, mean + 1)] * 7 for name, mean in (("light", 40), ("full", 50), ("base", 9))
    }
    scores["light"] = [None, *scores["light"][1:]]
    left, right = ablation(scores, {"light": 1e6}, "base", MEASURES["grounded.total_score"]).axes
    assert [text.get_text() for text in left.texts] == ["n/a"]
    assert [text.get_text() for text in right.texts] == ["light", "base"]
    bars = [container for container in left.containers if hasattr(container, "patches")]
    assert len({to_hex(container.patches[0].get_facecolor()) for container in bars}) == len(bars) == 3


def test_the_loss_curve_holds_the_last_value_of_a_step_that_was_trained_twice():
    records = [
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 9.0},
        {"step": 2, "loss": 2.0},
        {"step": 2, "eval_loss": 2.5},
    ]
    training, validation = loss_curve(records).axes[0].lines
    assert training.get_xydata().tolist() == [[1, 3], [2, 2]]
    assert validation.get_xydata().tolist() == [[2, 2.5]]
