import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from configs.config import DIMENSION_TITLES, DIMENSIONS
from leap.plans.scoring import GROUNDED_METRICS, METRICS, score_grounded, score_official
from leap.plots.comparison import MOST_BARS, TERMS, improvement, metrics_overall, totals_by_dimension
from leap.plots.curves import checkpoint_curves
from leap.plots.style import FORMATS
from leap.statistics import Estimate
from leap.vlabench.compare import Improvement
from leap.vlabench.tables import Overall
from tests.conftest import assert_one_line_error, run_script
from tests.plots.figures import forty, legend, notes, results_of, rows, words

DRAW = "evaluation/draw_evaluation_results.py"


@pytest.mark.parametrize("scorer", ["official", "grounded"])
def test_metrics_stand_side_by_side_without_the_total_and_a_note_says_what_it_is_the_sum_of(scorer):
    found = results_of(30, terms=TERMS[scorer])
    axes = (figure := metrics_overall({"baseline": found}, scorer)).axes[0]
    heights = [bar.get_height() for bars in axes.containers if hasattr(bars, "patches") for bar in bars.patches]
    assert heights == [found.macro[metric].mean for metric in METRICS[scorer] if metric != "total_score"]
    assert "0.4 x skill match + 0.4 x entity match" in notes(figure)
    assert ("0.1 x exact sub-tasks" in notes(figure)) is (scorer == "grounded")
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert not any(left.overlaps(right) for left, right in pairwise(boxes))


def test_the_terms_are_those_of_the_scorers():
    truth = [{"name": "pick", "params": {"target_entity_name": 3}}, {"name": "lift", "params": {}}]
    text = '```json\n[{"name": "pick", "params": {"target_entity_name": 3}}, {"name": "pull", "params": {}}]\n```'
    for scorer, score in (("official", score_official), ("grounded", score_grounded)):
        found = score(text, truth, order_independent=False).scores
        assert 0 < sum(weight * found[name] for name, weight in TERMS[scorer]) == pytest.approx(found["total_score"])


def test_up_to_six_models_are_bars_and_more_are_lines_of_dots():
    models = dict(list(forty().items())[: MOST_BARS + 1])
    few = dict(list(models.items())[:MOST_BARS])
    assert len(totals_by_dimension(few, "grounded").axes) == 1
    figure = totals_by_dimension(models, "grounded")
    assert [axes.get_title() for axes in figure.axes] == [*DIMENSION_TITLES.values(), "macro"]
    assert rows(figure) == list(models)


def test_means_without_an_interval_are_drawn_without_bars():
    metrics = {name: Estimate(30) for name in GROUNDED_METRICS}
    lone = Overall(metrics, metrics, dict.fromkeys(DIMENSIONS, metrics), 6)
    for models in ({"baseline": lone}, dict.fromkeys((f"checkpoint-{i}" for i in range(9)), lone)):
        for draw in (totals_by_dimension, metrics_overall, checkpoint_curves):
            figure = draw(models, "grounded")
            assert len(figure.axes) > 0
            figure.canvas.draw()
    assert totals_by_dimension({"a": lone}, "grounded").axes[0].containers[1:] == []
    assert totals_by_dimension({"a": results_of(30)}, "grounded").axes[0].containers[1:] != []


def test_improvement_shows_what_is_paired_and_what_is_not():
    models = {"baseline": results_of(10), "checkpoint-2": results_of(20), "checkpoint-4": results_of(30, ["Spatial"])}
    six = dict.fromkeys(DIMENSIONS, Estimate(10, 8, 12))
    differences = {
        "checkpoint-2": Improvement(six, Estimate(10, 9, 11), 600, 3),
        "checkpoint-4": Improvement({"Spatial": Estimate(-2, -3, 1)}, None, 100, 0),
    }
    figure = improvement(models, differences, "baseline", "official")
    bars, other = (bars for bars in figure.axes[0].containers if hasattr(bars, "patches"))
    assert [bar.get_height() for bar in bars] == [10] * 7
    assert [bar.get_height() for bar in other] == [-2]
    assert words(figure) == ["n/a"] * 6
    assert legend(figure) == ["checkpoint-2", "checkpoint-4"]
    assert "checkpoint-2 600 (3 left out)" in notes(figure)


def write_results(results: Path, model: str, value: float, dimensions=DIMENSIONS) -> None:
    """Score files of two tasks with three examples each."""
    rng = np.random.default_rng(int(value))
    for dimension in dimensions:
        folder = results / dimension / model
        folder.mkdir(parents=True)
        scores = {
            f"task{task}": {str(n): dict.fromkeys(GROUNDED_METRICS, value + rng.integers(0, 9)) for n in range(3)}
            for task in range(2)
        }
        for name in ("final_score.json", "grounded_score.json"):
            (folder / name).write_text(json.dumps(scores, default=int))
        (folder / "summary.json").write_text("{}")


@pytest.mark.slow
def test_the_script_draws_what_the_results_allow(tmp_path):
    for model, value in (("baseline", 10), ("checkpoint-2", 20), ("checkpoint-4", 30)):
        write_results(tmp_path, model, value, DIMENSIONS[:4])
    done = run_script(DRAW, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    written = [Path(line) for line in done.stdout.splitlines()]
    kinds = ("total_by_dimension", "metrics", "heat_map", "radar", "improvement", "curves")
    names = {f"{kind}_{scorer}" for kind in kinds for scorer in ("official", "grounded")}
    assert {path.name for path in written} == {f"{n}.{k}" for n in names for k in FORMATS} | {"results_table.md"}
    assert all(path.stat().st_size > 100 for path in written)
    svg = (tmp_path / "figures" / "improvement_grounded.svg").read_text()
    assert ">checkpoint-4</text>" in svg
    assert "paired intervals" in svg

    assert {path.name for path in written if path.parent.name == "appendix"} == {
        f"radar_{scorer}.{kind}" for scorer in ("official", "grounded") for kind in FORMATS
    }
    earlier = [tmp_path / "figures" / f"{name}_official.png" for name in ("radar", "stacked")]
    for path in earlier:
        path.write_bytes(b"of an earlier version")

    # One model allows neither curves nor a comparison: their old figures would show other results.
    done = run_script(DRAW, "--results", tmp_path, "--models", "baseline", "--published")
    assert done.returncode == 0, done.stderr
    assert "LEAP checkpoint-5000" in (tmp_path / "figures" / "heat_map_official.svg").read_text()
    assert "(published, not measured here)" in (tmp_path / "figures" / "results_table.md").read_text()
    assert "LEAP checkpoint-5000" not in (tmp_path / "figures" / "heat_map_grounded.svg").read_text()
    assert not any(path.exists() for path in earlier)
    left = {path.stem for path in (tmp_path / "figures").glob("**/*.svg")}
    assert left == {name for name in names if not name.startswith(("improvement", "curves"))}


def test_the_script_names_the_model_that_has_no_results(tmp_path):
    write_results(tmp_path, "checkpoint-2", 20, ["Spatial"])
    for flag in ("--models", "--base"):
        assert_one_line_error(run_script(DRAW, "--results", tmp_path, flag, "other"), "'other'", "checkpoint-2")
