import numpy as np
import pytest
from scipy.stats import binomtest

from leap.statistics import (
    Estimate,
    bounded_means,
    estimate_of_few,
    holm,
    over_seeds,
    paired_p_value,
    times_drawn,
)


def estimate(tasks, units=None, lowest=0, highest=100, weights=None):
    """Of the values of each task; `units` number them in the same form."""
    values = np.concatenate([np.asarray(task, float) for task in tasks])
    strata = np.repeat(np.arange(len(tasks)), list(map(len, tasks)))
    units = np.arange(len(values)) if units is None else np.concatenate(units)
    bounds = np.array([lowest], float), np.array([highest], float)
    return bounded_means(values[:, None], strata, units, *bounds, weights)[0]


def test_an_interval_is_the_same_whatever_was_computed_before():
    few, many = [np.arange(20.0)], [np.arange(50.0)]
    first = estimate(few)
    estimate(many)
    assert estimate(few) == first


def width(interval):
    return interval.high - interval.low


def test_the_mean_is_that_of_all_examples():
    assert estimate([[0, 100], [50, 70]]).mean == 55


@pytest.mark.parametrize(("right", "n"), [(40, 40), (0, 40), (39, 40), (57, 100), (1, 20)])
def test_the_interval_of_a_rate_is_that_of_clopper_and_pearson(right, n):
    values = [100] * right + [0] * (n - right)
    theirs = binomtest(right, n).proportion_ci(0.95, "exact")
    for tasks in ([values], [values[: n // 2], values[n // 2 :]]):
        interval = estimate(tasks)
        assert (interval.low, interval.high) == pytest.approx((100 * theirs.low, 100 * theirs.high))


def test_forty_of_forty_is_91_to_100_on_any_scale():
    assert estimate([[100] * 40]).text() == "100.0 (91.2 to 100.0)"
    assert estimate([[80] * 20, [80] * 20], highest=80).text() == "80.0 (73.0 to 80.0)"


def test_the_drawn_interval_of_a_rate_is_nearly_the_exact_one():
    for right in (10, 38, 40):
        values = [100.0] * right + [0.0] * (40 - right)
        exact = estimate([values])
        # Weights that differ by nothing but rounding keep the exact formula from being taken.
        drawn = estimate([values], weights=np.linspace(1, 1 + 1e-9, 40))
        assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=1.2)


def test_the_interval_agrees_with_the_normal_one_for_many_examples():
    values = np.random.default_rng(1).uniform(20, 80, 1000)
    interval = estimate([values])
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.low == pytest.approx(interval.mean - half, abs=0.2)
    assert interval.high == pytest.approx(interval.mean + half, abs=0.2)


def test_differences_between_tasks_do_not_widen_the_interval():
    rng = np.random.default_rng(2)
    bad, good = rng.uniform(0, 30, 50), rng.uniform(60, 90, 50)
    assert width(estimate([bad, good])) < 0.5 * width(estimate([[*bad, *good]]))


def test_one_example_a_task_gives_no_interval_and_says_so():
    interval = estimate([[100], [0], [50]])
    assert interval == Estimate(50, None, None)
    assert interval.text() == "50.0 (no interval)"
    assert interval.ends == (50, 50)


def test_tasks_of_one_example_are_taken_as_one_task_beside_others():
    several = list(np.random.default_rng(3).uniform(0, 100, 10))
    lone = estimate([several, [0], [100], [0], [100]])
    assert lone == estimate([several, [0, 100, 0, 100]])
    assert estimate([several, [0]]) == estimate([[*several, 0]])


def test_examples_of_a_unit_count_as_one_observation():
    values = np.repeat(np.random.default_rng(4).uniform(0, 100, 10), 5)
    units = np.repeat(np.arange(10), 5)
    assert vars(estimate([values], [units])) == pytest.approx(vars(estimate([values[::5]])))
    assert width(estimate([values], [units])) > 2 * width(estimate([values]))
    # Ten units that are all right are ten observations.
    all_right = estimate([np.full(50, 100)], [units])
    assert all_right.low == pytest.approx(100 * binomtest(10, 10).proportion_ci(0.95, "exact").low, abs=2)


def test_the_unseen_unit_is_at_the_bound_only_where_all_units_agree():
    """Eight instructions in two tasks: by Gaffke, the unseen unit always at the bound, 41 to 82."""
    tasks = [[62, 66, 66, 70], [67, 72, 73, 75]]
    interval = estimate(tasks)
    assert 54 < interval.low < 64 < 73 < interval.high < 77
    # One point of disagreement still leaves a third of the way to the bound.
    nearly, agreed = estimate([[70] * 39 + [71]]), estimate([[70] * 40])
    assert nearly.low == pytest.approx(70 - 70 * 0.088 / 3, abs=0.6)
    assert agreed.low == pytest.approx(70 - 70 * 0.088, abs=0.6)
    assert agreed.high == pytest.approx(70 + 30 * 0.088, abs=0.6)


@pytest.mark.parametrize("gains", [[30, 20, 45, 38, 25, 33, 41], [18, 13, 21, 15, 16, 14, 17, 19, 15, 16]])
def test_an_interval_leaves_out_zero_where_every_unit_gains_and_the_test_says_so(gains):
    assert paired_p_value(gains) < 0.05
    assert estimate([gains], lowest=-100).low > 0


def test_no_interval_leaves_what_values_can_be():
    interval = estimate([[80, 0], [80, 80], [80, 80]], highest=80)
    assert 0 <= interval.low < interval.mean < interval.high <= 80


def test_weights_are_those_of_the_mean():
    weights = np.array([1.0, 1, 1, 1, 0.1, 0.1, 0.1, 0.1])
    interval = estimate([[0, 10, 0, 10], [90, 100, 90, 100]], weights=weights)
    assert interval.mean == pytest.approx((4 * 5 + 0.4 * 95) / 4.4)
    assert interval.low < interval.mean < interval.high


def test_the_same_values_give_the_same_interval():
    tasks = [[0, 10, 70, 33, 21.5, 8], [3, 4, 9.25]]
    assert estimate(tasks) == estimate(tasks)


@pytest.mark.parametrize(("rate", "n", "tasks"), [(0.5, 20, 10), (0.9, 20, 4), (0.95, 50, 5), (0.99, 100, 1)])
def test_intervals_of_scores_hold_what_they_promise(rate, n, tasks):
    """docs/evaluation.md has the whole table, by scripts/benchmark/coverage.py."""
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        # Half of what is wrong is half wrong, so that the mean is the rate.
        scores = rng.choice([0, 50, 100], n, p=[(1 - rate) / 2, 1 - rate, 1.5 * rate - 0.5])
        interval = estimate(np.split(scores, tasks))
        covered += interval.low <= 100 * rate <= interval.high
    assert covered / 300 > 0.93


def test_nothing_to_average_is_an_error_not_a_zero():
    with pytest.raises(ValueError, match="no values"):
        bounded_means(np.zeros((0, 1)), *np.zeros((2, 0), int), np.zeros(1), np.ones(1))


def test_an_interval_over_seeds_is_student_t_and_needs_two():
    assert over_seeds([2.0, 2.0, 2.0]) == Estimate(2.0, 2.0, 2.0)
    # The table's t(0.975, 2) is 4.303, the standard deviation 1.
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    with pytest.raises(ValueError, match="two at least"):
        over_seeds([1.0])


def test_a_paired_test_of_few_examples_is_exact():
    assert paired_p_value([1, 1, 1, 1, 1]) == 2 / 32
    # Of the 8 sign patterns of 1, 2, 4 the sums +-7 and +-5 reach the 5 of [-1, 2, 4].
    assert paired_p_value([-1, 2, 4]) == 4 / 8
    assert paired_p_value([3.0]) == 1
    assert paired_p_value([1, -1]) == 1


def test_ties_change_nothing_and_no_difference_at_all_is_p_1():
    assert paired_p_value([0, 1, 0, 1, 1, 0, 1, 1]) == paired_p_value([1, 1, 1, 1, 1])
    assert paired_p_value([0.0] * 50) == 1
    with pytest.raises(ValueError, match="nothing to compare"):
        paired_p_value([])


def test_the_paired_test_is_that_of_scipy():
    from scipy.stats import permutation_test

    rng = np.random.default_rng(5)
    for n in (4, 8, 12, 40):
        values = rng.normal(0.3, 1, n).round(1)
        found = permutation_test(
            (values,), np.sum, permutation_type="samples", n_resamples=4999, vectorized=False, random_state=1
        )
        assert paired_p_value(values) == pytest.approx(found.pvalue, abs=1e-9 if n < 13 else 0.03)


def test_rounding_breaks_no_ties():
    assert paired_p_value([0.1, 0.2, -0.3]) == 1
    assert paired_p_value([100 / 3] * 5) == 2 / 32


def test_p_values_of_a_null_effect_are_uniform():
    rng = np.random.default_rng(7)
    p_values = np.sort([paired_p_value(rng.normal(0, 1, 30), permutations=999, seed=i) for i in range(400)])
    uniform = (np.arange(400) + 0.5) / 400
    assert np.abs(p_values - uniform).max() < 1.63 / 400**0.5  # Kolmogorov-Smirnov at 1 %
    assert np.mean(p_values < 0.05) == pytest.approx(0.05, abs=0.03)


def test_a_paired_test_is_seeded_and_never_says_0():
    values = np.random.default_rng(0).normal(0.1, 1, 200)
    assert paired_p_value(values, seed=1) == paired_p_value(values, seed=1) != paired_p_value(values, seed=2)
    assert paired_p_value(np.ones(500)) == 1 / 10000


def test_holm_gives_the_values_of_the_textbook():
    # 4 x 0.005, 3 x 0.01, then 2 x 0.03, which the last, 0.04, may not undercut.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def bootstrap(values, resamples=2000, seed=0):
    """Of the mean: (resamples,)."""
    return times_drawn(np.random.default_rng(seed), resamples, len(values)) @ values / len(values)


def few(values, **options):
    return estimate_of_few(np.mean(values), bootstrap(np.asarray(values, float), **options), len(values))


def test_a_resample_draws_as_many_as_there_are():
    drawn = times_drawn(np.random.default_rng(0), 500, 7)
    assert set(drawn.sum(axis=1)) == {7}
    assert drawn.mean(axis=0) == pytest.approx(np.ones(7), abs=0.15)


def test_intervals_of_few_items_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(3)
    covered = {"few": 0, "plain": 0}
    for i in range(800):
        values = rng.normal(0.3, 1, 10)
        interval = few(values, resamples=800, seed=i)
        low, high = np.percentile(bootstrap(values, 800, i), [2.5, 97.5])
        covered["few"] += interval.low <= 0.3 <= interval.high
        covered["plain"] += low <= 0.3 <= high
    assert 0.925 <= covered["few"] / 800 <= 0.975
    assert covered["plain"] / 800 < 0.925


def test_the_interval_of_many_items_is_the_percentile_one():
    values = np.random.default_rng(4).normal(0, 1, 2000)
    assert few(values).ends == pytest.approx(np.percentile(bootstrap(values), [2.5, 97.5]), abs=1e-3)


def test_a_bound_that_is_zero_but_for_rounding_is_zero():
    assert 0.1 + 0.2 - 0.3 > 0
    assert few([0.1 + 0.2 - 0.3] * 4).low == 0


def test_a_single_item_bounds_nothing():
    found = few([2.5])
    assert found == Estimate(2.5, -np.inf, np.inf)
    assert found.within(1, 5) == Estimate(2.5, 1, 5)
