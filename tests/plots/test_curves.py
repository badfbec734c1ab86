from dataclasses import replace

import numpy as np
import pytest

from configs.config import DIMENSIONS
from leap.plots.curves import checkpoint_curves
from tests.plots.figures import legend, notes, results_of


def lines_named(axes, style: str) -> list[float]:
    """Heights of the horizontal lines of a style across a panel."""
    found = [line for line in axes.lines if list(line.get_xdata()) == [0, 1] and line.get_linestyle() == style]
    return [line.get_ydata()[0] for line in found]


def curve_in(axes, steps: list[int]) -> np.ndarray:
    """The values of the one curve over exactly these steps."""
    (found,) = [line for line in axes.lines if list(line.get_xdata()) == steps and line.get_linestyle() != "None"]
    return np.asarray(found.get_ydata(), float)


def test_many_runs_leave_curves_readable():
    models = {"baseline": results_of(9)} | {
        f"run{i}-checkpoint-{s}": results_of(i + s) for i in range(20) for s in (1, 2)
    }
    entries = legend(checkpoint_curves(models, "grounded"))
    assert entries[:2] == ["run19", "run18"]
    assert "14 other runs" in entries
    assert len(entries) == 8


def test_a_curve_holds_the_checkpoints_of_one_run_asked_in_one_way_and_starts_at_its_base():
    models = {
        "baseline": results_of(10),
        "baseline_1shot": results_of(12),
        "constant": results_of(5),
        "gpt_blank": results_of(7),
        "checkpoint-200": results_of(20),
        "checkpoint-1000": results_of(30),
        "checkpoint-200_1shot": results_of(25),
        "lora_light-checkpoint-300_CoT": results_of(40),
    }
    total = {name: found.macro["total_score"].mean for name, found in models.items()}
    figure = checkpoint_curves(models, "grounded")
    (macro,) = [axes for axes in figure.axes if axes.get_title().startswith("macro")]
    assert list(curve_in(macro, [0, 200, 1000])) == [
        total[n] for n in ("baseline", "checkpoint-200", "checkpoint-1000")
    ]
    assert list(curve_in(macro, [0, 200])) == [total["baseline_1shot"], total["checkpoint-200_1shot"]]
    # The base of nobody was asked for a chain of thought, so this curve has no start.
    assert list(curve_in(macro, [300])) == [total["lora_light-checkpoint-300_CoT"]]
    assert lines_named(macro, "-") == [total["baseline"]]
    assert lines_named(macro, "--") == [total["constant"], total["gpt_blank"]]
    assert legend(figure)[:3] == ["checkpoint", "checkpoint (1shot)", "lora_light (CoT)"]


@pytest.mark.parametrize(
    ("of_base", "of_checkpoint", "note"),
    [
        ({}, {}, "Step 0 is the base."),
        (64, 64, "Step 0 is the base, asked in the same way."),
        (64, 512, "Step 0 is the base. It was asked under other settings: planner.max_new_tokens."),
    ],
)
def test_step_0_was_asked_in_the_same_way_only_if_the_settings_are_equal(of_base, of_checkpoint, note):
    def asked(model, tokens):
        return replace(model, settings={"planner": {"max_new_tokens": tokens}} if tokens else {})

    models = {
        "baseline": asked(results_of(10), of_base),
        "checkpoint-1": asked(results_of(20), of_checkpoint),
        "checkpoint-2": asked(results_of(20), of_checkpoint),
    }
    words = notes(checkpoint_curves(models, "grounded"))
    assert note in words
    assert ("asked in the same way" in words) == ("asked in the same way" in note)


def test_a_curve_breaks_where_a_checkpoint_has_no_results():
    models = {
        f"checkpoint-{step}": results_of(step, DIMENSIONS if step != 20 else ["Spatial"]) for step in (10, 20, 30)
    }
    figure = checkpoint_curves(models, "grounded")
    by_title = {axes.get_title(): axes for axes in figure.axes}
    assert np.isnan(curve_in(by_title["Complex"], [10, 20, 30])).tolist() == [False, True, False]
    assert not np.isnan(curve_in(by_title["Spatial"], [10, 20, 30])).any()
    crosses = [line for line in by_title["Complex"].lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[20]]
    assert "no results at this step" in legend(figure)
