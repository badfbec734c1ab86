import json

import numpy as np
import pytest

from configs.config import DIMENSIONS
from leap.statistics import Estimate, estimates, stratified_means
from leap.vlabench.paired import differences_from


@pytest.fixture
def write(tmp_path):
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


def paired(a, b, seed):
    """By hand: the bootstrap of the differences of the same examples, stratified by task."""
    strata = []
    for task in a:
        numbers = sorted(set(a[task]) & set(b[task]), key=str)
        strata.append(np.array([[a[task][n] - b[task][n]] for n in numbers]))
    return stratified_means(strata, seed=seed)


def test_a_difference_is_the_paired_bootstrap_stratified_by_task(write, tmp_path):
    scores = {(model, d): random_scores(10 * i + model) for model in range(3) for i, d in enumerate(DIMENSIONS)}
    for (model, dimension), of in scores.items():
        write(str(model), dimension, of)
    found = differences_from(tmp_path, ["0", "1", "2"], "0", "official")
    assert list(found) == ["1", "2"]
    for model in (1, 2):
        by_hand = [paired(scores[model, d], scores[0, d], i) for i, d in enumerate(DIMENSIONS)]
        for dimension, of in zip(DIMENSIONS, by_hand, strict=True):
            ours, theirs = found[str(model)].dimensions[dimension], estimates(*of)[0]
            assert vars(ours) == pytest.approx(vars(theirs))
        means, draws = zip(*by_hand, strict=True)
        macro = estimates(np.mean(means, axis=0), np.mean(draws, axis=0))[0]
        assert vars(found[str(model)].macro) == pytest.approx(vars(macro))
        assert (found[str(model)].examples, found[str(model)].unpaired) == (6 * 42, 0)


def test_pairing_takes_out_what_makes_examples_differ(write, tmp_path):
    base = random_scores(1)
    better = {task: {n: score + 5 for n, score in of.items()} for task, of in base.items()}
    write("base", "Spatial", base)
    write("better", "Spatial", better)
    found = differences_from(tmp_path, ["better"], "base", "official")["better"]
    assert vars(found.dimensions["Spatial"]) == pytest.approx(vars(Estimate(5, 5, 5)))


def test_only_examples_that_both_answered_count_and_the_others_are_counted(write, tmp_path):
    write("base", "Spatial", {"a": {0: 10, 1: 20}, "b": {0: 30}})
    write("other", "Spatial", {"a": {1: 25, 2: 0}, "c": {0: 0}})
    write("other", "Complex", {"d": {0: 0}})
    found = differences_from(tmp_path, ["other"], "base", "official")["other"]
    assert found.dimensions == {"Spatial": Estimate(5, 5, 5)}
    assert found.macro is None
    assert (found.examples, found.unpaired) == (1, 4)


def test_a_model_without_a_common_example_has_no_difference(write, tmp_path):
    write("base", "Spatial", {"a": {0: 10}})
    write("other", "Complex", {"a": {0: 10}})
    assert differences_from(tmp_path, ["other"], "base", "official") == {}
