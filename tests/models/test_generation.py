"""Drawing tokens: the right distribution, by a seed of its own for each row."""

import pytest
import torch
from scipy.stats import chisquare

from leap.models.generation import DrawnTokens, Sampling

DRAWS = 4000
LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, float("-inf")])


def draws(sampling: Sampling, logits: torch.Tensor = LOGITS, steps: int = 1, seeds=range(DRAWS)) -> torch.Tensor:
    """A token a step and seed, all from the same logits: (seeds, steps)."""
    drawn = DrawnTokens(sampling, seeds)
    rows = logits.expand(len(seeds), -1)
    tokens = [drawn(torch.empty(len(seeds), 0), rows).argmax(dim=-1) for _ in range(steps)]
    return torch.stack(tokens, dim=1)


def counts(tokens: torch.Tensor) -> list[int]:
    return torch.bincount(tokens.flatten(), minlength=len(LOGITS)).tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_the_softmax_at_this_temperature_says(temperature):
    found = counts(draws(Sampling(temperature)))
    expected = torch.softmax(LOGITS.double() / temperature, dim=-1)[:4] * DRAWS
    assert found[4] == 0
    assert chisquare(found[:4], expected).pvalue > 0.001


def test_the_steps_of_a_row_are_independent_draws():
    tokens = draws(Sampling(1.0), steps=2)
    shares = torch.softmax(LOGITS.double(), dim=-1)[:4]
    pairs = torch.bincount(tokens[:, 0] * 4 + tokens[:, 1], minlength=16)
    assert chisquare(pairs, torch.outer(shares, shares).flatten() * DRAWS).pvalue > 0.001


def test_top_p_keeps_the_fewest_likeliest_tokens_that_make_it_up():
    # The shares are 0.644, 0.237, 0.087 and 0.032.
    for top_p, kept in ((0.6, 1), (0.7, 2), (0.9, 3), (0.98, 4), (1.0, 4)):
        found = counts(draws(Sampling(1.0, top_p)))
        assert [count > 0 for count in found] == [place < kept for place in range(5)], top_p
        shares = torch.softmax(LOGITS[:kept].double(), dim=-1)
        assert kept == 1 or chisquare(found[:kept], shares * DRAWS).pvalue > 0.001


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-300])
def test_a_temperature_near_zero_is_greedy(temperature):
    assert counts(draws(Sampling(temperature), seeds=range(50))) == [50, 0, 0, 0, 0]


def test_a_high_temperature_is_even_over_what_is_possible():
    found = counts(draws(Sampling(1e6)))
    assert chisquare(found[:4]).pvalue > 0.001
    assert found[4] == 0


def test_a_rows_draws_follow_from_its_seed_whatever_rows_stand_beside_it():
    together = draws(Sampling(1.0), steps=20, seeds=[7, 8, 9])
    assert draws(Sampling(1.0), steps=20, seeds=[9, 7]).equal(together[[2, 0]])
    assert draws(Sampling(1.0), steps=20, seeds=[8]).equal(together[[1]])
    assert not together[0].equal(together[1])


def test_a_batch_of_another_size_than_its_seeds_is_refused():
    with pytest.raises(ValueError, match="2 rows, but 1 seeds"):
        DrawnTokens(Sampling(1.0), [1])(torch.empty(2, 0), LOGITS.expand(2, -1))
