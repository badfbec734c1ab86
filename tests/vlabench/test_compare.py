"""Two models over the same examples: numbers by hand, and what may not be compared."""

import json

import numpy as np
import pytest

from configs.config import DIMENSIONS
from configs.errors import UserError
from leap.files import Journal, read_json, write_json
from leap.plans.reading import fenced
from leap.statistics import holm
from leap.vlabench.compare import (
    compare,
    compare_all,
    comparison_tables,
    improvements,
    metrics_named,
    write_comparison,
)
from leap.vlabench.folder import answer_record, failure_record
from leap.vlabench.results import write_results
from tests.conftest import assert_one_line_error, run_script
from tests.vlabench.benchmark_tree import make_benchmark, pick, place

PROMPT = {"style": "builtin", "language": "en", "few_shot_num": 0, "with_cot": False}


@pytest.fixture
def benchmark(tmp_path):
    return make_benchmark(tmp_path / "benchmark")


@pytest.fixture
def results(tmp_path):
    return tmp_path / "eva_results"


def settings(name, prompt=PROMPT, **planner):
    return {
        "planner": {"planner": "huggingface", "weights_sha256": name, "dtype": "bfloat16", **planner},
        "prompt": prompt,
        "pictures": {},
    }


def evaluate(results, name, examples, right, failures=(), data="d", how=None, prompt_sha256="p"):
    """Results of a model that answers as many of `examples` as `right` says: True right, False all wrong, None not."""
    lines = {
        example: {
            "task": example.task,
            "example": example.number,
            "text": fenced(example.ground_truth() if is_right else [pick(98), place(99)]),
            "stop": "end",
            "prompt_sha256": prompt_sha256,
        }
        for example, is_right in zip(examples, right, strict=True)
        if is_right is not None
    }
    folder = results / examples[0].dimension / name
    with Journal(folder / "generations.jsonl") as journal:
        journal.append(lines.values())
    (folder / "failures.jsonl").write_text("".join(json.dumps(failure) + "\n" for failure in failures))
    how = how or settings(name)
    write_json(folder / "settings.json", how)
    answers = {example: answer_record(line) for example, line in lines.items()}
    failures = [failure_record(failure) for failure in failures]
    write_results(folder, answers, failures, len(examples), how, {"data_sha256": data})


def test_counts_means_and_p_values_by_hand(benchmark, results):
    examples = benchmark["Spatial"]
    evaluate(results, "a", examples, [True] * 4 + [False] * 16)
    evaluate(results, "b", examples, [False] * 1 + [True] * 9 + [False] * 10)
    found = compare(results, "a", "b", ["grounded.plan_success"]).metrics["grounded.plan_success"]
    one = found.dimensions["Spatial"]
    assert (one.examples, one.a, one.b, one.difference.mean) == (20, 20, 45, 25)
    assert (one.better, one.worse, one.same, one.both_right) == (6, 1, 13, 3)
    # Of the 2^7 sign patterns of seven equal differences 2 (1 + 7) leave at most one with the other sign.
    assert one.p_value == one.p_holm == 16 / 128
    assert found.macro.p_value == found.micro.p_value == 16 / 128
    assert found.macro.p_holm == found.macro.p_value
    assert one.difference.low < 25 < one.difference.high


def test_the_interval_is_that_of_the_differences_within_tasks(benchmark, results):
    examples = benchmark["Spatial"]
    evaluate(results, "a", examples, [True] + [False] * 9 + [True] * 9 + [False])
    evaluate(results, "b", examples, [True] * 10 + [True] * 10)
    evaluate(results, "mixed", examples, [True, False] * 10)
    by_task, mixed = (
        compare(results, a, b).metrics["official.total_score"].micro.difference for a, b in (("a", "b"), ("mixed", "b"))
    )
    assert by_task.mean == mixed.mean == pytest.approx(20)
    # Nearly every example of one task gains the same, nearly none of the other does.
    assert by_task.high - by_task.low < 0.9 * (mixed.high - mixed.low)
    assert by_task.low < 20 < by_task.high


def test_no_difference_at_all_keeps_the_width_of_what_was_not_seen(benchmark, results):
    for name in "ab":
        evaluate(results, name, benchmark["Spatial"], [True] * 20)
    found = compare(results, "a", "b", ["grounded.plan_success"])
    e = found.metrics["grounded.plan_success"].micro.difference
    # 0 of 20 is at most 16.8 of 100.
    assert (e.mean, e.low, e.high) == (0, pytest.approx(-16.8, abs=1), pytest.approx(16.8, abs=1))


def test_p_values_are_corrected_over_all_models_compared_at_once(benchmark, results):
    for dimension in ("Spatial", "Complex"):
        evaluate(results, "base", benchmark[dimension], [False] * 20)
        for name, gains in (("b", 6), ("c", 7), ("d", 8)):
            evaluate(results, name, benchmark[dimension], [True] * gains + [False] * (20 - gains))
    metrics = metrics_named(["plan_success"])
    by_model = [c.metrics[metrics[0]] for c in compare_all(results, "base", ["b", "c", "d"], metrics)]
    p_values = [d.p_value for metric in by_model for d in metric.dimensions.values()]
    assert p_values == [2 / 64] * 2 + [2 / 128] * 2 + [2 / 256] * 2
    corrected = [d.p_holm for metric in by_model for d in metric.dimensions.values()]
    assert corrected == holm(p_values) != p_values
    assert [m.macro.p_holm for m in by_model] == holm([m.macro.p_value for m in by_model])
    (alone,) = compare_all(results, "base", ["b"], metrics)
    assert alone == compare(results, "base", "b", metrics)
    assert alone.metrics[metrics[0]].dimensions["Spatial"].p_holm == 2 * 2 / 64


def test_examples_of_one_instruction_are_flipped_together(benchmark, results):
    examples = benchmark["Spatial"]
    for example in examples:  # five instructions a task, each twice
        example.instruction_file.write_text(f"Do {'abcde'[example.number // 2]} of it.")
    evaluate(results, "a", examples, [False] * 20)
    evaluate(results, "b", examples, [True] * 10 + [False] * 10)
    clustered = compare(results, "a", "b").metrics["grounded.total_score"].micro
    assert clustered.p_value == 2 / 2**5
    for example in examples:
        example.instruction_file.write_text(f"Do {'abcdefghij'[example.number]} of it.")
    evaluate(results, "c", examples, [False] * 20)
    evaluate(results, "d", examples, [True] * 10 + [False] * 10)
    apart = compare(results, "c", "d").metrics["grounded.total_score"].micro
    assert apart.p_value == 2 / 2**10
    assert apart.difference.low > clustered.difference.low


def test_macro_weighs_dimensions_and_micro_examples_and_dimensions_are_corrected(benchmark, results):
    for dimension, count, gains in (("Spatial", 20, 10), ("Complex", 10, 1)):
        examples = benchmark[dimension][:count]
        evaluate(results, "a", examples, [False] * count)
        evaluate(results, "b", examples, [True] * gains + [False] * (count - gains))
    found = compare(results, "a", "b", ["grounded.plan_success"]).metrics["grounded.plan_success"]
    assert found.macro.difference.mean == pytest.approx((50 + 10) / 2)
    assert found.micro.difference.mean == pytest.approx(100 * 11 / 30)
    spatial, complex_ = found.dimensions["Spatial"], found.dimensions["Complex"]
    assert (spatial.p_value, spatial.p_holm) == (2 / 1024, 4 / 1024)
    assert (complex_.p_value, complex_.p_holm) == (1, 1)
    # The ten differences of Spatial weigh 1/20 each, that of Complex 1/10: two patterns of 2^11 reach the observed sum.
    assert found.macro.p_value == 2 / 2048


def test_only_what_both_answered_is_compared_and_the_rest_is_told(benchmark, results):
    examples = benchmark["Spatial"]
    place_of = {"task": examples[3].task, "example": 3, "reason": "out of memory"}
    failures = [{**place_of, "kind": "machine"}, {**place_of, "example": 4, "kind": "data"}]
    evaluate(results, "a", examples, [True] * 3 + [None] * 2 + [True] * 15, failures)
    evaluate(results, "b", examples, [True] * 18 + [None] * 2)
    found = compare(results, "a", "b")
    assert found.metrics["official.total_score"].micro.examples == 16
    assert found.left_out == {
        "Spatial": {
            "not answered by a: machine failure": 1,
            "not answered by a: bad example": 1,
            "not answered by b: not asked": 2,
        }
    }
    assert "same pictures could not be checked: they did not answer the same examples" in found.warnings[0]


def test_missing_dimensions_are_shown_as_missing(benchmark, results):
    evaluate(results, "a", benchmark["Spatial"], [True] * 20)
    evaluate(results, "b", benchmark["Spatial"], [True] * 20)
    evaluate(results, "b", benchmark["Complex"], [True] * 20)
    found = compare(results, "a", "b")
    assert found.missing["Complex"] == "no results of a"
    assert found.missing["M&T"] == "no results of a and b"
    text = comparison_tables(found)
    assert "macro, 1 of 6" in text
    row = next(line for line in text.splitlines() if line.startswith("| Complex"))
    assert row.count(" - ") == 9
    assert "- Complex is missing: no results of a" in text


def test_other_data_is_refused(benchmark, results):
    examples = benchmark["Spatial"]
    evaluate(results, "a", examples, [True] * 20)
    evaluate(results, "b", examples, [True] * 20, data="other")
    with pytest.raises(UserError, match="other data in Spatial"):
        compare(results, "a", "b")


def test_other_ground_truth_is_refused_even_if_not_all_was_answered(benchmark, results):
    examples = benchmark["Spatial"]
    evaluate(results, "a", examples, [True] * 19 + [None])
    write_json(examples[6].plan_file, {"skill_sequence": [pick(50), place(51)]})
    evaluate(results, "b", examples, [True] * 20)
    with pytest.raises(UserError, match=r"other ground truth in Spatial \(1 of 19 .* example6 of .*rescore.py"):
        compare(results, "a", "b")


def test_other_words_are_refused_where_the_same_prompt_was_asked_for(benchmark, results):
    examples = benchmark["Spatial"]
    evaluate(results, "a", examples, [True] * 20)
    evaluate(results, "b", examples, [True] * 20, prompt_sha256="q")
    with pytest.raises(UserError, match="asked in other words in Spatial"):
        compare(results, "a", "b")
    how = settings("b", {**PROMPT, "few_shot_num": 1})
    evaluate(results, "c", examples, [True] * 20, prompt_sha256="q", how=how)
    assert compare(results, "a", "c").warnings == ["settings differ: prompt.few_shot_num is 0 for a, 1 for c"]


def test_settings_other_than_the_model_are_warned_of(benchmark, results):
    examples = benchmark["Spatial"]
    evaluate(results, "a", examples, [True] * 20, how=settings("a", decoding={"max_new_tokens": 64}))
    evaluate(results, "b", examples, [True] * 20, how=settings("b", decoding={"max_new_tokens": 512}, extra=1))
    evaluate(results, "same", examples, [True] * 20, how=settings("same", decoding={"max_new_tokens": 64}))
    assert compare(results, "a", "same").warnings == []
    warnings = compare(results, "a", "b").warnings
    assert warnings == ["settings differ: planner.decoding.max_new_tokens is 64 for a, 512 for b"]


def test_scores_of_different_versions_of_the_scorers_are_warned_of(benchmark, results):
    for model in "ab":
        evaluate(results, model, benchmark["Spatial"], [True] * 20, how=settings(model))
    path = results / "Spatial" / "a" / "summary.json"
    summary = {key: value for key, value in read_json(path).items() if key != "scorers"}
    write_json(path, summary)
    (warning,) = compare(results, "a", "b").warnings
    assert warning.startswith("a and b were scored by different versions of the scorers. Score both again")


def test_a_model_without_results_or_without_common_examples_is_an_error(benchmark, results):
    evaluate(results, "a", benchmark["Spatial"], [True] * 10 + [None] * 10)
    evaluate(results, "b", benchmark["Spatial"], [None] * 10 + [True] * 10)
    with pytest.raises(UserError, match=r"no results of 'c' in .*there: a, b"):
        compare(results, "a", "c")
    with pytest.raises(UserError, match="Spatial: no example that both answered"):
        compare(results, "a", "b")


def test_metrics_are_named_with_or_without_their_scorer():
    assert metrics_named([]) == ["official.total_score", "grounded.total_score"]
    assert metrics_named(["plan_success", "official.total_score"]) == ["grounded.plan_success", "official.total_score"]
    assert metrics_named(["entity_match_score"]) == ["official.entity_match_score", "grounded.entity_match_score"]
    with pytest.raises(UserError, match="unknown metric 'bleu'"):
        metrics_named(["bleu"])


def test_a_model_compared_with_itself_differs_in_nothing(benchmark, results):
    evaluate(results, "a", benchmark["Complex"], np.arange(20) % 3 == 0)
    for found in compare(results, "a", "a", metrics_named(["plan_success", "total_score"])).metrics.values():
        assert (found.micro.difference.mean, found.micro.p_value, found.micro.same) == (0, 1, 20)


def test_the_script_prints_tables_and_writes_them(benchmark, results):
    evaluate(results, "a", benchmark["Spatial"], [True] * 4 + [False] * 16)
    evaluate(results, "b", benchmark["Spatial"], [True] * 9 + [False] * 11)
    done = run_script("evaluation/compare_models.py", "a", "b", "--metric", "plan_success", "--results", results)
    assert done.returncode == 0, done.stderr
    assert "+25.0" in done.stdout
    folder = results / "comparisons" / "a_vs_b"
    content = read_json(folder / "comparison.json")
    assert content["metrics"]["grounded.plan_success"]["dimensions"]["Spatial"]["difference"]["mean"] == 25
    assert (folder / "comparison.md").read_text().startswith("# a (A) against b (B)")
    assert write_comparison(results, compare(results, "a", "b")) == folder

    assert_one_line_error(
        run_script("evaluation/compare_models.py", "a", "--results", results), "two models or more", "named: a"
    )


# ---- many models over one base


@pytest.fixture
def write_scores(tmp_path):
    def write(model, dimension, scores):
        """`scores`: {task: {number: total score}}"""
        folder = tmp_path / dimension / model
        folder.mkdir(parents=True)
        content = {
            task: {str(n): {"total_score": score, "other": 1} for n, score in examples.items()}
            for task, examples in scores.items()
        }
        (folder / "final_score.json").write_text(json.dumps({"benchmeatinfo": {"existing_num": 1}, **content}))

    return write


def random_scores(seed, sizes=(12, 30)):
    rng = np.random.default_rng(seed)
    return {f"task{t}": {n: float(rng.uniform(0, 80)) for n in range(size)} for t, size in enumerate(sizes)}


def test_improvements_have_the_bounds_of_compare_whatever_the_order_of_their_files(write_scores, tmp_path):
    for model, seed in (("0", 0), ("1", 100), ("2", 200)):
        for i, dimension in enumerate(DIMENSIONS):
            scores = random_scores(seed + 10 * i)
            if model == "2":  # as another tool may write them
                scores = {task: dict(reversed(list(of.items()))) for task, of in reversed(list(scores.items()))}
            write_scores(model, dimension, scores)
            write_json(tmp_path / dimension / model / "summary.json", {"model": model, "dimension": dimension})
    found = improvements(tmp_path, ["0", "1", "2"], "0", "official")
    assert list(found) == ["1", "2"]
    for model in ("1", "2"):
        metric = compare(tmp_path, "0", model, ["official.total_score"]).metrics["official.total_score"]
        assert found[model].macro == metric.macro.difference
        assert found[model].dimensions == {name: d.difference for name, d in metric.dimensions.items()}
        assert (found[model].examples, found[model].unpaired) == (6 * 42, 0)


def test_a_comparison_says_where_it_is_not_recorded_what_examples_share(write_scores, tmp_path):
    for model in "ab":
        write_scores(model, "Spatial", random_scores(1))
        write_json(tmp_path / "Spatial" / model / "summary.json", {"model": model, "dimension": "Spatial"})
    warnings = compare(tmp_path, "a", "b", ["official.total_score"]).warnings
    assert any("which examples share an instruction or a scene is not recorded" in warning for warning in warnings)


def test_pairing_takes_out_what_makes_examples_differ(write_scores, tmp_path):
    base = random_scores(1)
    better = {task: {n: score + 5 for n, score in of.items()} for task, of in base.items()}
    write_scores("base", "Spatial", base)
    write_scores("better", "Spatial", better)
    write_scores("another", "Spatial", random_scores(2))
    found = improvements(tmp_path, ["better", "another"], "base", "official")
    paired, unrelated = (found[name].dimensions["Spatial"] for name in ("better", "another"))
    assert paired.mean == pytest.approx(5)
    assert paired.high - paired.low < 0.7 * (unrelated.high - unrelated.low)


def test_only_examples_that_both_answered_count_and_the_others_are_counted(write_scores, tmp_path):
    write_scores("base", "Spatial", {"a": {0: 10, 1: 20}, "b": {0: 30}})
    write_scores("other", "Spatial", {"a": {1: 25, 2: 0}, "c": {0: 0}})
    write_scores("other", "Complex", {"d": {0: 0}})
    found = improvements(tmp_path, ["other"], "base", "official")["other"]
    (spatial,) = found.dimensions.values()
    assert (spatial.mean, spatial.low) == (5, None)  # one example in common: nothing tells how they vary
    assert found.macro is None
    assert (found.examples, found.unpaired) == (1, 4)


def test_a_model_without_a_common_example_has_no_difference(write_scores, tmp_path):
    write_scores("base", "Spatial", {"a": {0: 10}})
    write_scores("other", "Complex", {"a": {0: 10}})
    assert improvements(tmp_path, ["other"], "base", "official") == {}
