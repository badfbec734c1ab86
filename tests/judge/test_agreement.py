import numpy as np
import pytest
from scipy.stats import spearmanr

from leap.judge.agreement import flip_rate, krippendorff_alpha, pair_verdict, quadratic_kappa, spearman

N = np.nan

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
)


@pytest.mark.parametrize(("metric", "alpha"), [("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_the_published_one(metric, alpha):
    assert krippendorff_alpha(PUBLISHED, metric) == pytest.approx(alpha, abs=0.0005)


def alpha_by_pairs(ratings: np.ndarray, metric: str) -> float:
    """The definition: observed over expected disagreement, pair by pair, with the distances as Krippendorff writes them
    (the package krippendorff 0.9.0 gives the same)."""
    units = [unit[~np.isnan(unit)] for unit in ratings.T]
    units = [unit for unit in units if len(unit) > 1]
    everything = np.concatenate(units)

    def distance(a: float, b: float) -> float:
        if metric == "interval":
            return (a - b) ** 2
        low, high = min(a, b), max(a, b)
        between = np.sum((everything >= low) & (everything <= high))
        return (between - (np.sum(everything == low) + np.sum(everything == high)) / 2) ** 2 if a != b else 0.0

    observed = sum(sum(distance(a, b) for a in unit for b in unit) / (len(unit) - 1) for unit in units)
    expected = sum(distance(a, b) for a in everything for b in everything) / (len(everything) - 1)
    return 1 - observed / expected


@pytest.mark.parametrize("metric", ["ordinal", "interval"])
def test_alpha_is_that_of_its_definition_with_missing_and_fractional_ratings(metric):
    rng = np.random.default_rng(0)
    for _ in range(20):
        ratings = rng.integers(4, 21, (3, 12)) / 4
        ratings[rng.random(ratings.shape) < 0.3] = N
        assert krippendorff_alpha(ratings, metric) == pytest.approx(alpha_by_pairs(ratings, metric), abs=1e-12)


def test_alpha_is_1_for_equal_ratings_about_0_for_random_ones_and_below_0_for_opposite_ones():
    same = np.tile([1.0, 2, 3, 4, 5], (3, 1))
    assert krippendorff_alpha(same) == 1
    noise = np.random.default_rng(1).integers(1, 6, (2, 4000)).astype(float)
    assert abs(krippendorff_alpha(noise)) < 0.04
    assert krippendorff_alpha(np.array([[1.0, 5, 1, 5], [5, 1, 5, 1]])) < 0


@pytest.mark.parametrize(
    "ratings",
    [[[3, 3, 3], [3, 3, 3]], [[1, 2, 3]], [[1, N, 3], [N, 2, N]], [[N, N]], [[1, N, 3], [1, 5, N]]],
    ids=["all equal", "one rater", "no unit twice", "nothing", "all pairable equal"],
)
def test_alpha_is_none_where_it_is_not_defined(ratings):
    for metric in ("ordinal", "interval"):
        assert krippendorff_alpha(np.array(ratings, dtype=float), metric) is None


def test_an_unknown_metric_is_an_error():
    with pytest.raises(ValueError, match="nominal"):
        krippendorff_alpha(PUBLISHED, "nominal")


def test_kappa_is_that_computed_by_hand():
    # Squared distances 0, 1, 0, 4: mean 5/4. By chance, over the 4 x 4 pairs of (1, 2, 3, 5) and (1, 3, 3, 3):
    # 0 + 3*4, 1 + 3*1, 4 + 0, 16 + 3*4 = 48, mean 48/16 = 3.
    assert quadratic_kappa([1, 2, 3, 5], [1, 3, 3, 3]) == pytest.approx(1 - 1.25 / 3)


def test_kappa_rounds_half_up_so_that_no_score_is_rounded_to_an_even_one():
    assert quadratic_kappa([1.5, 2.5, 4.49], [2, 3, 4]) == 1
    assert quadratic_kappa([1.49, 4.5], [1, 5]) == 1


def test_kappa_counts_a_shift_as_disagreement_which_a_rank_correlation_does_not():
    a, b = [1, 2, 3, 4] * 3, [2, 3, 4, 5] * 3
    assert quadratic_kappa(a, b) < 1
    assert spearman(a, b, range(12)).mean == pytest.approx(1)


def test_kappa_is_none_where_it_is_not_defined_and_0_where_one_side_is_constant():
    assert quadratic_kappa([], []) is None
    assert quadratic_kappa([3, 3, 3], [3, 3, 3]) is None
    assert quadratic_kappa([3, 3, 3], [1, 3, 5]) == 0


def test_a_score_off_the_scale_is_an_error():
    with pytest.raises(ValueError, match="outside 1 to 5"):
        quadratic_kappa([0.4, 3], [1, 3])


def test_the_rank_correlation_is_that_of_scipy_with_ties():
    rng = np.random.default_rng(2)
    for _ in range(10):
        a, b = rng.integers(1, 6, (2, 40))
        assert spearman(a, b, range(40), resamples=20).mean == pytest.approx(spearmanr(a, b).statistic)


def test_the_interval_of_the_rank_correlation_is_that_of_resampled_items():
    rng = np.random.default_rng(3)
    items = np.repeat(np.arange(12), 4)
    a = rng.normal(size=12)[items] + rng.normal(size=48)
    b = a + rng.normal(size=48)
    drawn = []
    for _ in range(3000):
        chosen = np.concatenate([np.flatnonzero(items == item) for item in rng.integers(12, size=12)])
        drawn.append(spearmanr(a[chosen], b[chosen]).statistic)
    found = spearman(a, b, items)
    low, high = np.percentile(drawn, [0.96, 99.04])  # t(0.975, 11) of 12 items as a percentile
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.04)


def test_plans_of_one_item_count_as_one_draw_so_that_copies_add_no_certainty():
    rng = np.random.default_rng(4)
    a = rng.normal(size=20)
    b = a + rng.normal(size=20)
    once = spearman(a, b, range(20))
    copied = spearman(np.tile(a, 5), np.tile(b, 5), np.tile(np.arange(20), 5))
    as_if_new = spearman(np.tile(a, 5), np.tile(b, 5), range(100))
    assert copied.high - copied.low == pytest.approx(once.high - once.low, abs=0.03)
    assert as_if_new.high - as_if_new.low < 0.6 * (once.high - once.low)


def test_a_rank_correlation_is_none_where_it_is_not_defined():
    assert spearman([], [], []) is None
    assert spearman([1, 5], [2, 4], [0, 1]) is None
    assert spearman([3, 3, 3, 3], [1, 2, 3, 4], range(4)) is None


def test_a_single_item_leaves_the_rank_correlation_unbounded():
    found = spearman([1, 2, 3], [1, 3, 2], [0, 0, 0])
    assert (found.mean, found.low, found.high) == (0.5, -1, 1)


def test_a_side_wins_only_where_both_orders_name_it():
    sides = ("model", "base", "tie")
    table = {(a, b): pair_verdict(a, b) for a in sides for b in sides}
    assert {pair for pair, outcome in table.items() if outcome != "tie"} == {("model", "model"), ("base", "base")}


def test_a_flip_is_a_contradiction_and_a_tie_in_one_order_is_none():
    assert flip_rate([("model", "base"), ("base", "model")]) == 1
    assert flip_rate([("model", "tie"), ("tie", "base"), ("tie", "tie"), ("model", "model")]) == 0
    assert flip_rate([("model", "base"), ("model", "model"), ("tie", "base"), ("tie", "tie")]) == 0.25
    assert flip_rate([]) is None
