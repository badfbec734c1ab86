from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure

from leap.blind.outputs import Output
from leap.files import write_json
from leap.judge.judgements import CONTROLS, FINAL, PAIRWISE, REFERENCE_JUDGE, RUBRIC, SCALES, Judgement
from leap.judge.summary import summarise
from leap.plots.review import review_figures
from leap.plots.style import FORMATS, lay_out
from tests.conftest import assert_one_line_error, run_script

DRAW = "evaluation/draw_blind10_scores.py"
MODELS = ["baseline", "checkpoint-200", "checkpoint-1000"]
ALL = {
    "blind10_models_final_score",
    "blind10_models_final_score_by_step",
    "blind10_models_dimension_scores",
    "blind10_models_improvement_vs_baseline",
    "blind10_judge_vs_reference",
    "blind10_win_rates",
}


def outputs_of(models, items=10) -> list[Output]:
    return [Output(model, sample, [], "/", "p", "1) a", "1) b") for sample in range(items) for model in models]


def ratings(judge, models, items=10, seed=0, control=1) -> list[Judgement]:
    rng = np.random.default_rng(seed)
    found = []
    for model in (*models, *CONTROLS):
        for sample in range(items):
            scores = {scale: control if model in CONTROLS else int(rng.integers(1, 6)) for scale in SCALES}
            found.append(Judgement(judge, RUBRIC, model, sample, scores=scores))
    return found


def pairs(judge, models, items=10) -> list[Judgement]:
    return [
        Judgement(judge, PAIRWISE, model, s, base="baseline", model_first=first, verdict="model" if s < 8 else "base")
        for model in models
        if model != "baseline"
        for s in range(items)
        for first in (True, False)
    ]


def drawn(models, judgements, items=10) -> dict[str, Figure]:
    figures = review_figures(summarise(outputs_of(models, items), judgements))
    assert figures.keys() == ALL
    return {name.removeprefix("blind10_"): make() for name, make in figures.items() if make}


def panels(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_visible()]


def lines(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def notes(figure: Figure) -> str:
    return " ".join(figure.legends[0].get_title().get_text().split()) if figure.legends else ""


def marks(axes) -> np.ndarray:
    """The points of a panel, (points, 2)."""
    found = [line.get_xydata() for line in axes.lines if line.get_marker() in set("osD^vP*X")]
    return np.concatenate(found)


def test_a_panel_a_judge_a_line_a_model_and_the_whole_scale():
    judged = [*ratings("llm", MODELS), *ratings(REFERENCE_JUDGE, MODELS, seed=1)]
    figure = drawn(MODELS, judged)["models_final_score"]
    assert panels(figure) == ["llm\nn = 10 items", "reference\nn = 10 items"]
    assert lines(figure) == MODELS
    low, high = figure.axes[0].get_xlim()
    assert (low, high) == pytest.approx((0.8, 5.2))
    summary = summarise(outputs_of(MODELS), judged)
    for axes, judge in zip(figure.axes, summary["judges"].values(), strict=True):
        by_line = {int(y): x for x, y in marks(axes)}
        assert by_line == pytest.approx(
            {y: of["scores"][FINAL]["mean"] for y, of in enumerate(judge["models"].values())}
        )


def test_a_model_that_was_not_judged_is_marked_and_never_drawn():
    figures = drawn(MODELS, [*ratings("llm", MODELS[:2]), *ratings("other", MODELS, seed=1)])
    for name in ("models_final_score", "models_improvement_vs_baseline"):
        assert texts(figures[name].axes[0]) == ["n/a"]
        assert texts(figures[name].axes[1]) == []
        assert "n/a: no judgements." in notes(figures[name])
    assert len(marks(figures["models_final_score"].axes[0])) == 2
    assert all(texts(axes) == ["n/a"] for axes in figures["models_dimension_scores"].axes)


def test_a_judge_whose_ratings_all_failed_has_no_panel_but_a_note():
    failed = [Judgement("broken", RUBRIC, model, 0, failure="refused") for model in MODELS]
    figure = drawn(MODELS, [*ratings("llm", MODELS), *failed])["models_final_score"]
    assert panels(figure) == ["llm\nn = 10 items"]
    assert "All ratings failed: broken." in notes(figure)


def test_without_a_base_nothing_is_drawn_over_it():
    figures = drawn(MODELS[1:], ratings("llm", MODELS[1:]))
    assert "models_improvement_vs_baseline" not in figures
    assert lines(figures["models_final_score"]) == MODELS[1:]


def test_every_mean_says_over_how_many_items_it_is():
    judged = [*ratings("llm", MODELS[:2]), *ratings("llm", MODELS[2:], items=7), *pairs("llm", MODELS, items=6)]
    figures = drawn(MODELS, judged)
    for name in ("models_final_score", "models_final_score_by_step", "models_improvement_vs_baseline"):
        assert panels(figures[name]) == ["llm\nn = 7 to 10 items"]
    assert panels(figures["win_rates"]) == ["llm\nn = 6 items"]
    assert "n = 7 to 10 items." in notes(figures["models_dimension_scores"])
    scales = drawn(MODELS, [*judged, *ratings("other", MODELS, items=3)])["models_dimension_scores"]
    labels = [text.get_text() for text in scales.legends[0].get_texts()]
    assert labels == ["llm, n = 7 to 10 items", "other, n = 3 items"]


def test_one_model_of_one_judge_is_enough():
    figures = drawn(["checkpoint-200"], ratings("llm", ["checkpoint-200"]))
    assert figures.keys() == {"models_final_score", "models_dimension_scores"}
    assert [title.replace("\n", " ") for title in panels(figures["models_dimension_scores"])] == [
        "completeness",
        "logical sequence",
        "hallucination, redundancy (5: none)",
        "granularity",
    ]


def test_differences_are_points_around_zero_and_hollow_where_they_say_nothing():
    better = [Judgement("llm", RUBRIC, MODELS[0], s, scores=dict.fromkeys(SCALES, 2)) for s in range(10)]
    better += [Judgement("llm", RUBRIC, MODELS[1], s, scores=dict.fromkeys(SCALES, 4)) for s in range(10)]
    better += [Judgement("llm", RUBRIC, MODELS[2], s, scores=dict.fromkeys(SCALES, 1 + s % 3)) for s in range(10)]
    (axes,) = drawn(MODELS, better)["models_improvement_vs_baseline"].axes
    faces = {
        round(line.get_xdata()[0], 9): line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"
    }
    assert faces[2.0] != "white"
    assert faces[-0.1] == "white"
    assert axes.get_xlim()[0] == -axes.get_xlim()[1]


def test_pairs_are_win_rates_in_percent():
    figures = drawn(MODELS, pairs("llm", MODELS))
    assert figures.keys() == {"win_rates"}
    (axes,) = figures["win_rates"].axes
    assert set(marks(axes)[:, 0]) == {80}
    assert axes.get_xlim() == pytest.approx((-5, 105))


def test_each_plan_is_a_point_beside_the_reference_judge_with_the_correlation():
    judged = [*ratings("llm", MODELS), *ratings("other", MODELS[:2], seed=2), *ratings(REFERENCE_JUDGE, MODELS, seed=1)]
    figure = drawn(MODELS, judged)["judge_vs_reference"]
    summary = summarise(outputs_of(MODELS), judged)
    for axes, judge, plans in zip(figure.axes, ("llm", "other"), (30, 20), strict=True):
        found = summary["judges"][judge]["with"]["reference"]
        assert axes.get_title().startswith(f"{judge}\nSpearman {found['spearman']:.2f} [")
        assert axes.get_title().endswith(f", {plans} plans")
        assert len(marks(axes)) == plans


def test_points_are_the_plans_that_the_summary_counts_and_the_others_are_noted():
    judged = [*ratings("llm", MODELS), *ratings(REFERENCE_JUDGE, MODELS, seed=1)]
    kept = [one for one in judged if (one.model, one.sample) != (MODELS[1], 0)]
    summary = summarise(outputs_of(MODELS), kept, left_out=len(judged) - len(kept))
    for name, make in review_figures(summary).items():
        if make:
            figure = make()
            assert "2 judgements of other rows, models, bases, plans or pictures are left out." in notes(figure)
            if name == "blind10_judge_vs_reference":
                assert len(marks(figure.axes[0])) == 29


def test_a_judge_not_to_be_trusted_is_named_in_every_figure():
    judged = [*ratings("fooled", MODELS, control=5), *pairs("fooled", MODELS), *ratings(REFERENCE_JUDGE, MODELS)]
    figures = drawn(MODELS, judged)
    assert len(figures) == len(ALL)
    assert all("Not to be trusted" in notes(figure) and "fooled" in notes(figure) for figure in figures.values())


@pytest.mark.slow
def test_dozens_of_checkpoints_and_long_names_stay_apart():
    long = "lora_all_linear_r64_alpha128_dropout005_lr_2e-4_seed_17_run_of_thursday"
    models = ["baseline", *(f"checkpoint-{s}" for s in range(200, 4200, 200))]
    models += [f"{long}-checkpoint-{s}" for s in range(100, 2100, 100)]
    judge = "organisation/a-language-model-235B-A22B-Instruct-FP8-with-a-long-name"
    judged = [*ratings(judge, models), *ratings("b", models), *ratings("c", models), *ratings(REFERENCE_JUDGE, models)]
    figures = drawn(models, judged)
    for figure in figures.values():
        lay_out(figure)
        figure.draw_without_rendering()
        titles = [axes.title.get_window_extent() for axes in figure.axes]
        assert not any(a.overlaps(b) for i, a in enumerate(titles) for b in titles[:i])
        top = figure._suptitle.get_window_extent()
        assert not any(top.overlaps(title) for title in titles)
        labels = [label.get_window_extent() for label in figure.axes[0].get_yticklabels() if label.get_text()]
        assert not any(a.overlaps(b) for a, b in pairwise(labels))
    assert len(set(lines(figures["models_final_score"]))) == len(models)
    assert len(figures["models_final_score_by_step"].axes) == 4


def test_steps_are_written_below_every_lowest_panel():
    judged = [one for judge in (*"abcd", REFERENCE_JUDGE) for one in ratings(judge, MODELS)]
    figure = drawn(MODELS, judged)["models_final_score_by_step"]
    figure.draw_without_rendering()
    written = {
        axes.title.get_text().partition("\n")[0]: any(
            label.get_visible() and label.get_text() for label in axes.get_xticklabels()
        )
        for axes in figure.axes
    }
    assert written == {"a": False, "b": False, "c": True, "d": True, REFERENCE_JUDGE: True}


def test_the_script_draws_png_svg_and_pdf_and_removes_what_is_no_longer_true(tmp_path):
    judged = [*ratings("llm", MODELS), *pairs("llm", MODELS), *ratings(REFERENCE_JUDGE, MODELS, seed=1)]
    write_json(tmp_path / "summary.json", summarise(outputs_of(MODELS), judged))
    done = run_script(DRAW, "--review_dir", tmp_path)
    assert done.returncode == 0, done.stderr
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert figures == {f"{name}.{kind}" for name in ALL for kind in FORMATS}
    assert sorted(done.stdout.split()) == sorted(str(tmp_path / "figures" / name) for name in figures)

    write_json(tmp_path / "summary.json", summarise(outputs_of(MODELS), ratings("llm", MODELS)))
    assert run_script(DRAW, "--review_dir", tmp_path).returncode == 0
    left = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert left == ALL - {"blind10_judge_vs_reference", "blind10_win_rates"}


def test_the_script_says_what_to_run_first(tmp_path):
    analyze = "python scripts/evaluation/analyze_output_results.py"
    assert_one_line_error(run_script(DRAW, "--review_dir", tmp_path), "summary.json", analyze)
    write_json(tmp_path / "summary.json", summarise(outputs_of(MODELS), []))
    assert_one_line_error(run_script(DRAW, "--review_dir", tmp_path), "no judgement", analyze)
    write_json(tmp_path / "summary.json", [1])
    assert_one_line_error(run_script(DRAW, "--review_dir", tmp_path), "no summary of a review", analyze)
