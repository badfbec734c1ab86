import numpy as np
import pytest

from leap.statistics import Estimate, estimates, over_seeds, stratified_means


def interval(strata, **options):
    return estimates(*stratified_means([np.asarray(s, float).reshape(-1, 1) for s in strata], **options))[0]


def test_the_mean_is_that_of_all_examples():
    assert interval([[0, 100], [50]]).mean == 50


def test_the_interval_agrees_with_the_normal_one_for_many_examples():
    values = np.random.default_rng(1).binomial(1, 0.3, 1000) * 100.0
    found = interval([values], resamples=4000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.low == pytest.approx(found.mean - half, abs=0.35)
    assert found.high == pytest.approx(found.mean + half, abs=0.35)


def test_differences_between_tasks_do_not_widen_the_interval():
    assert interval([[0] * 50, [100] * 50]) == interval([[0] * 50, [100] * 50], seed=9)
    assert interval([[0] * 50, [100] * 50]).low == 50


def test_the_same_seed_gives_the_same_interval():
    strata = [[0, 10, 70, 33, 21.5, 8], [3, 4, 9.25]]
    assert interval(strata, seed=3) == interval(strata, seed=3) != interval(strata, seed=4)


def test_nothing_to_average_is_an_error_not_a_zero():
    with pytest.raises(ValueError, match="no values"):
        stratified_means([])


def test_an_interval_over_seeds_is_student_t_and_needs_two():
    assert over_seeds([2.0, 2.0, 2.0]) == Estimate(2.0, 2.0, 2.0)
    # The table's t(0.975, 2) is 4.303, the standard deviation 1.
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    with pytest.raises(ValueError, match="two at least"):
        over_seeds([1.0])
