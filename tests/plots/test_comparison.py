import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from configs.config import DIMENSIONS
from leap import plots
from leap.plans.scoring import GROUNDED_METRICS, score_grounded, score_official
from leap.plots.comparison import MOST_BARS, TERMS
from leap.plots.labels import short_names
from leap.plots.profiles import representatives
from leap.plots.style import looks
from leap.statistics import Estimate
from leap.vlabench.paired import Difference
from leap.vlabench.results import Overall
from tests.conftest import assert_one_line_error, run_script

DRAW = "evaluation/draw_evaluation_results.py"


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plots.plt.close("all")


def results_of(value: float, dimensions=DIMENSIONS, terms=TERMS["grounded"]) -> Overall:
    """A model with these metrics in all its dimensions: value, value - 1, ...; the total is their weighted sum."""
    metrics = {name: max(value - i, 0.0) for i, name in enumerate(GROUNDED_METRICS)}
    metrics["total_score"] = sum(weight * metrics[name] for name, weight in terms)
    found = {name: Estimate(mean, mean - 1, mean + 2) if mean else Estimate(0, 0, 0) for name, mean in metrics.items()}
    return Overall(found, found, dict.fromkeys(dimensions, found), 100)


def forty() -> dict[str, Overall]:
    """The base, a control and 38 checkpoints: two runs, one of them also asked with one shot."""
    models = {"baseline": results_of(20), "constant": results_of(5)}
    models |= {f"checkpoint-{step}": results_of(20 + step / 100) for step in range(100, 1900, 100)}
    models |= {f"checkpoint-{step}_1shot": results_of(25 + step / 100) for step in range(100, 1100, 100)}
    models |= {f"lora_light-checkpoint-{step}": results_of(15 + step / 100) for step in range(100, 1100, 100)}
    return models


def words(figure: Figure) -> list[str]:
    """All texts inside the axes."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []


def notes(figure: Figure) -> str:
    return " ".join(figure.legends[0].get_title().get_text().split()) if figure.legends else ""


def rows(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def lines_named(axes, style: str) -> list[float]:
    """Heights of the horizontal lines of a style across a panel."""
    found = [line for line in axes.lines if list(line.get_xdata()) == [0, 1] and line.get_linestyle() == style]
    return [line.get_ydata()[0] for line in found]


def curve_in(axes, steps: list[int]) -> np.ndarray:
    """The values of the one curve over exactly these steps."""
    (found,) = [line for line in axes.lines if list(line.get_xdata()) == steps and line.get_linestyle() != "None"]
    return np.asarray(found.get_ydata(), float)


def test_a_missing_value_is_marked_and_never_drawn_as_zero():
    models = {"baseline": results_of(30), "checkpoint-2": results_of(40, DIMENSIONS[:4])}
    bars = plots.totals_by_dimension(models, "grounded")
    assert words(bars) == ["n/a"] * 3  # two dimensions and macro
    heights = [bar.get_height() for bar in bars.axes[0].patches]
    assert len(heights) == 7 + 4
    assert min(heights) > 0
    assert "macro mean needs all six" in notes(bars)
    cells = words(plots.heat_map(models, "grounded"))
    assert cells.count("n/a") == 3
    assert "0.0" not in cells
    assert words(plots.stacked_terms(models, "grounded")).count("n/a") == 3
    assert "checkpoint-2 (n/a: PhysicsLaw, Complex)" in legend(plots.radar(models, "grounded"))


def test_a_measured_zero_is_written_as_zero():
    assert words(plots.totals_by_dimension({"constant": results_of(0)}, "official")) == ["0"] * 7


def test_one_dimension_is_enough():
    models = {"baseline": results_of(30, ["Spatial"]), "checkpoint-2": results_of(40, ["Spatial"])}
    bars = plots.totals_by_dimension(models, "official")
    assert [label.get_text() for label in bars.axes[0].get_xticklabels()] == ["Spatial"]
    assert "No model has results in M&T, CommenSence, Semantic, PhysicsLaw, Complex" in notes(bars)
    assert "Spatial" in plots.metrics_overall(models).get_suptitle()
    for figure in (plots.stacked_terms(models, "official"), plots.checkpoint_curves(models, "official")):
        assert [axes.get_title() for axes in figure.axes] == ["Spatial"]
    assert words(plots.heat_map(models, "official")).count("n/a") == 12


@pytest.mark.parametrize("scorer", ["official", "grounded"])
def test_the_terms_are_stacked_to_the_total(scorer):
    models = {"baseline": results_of(30, terms=TERMS[scorer]), "checkpoint-2": results_of(60, terms=TERMS[scorer])}
    figure = plots.stacked_terms(models, scorer)
    for axes in figure.axes:
        bars = [bar for bars in axes.containers if hasattr(bars, "patches") for bar in bars.patches]
        assert len(bars) == 2 * len(TERMS[scorer])
        for y, found in enumerate(models.values()):
            stack = [bar for bar in bars if round(bar.get_y() + bar.get_height() / 2) == y]
            total = found.macro["total_score"].mean
            assert sum(bar.get_width() for bar in stack) == pytest.approx(total)
            assert max(bar.get_x() + bar.get_width() for bar in stack) == pytest.approx(total)
    assert legend(figure)[0] == "0.4 x skills"


def test_the_terms_are_those_of_the_scorers():
    truth = [{"name": "pick", "params": {"target_entity_name": 3}}, {"name": "lift", "params": {}}]
    text = '```json\n[{"name": "pick", "params": {"target_entity_name": 3}}, {"name": "pull", "params": {}}]\n```'
    for scorer, score in (("official", score_official), ("grounded", score_grounded)):
        found = score(text, truth, False).scores
        assert 0 < sum(weight * found[name] for name, weight in TERMS[scorer]) == pytest.approx(found["total_score"])


def test_up_to_six_models_are_bars_and_more_are_lines_of_dots():
    models = dict(list(forty().items())[: MOST_BARS + 1])
    few = dict(list(models.items())[:MOST_BARS])
    assert len(plots.totals_by_dimension(few, "grounded").axes) == 1
    figure = plots.totals_by_dimension(models, "grounded")
    assert [axes.get_title() for axes in figure.axes] == [*DIMENSIONS, "macro"]
    assert rows(figure) == list(models)


def test_forty_models_need_no_long_legend_and_none_is_lost():
    models = forty()
    models["lora_light-checkpoint-400"] = results_of(19, DIMENSIONS[:4])
    differences = {
        name: Difference(found.dimensions and {d: Estimate(1, -1, 2) for d in found.dimensions}, None, 9, 0)
        for name, found in models.items()
    }
    figures = {
        "totals": plots.totals_by_dimension(models, "grounded"),
        "stacked": plots.stacked_terms(models, "grounded"),
        "improvement": plots.improvement(models, differences, "baseline", "grounded"),
        "heat map": plots.heat_map(models, "grounded"),
        "metrics": plots.metrics_overall(models),
    }
    for name, figure in figures.items():
        assert len(rows(figure)) == (39 if name == "improvement" else 40)
        assert len(legend(figure)) <= 4
    # What belongs to a run stands together.
    shown = rows(figures["totals"])
    assert shown.index("checkpoint-1800") + 1 == shown.index("checkpoint-100_1shot")
    radar = plots.radar(models, "grounded")
    assert legend(radar) == [
        "baseline",
        "constant",
        "checkpoint-1800",
        "checkpoint-1000_1shot",
        "lora_light-checkpoint-1000",
    ]
    assert "5 of 40 models" in notes(radar)
    curves = plots.checkpoint_curves(models, "grounded")
    assert legend(curves) == [
        "checkpoint",
        "checkpoint (1shot)",
        "lora_light",
        "baseline",
        "constant",
        "no results at this step",
    ]


def test_many_runs_leave_a_radar_and_curves_readable():
    models = {"baseline": results_of(9)} | {
        f"run{i}-checkpoint-{s}": results_of(i + s) for i in range(20) for s in (1, 2)
    }
    assert representatives(models, 3) == ["baseline", "run18-checkpoint-2", "run19-checkpoint-2"]
    entries = legend(plots.checkpoint_curves(models, "grounded"))
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
    figure = plots.checkpoint_curves(models, "grounded")
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


def test_a_curve_breaks_where_a_checkpoint_has_no_results():
    models = {
        f"checkpoint-{step}": results_of(step, DIMENSIONS if step != 20 else ["Spatial"]) for step in (10, 20, 30)
    }
    figure = plots.checkpoint_curves(models, "grounded")
    by_title = {axes.get_title(): axes for axes in figure.axes}
    assert np.isnan(curve_in(by_title["Complex"], [10, 20, 30])).tolist() == [False, True, False]
    assert not np.isnan(curve_in(by_title["Spatial"], [10, 20, 30])).any()
    crosses = [line for line in by_title["Complex"].lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[20]]
    assert "no results at this step" in legend(figure)


def test_improvement_shows_what_is_paired_and_what_is_not():
    models = {"baseline": results_of(10), "checkpoint-2": results_of(20), "checkpoint-4": results_of(30, ["Spatial"])}
    six = dict.fromkeys(DIMENSIONS, Estimate(10, 8, 12))
    differences = {
        "checkpoint-2": Difference(six, Estimate(10, 9, 11), 600, 3),
        "checkpoint-4": Difference({"Spatial": Estimate(-2, -3, 1)}, None, 100, 0),
    }
    figure = plots.improvement(models, differences, "baseline", "official")
    bars, other = (bars for bars in figure.axes[0].containers if hasattr(bars, "patches"))
    assert [bar.get_height() for bar in bars] == [10] * 7
    assert [bar.get_height() for bar in other] == [-2]
    assert words(figure) == ["n/a"] * 6
    assert legend(figure) == ["checkpoint-2", "checkpoint-4"]
    assert "checkpoint-2 600 (3 left out)" in notes(figure)


def test_published_results_are_hollow_and_said_to_be_published():
    models = {"baseline": results_of(30, terms=TERMS["official"])}
    published = {"A": dict(zip(DIMENSIONS, (10, 20, 30, 40, 50, 60), strict=True)), "B": {"macro": 25.0}}
    figures = {
        "totals": plots.totals_by_dimension(models, "official", published),
        "stacked": plots.stacked_terms(models, "official", published),
        "curves": plots.checkpoint_curves(models | {"checkpoint-2": results_of(40)}, "official", published),
    }
    for figure in figures.values():
        assert "not measured here" in notes(figure)
        hollow = [line for axes in figure.axes for line in axes.lines if line.get_markerfacecolor() == "white"]
        assert len(hollow) == 7 + 1  # six and their mean, and one mean
    for figure in (figures["totals"], figures["curves"]):
        assert legend(figure)[-2:] == ["A (published)", "B (published)"]
    heat_map = plots.heat_map(models, "official", published)
    assert rows(heat_map)[1:] == ["A (published)", "B (published)"]
    assert words(heat_map)[13] == "35.0"
    assert "B (published)" not in legend(plots.radar(models, "official", published))


def test_looks_differ_by_more_than_colour():
    found = looks([f"checkpoint-{i}" for i in range(6)] + ["base"], "base")
    assert found["base"].color == "#999999"
    for part in ("color", "hatch", "marker"):
        assert len({getattr(look, part) for look in found.values()}) == 7


def test_long_names_are_shortened_where_they_are_alike_and_stay_different():
    run = "qwen3vl_2b_instruct_lora_rank{}_lr2e-4_warmup500_seed42-checkpoint-2000_1shot"
    names = [
        run.format(8),
        run.format(16),
        "baseline",
        "$x$",
        "_own",
        "x" * 90 + "y" + "x" * 90,
        "x" * 90 + "z" + "x" * 90,
    ]
    short = short_names(names)
    assert short[run.format(16)] == "qwen3vl...rank16...-checkpoint-2000_1shot"
    assert (short["baseline"], short["$x$"], short["_own"]) == ("baseline", r"\$x\$", " _own")
    assert len(set(short.values())) == len(names)
    # Two runs that would read alike, of differently many words each.
    names = [f"a_{'b' * 30}_{i}{'_c' * c}_{'d' * 30}" for c in (1, 2) for i in (1, 2)]
    assert len(set(short_names(names).values())) == 4


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


def test_the_script_draws_what_the_results_allow(tmp_path):
    for model, value in (("baseline", 10), ("checkpoint-2", 20), ("checkpoint-4", 30)):
        write_results(tmp_path, model, value, DIMENSIONS[:4])
    done = run_script(DRAW, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    written = [Path(line) for line in done.stdout.splitlines()]
    kinds = ("total_by_dimension", "stacked", "heat_map", "radar", "improvement", "curves")
    names = {f"{kind}_{scorer}" for kind in kinds for scorer in ("official", "grounded")} | {"metrics_grounded"}
    assert {path.name for path in written} == {f"{n}.{k}" for n in names for k in ("png", "svg")} | {"results_table.md"}
    assert all(path.stat().st_size > 100 for path in written)
    svg = (tmp_path / "figures" / "improvement_grounded.svg").read_text()
    assert ">checkpoint-4</text>" in svg
    assert "paired bootstrap" in svg

    # One model allows neither curves nor a comparison: their old figures would show other results.
    done = run_script(DRAW, "--results", tmp_path, "--models", "baseline", "--published")
    assert done.returncode == 0, done.stderr
    assert "LEAP checkpoint-5000" in (tmp_path / "figures" / "heat_map_official.svg").read_text()
    assert "(published, not measured here)" in (tmp_path / "figures" / "results_table.md").read_text()
    assert "LEAP checkpoint-5000" not in (tmp_path / "figures" / "heat_map_grounded.svg").read_text()
    left = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert left == {name for name in names if not name.startswith(("improvement", "curves"))}


def test_the_script_names_the_model_that_has_no_results(tmp_path):
    write_results(tmp_path, "checkpoint-2", 20, ["Spatial"])
    for flag in ("--models", "--base"):
        assert_one_line_error(run_script(DRAW, "--results", tmp_path, flag, "other"), "'other'", "checkpoint-2")


def test_the_same_figure_gives_the_same_files(tmp_path):
    models = {"baseline": results_of(30)}
    for folder in ("a", "b"):
        plots.save(plots.heat_map(models, "grounded"), tmp_path / folder, "figure")
    for kind in ("png", "svg"):
        assert (tmp_path / "a" / f"figure.{kind}").read_bytes() == (tmp_path / "b" / f"figure.{kind}").read_bytes()
