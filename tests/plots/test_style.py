import pytest

from configs.config import DIMENSIONS
from leap.plots.comparison import TERMS, improvement, metrics_overall, totals_by_dimension
from leap.plots.curves import checkpoint_curves
from leap.plots.profiles import heat_map, radar
from leap.plots.style import COLORS, FORMATS, save, styles_of
from leap.statistics import Estimate
from leap.vlabench.compare import Improvement
from tests.plots.figures import forty, legend, notes, results_of, rows, words


def test_a_missing_value_is_marked_and_never_drawn_as_zero():
    models = {"baseline": results_of(30), "checkpoint-2": results_of(40, DIMENSIONS[:4])}
    bars = totals_by_dimension(models, "grounded")
    assert words(bars) == ["n/a"] * 3  # two dimensions and macro
    heights = [bar.get_height() for bar in bars.axes[0].patches]
    assert len(heights) == 7 + 4
    assert min(heights) > 0
    assert "macro mean needs all six" in notes(bars)
    cells = words(heat_map(models, "grounded"))
    assert cells.count("n/a") == 3
    assert "0.0" not in cells
    assert "checkpoint-2 (n/a: Physics law, Complex)" in legend(radar(models, "grounded"))


def test_every_figure_of_means_says_over_how_many_examples_and_a_cell_how_sure_it_is():
    models = {"baseline": results_of(30), "checkpoint-2": results_of(40)}
    for draw in (totals_by_dimension, metrics_overall, heat_map, radar, checkpoint_curves):
        assert "n = 100 examples" in notes(draw(models, "grounded"))
    differences = {"checkpoint-2": Improvement({"Spatial": Estimate(1, -1, 2)}, None, 90, 0)}
    assert "n = 90 pairs of answers" in notes(improvement(models, differences, "baseline", "grounded"))
    total = results_of(30).dimensions["Spatial"]["total_score"]
    cells = words(heat_map(models, "grounded"))
    assert cells.count(f"{total.low:.0f} to {total.high:.0f}, n = 17") == 6
    assert cells.count(f"{total.low:.0f} to {total.high:.0f}, n = 100") == 1


def test_one_dimension_is_enough():
    models = {"baseline": results_of(30, ["Spatial"]), "checkpoint-2": results_of(40, ["Spatial"])}
    bars = totals_by_dimension(models, "official")
    assert [label.get_text() for label in bars.axes[0].get_xticklabels()] == ["Spatial"]
    assert "No model has results in Mesh & texture, Common sense, Semantic, Physics law, Complex" in notes(bars)
    assert "Spatial" in metrics_overall(models, "grounded").get_suptitle()
    assert [axes.get_title() for axes in checkpoint_curves(models, "official").axes] == ["Spatial"]
    assert words(heat_map(models, "official")).count("n/a") == 12


@pytest.mark.slow
def test_forty_models_need_no_long_legend_and_none_is_lost():
    models = forty()
    models["lora_light-checkpoint-400"] = results_of(19, DIMENSIONS[:4])
    differences = {
        name: Improvement(found.dimensions and {d: Estimate(1, -1, 2) for d in found.dimensions}, None, 9, 0)
        for name, found in models.items()
    }
    figures = {
        "totals": totals_by_dimension(models, "grounded"),
        "improvement": improvement(models, differences, "baseline", "grounded"),
        "heat map": heat_map(models, "grounded"),
        "metrics": metrics_overall(models, "grounded"),
    }
    for name, figure in figures.items():
        assert len(rows(figure)) == (39 if name == "improvement" else 40)
        assert len(legend(figure)) <= 4
    # What belongs to a run stands together.
    shown = rows(figures["totals"])
    assert shown.index("checkpoint-1800") + 1 == shown.index("checkpoint-100_1shot")
    polygons = radar(models, "grounded")
    assert legend(polygons) == [
        "baseline",
        "constant",
        "checkpoint-1800",
        "checkpoint-1000_1shot",
        "lora_light-checkpoint-1000",
    ]
    assert "5 of 40 models" in notes(polygons)
    curves = checkpoint_curves(models, "grounded")
    assert legend(curves) == [
        "checkpoint",
        "checkpoint (1shot)",
        "lora_light",
        "baseline",
        "constant",
        "no results at this step",
    ]


def test_published_results_are_hollow_and_said_to_be_published():
    models = {"baseline": results_of(30, terms=TERMS["official"])}
    published = {"A": dict(zip(DIMENSIONS, (10, 20, 30, 40, 50, 60), strict=True)), "B": {"macro": 25.0}}
    figures = {
        "totals": totals_by_dimension(models, "official", published),
        "curves": checkpoint_curves(models | {"checkpoint-2": results_of(40)}, "official", published),
    }
    for figure in figures.values():
        assert "not measured here" in notes(figure)
        hollow = [line for axes in figure.axes for line in axes.lines if line.get_markerfacecolor() == "white"]
        assert len(hollow) == 7 + 1  # six and their mean, and one mean
    for figure in (figures["totals"], figures["curves"]):
        assert legend(figure)[-2:] == ["A (published)", "B (published)"]
    cells = heat_map(models, "official", published)
    assert rows(cells)[1:] == ["A (published)", "B (published)"]
    assert words(cells)[2 * 7 + 6] == "35.00"  # the intervals of the base between
    assert "B (published)" not in legend(radar(models, "official", published))


def test_styles_differ_by_more_than_colour():
    found = styles_of([f"checkpoint-{i}" for i in range(6)] + ["base"], "base")
    assert found["base"].color == COLORS[-1]
    for part in ("color", "hatch", "marker"):
        assert len({getattr(look, part) for look in found.values()}) == 7


def test_the_same_figure_gives_the_same_files(tmp_path):
    models = {"baseline": results_of(30)}
    for folder in ("a", "b"):
        save(heat_map(models, "grounded"), tmp_path / folder, "figure")
    for kind in FORMATS:
        assert (tmp_path / "a" / f"figure.{kind}").read_bytes() == (tmp_path / "b" / f"figure.{kind}").read_bytes()
