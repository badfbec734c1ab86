#!/usr/bin/env python3
"""Print the tables of docs/evaluation.md: how often intervals hold the true mean, how often tests reject what is equal.

    python scripts/benchmark/coverage.py
    python scripts/benchmark/coverage.py --rounds 200 --examples 40

Scores are drawn with a known mean and given to the functions that every table, figure and report uses. Needs neither
GPU nor weights; the default takes some five minutes on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import configs  # noqa: F401  says what is missing where the environment is not active

# isort: split
import numpy as np

from leap.cli import knob, parse_knobs, run
from leap.plans.measures import MEASURES
from leap.progress import Progress
from leap.statistics import Estimate, holm, paired_p_value
from leap.text import markdown_table
from leap.vlabench.sampling import Sample, sample_of

KINDS = ("right or wrong", "steps of 50", "smooth")
TOP = MEASURES["grounded.total_score"].best
SIGNIFICANT = 0.05
MODELS, DIMENSIONS_OF_TEST = 5, 6
CORRELATION = 0.3  # of the examples of one instruction


@dataclass(frozen=True)
class Options:
    rounds: int = knob(1000, "drawn benchmarks a cell of a table", check="> 0")
    rates: list[float] = knob([0.5, 0.7, 0.9, 0.95, 0.99], "true means, as shares of the top score")
    examples: list[int] = knob([20, 50, 100], "examples of a benchmark")
    a_task: list[int] = knob([1, 2, 5, 20, 100], "examples a task")
    seed: int = knob(0, "seed of all draws")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    rng = np.random.default_rng(options.seed)
    sizes = ", ".join(map(str, options.a_task))
    print(f"Intervals that hold the true mean, in %, and their mean width in points; {options.rounds:,} draws each.")
    print(f"Of tasks of {sizes} examples, as far as a benchmark has room for them, the lowest share is shown.\n")
    print(coverage_table(options, rng))
    print(f"\nWith instructions of five examples each, whose scores correlate by {CORRELATION}:\n")
    print(clustered_table(options, rng))
    print(f"\nShare of tests with p < {SIGNIFICANT} though both models are equally good:\n")
    print(type_one_table(options, rng))
    print("\nIntervals of a difference; the worse model alone is right on half as many examples as the better one.")
    print(
        f"Behind each: in how many % one of two says that the models differ: interval without 0, p < {SIGNIFICANT}.\n"
    )
    print(difference_table(options, np.random.default_rng(options.seed)))


def coverage_table(options: Options, rng: np.random.Generator) -> str:
    """One row a kind of scores and a number of examples, one column a rate."""
    rows = [["scores", "examples", "1 a task", *(f"{rate:.0%}" for rate in options.rates)]]
    cells = list(product(KINDS, options.examples))
    with Progress("coverage", len(cells), "row") as progress:
        for kind, count in cells:
            samples = [sample_with(count, a_task) for a_task in options.a_task if 1 < a_task <= count]
            lone = _coverage(options, rng, sample_with(count, 1), kind, options.rates[0])[1]
            lowest = [min(_coverage(options, rng, each, kind, rate) for each in samples)[1] for rate in options.rates]
            rows.append([kind, str(count), lone, *lowest])
            progress.advance()
    return markdown_table(rows, right_from=1)


def _coverage(options: Options, rng: np.random.Generator, sample: Sample, kind: str, rate: float) -> tuple[float, str]:
    drawn = draw_scores(rng, kind, np.full((options.rounds, len(sample.strata)), rate))
    return _share_and_width([estimate_of(sample, scores) for scores in drawn], TOP * rate)


def clustered_table(options: Options, rng: np.random.Generator) -> str:
    """Intervals that know what was drawn together beside intervals that do not."""
    rows = [["examples", "a task", "intervals", *(f"{rate:.0%}" for rate in options.rates)]]
    for count, a_task in ((40, 20), (50, 10), (100, 20), (100, 50)):
        texts: dict[str, list[str]] = {"clustered": [], "not clustered": []}
        for rate in options.rates:
            drawn = [_clustered_scores(rng, count, rate) for _ in range(options.rounds)]
            for name, sample in (
                ("clustered", sample_with(count, a_task, 5)),
                ("not clustered", sample_with(count, a_task)),
            ):
                texts[name].append(_share_and_width([estimate_of(sample, scores) for scores in drawn], TOP * rate)[1])
        rows += [[str(count), str(a_task), name, *cells] for name, cells in texts.items()]
    return markdown_table(rows)


def _clustered_scores(rng: np.random.Generator, count: int, rate: float) -> np.ndarray:
    """Right or wrong with a rate of its own for each five examples."""
    size = 1 / CORRELATION - 1  # of the beta distribution with that correlation
    rates = rng.beta(rate * size, (1 - rate) * size, count // 5)
    return TOP * (rng.random(count) < np.repeat(rates, 5))


def _share_and_width(estimates: list[Estimate], truth: float) -> tuple[float, str]:
    """The share of intervals that hold the truth, and what the table says of it."""
    bounded = [(e.low, e.high) for e in estimates if e.low is not None and e.high is not None]
    if not bounded:
        return 0.0, "none"
    share = 100 * float(np.mean([low <= truth <= high for low, high in bounded]))
    return share, f"{share:.1f} ({np.mean([high - low for low, high in bounded]):.0f})"


def type_one_table(options: Options, rng: np.random.Generator) -> str:
    """One test, the smallest corrected one of many models and dimensions, and the same without correction."""
    head = ["examples", "one test", "one instruction for five", "the same, flipped one by one"]
    family = f"any of {MODELS} models x {DIMENSIONS_OF_TEST} dimensions"
    rows = [[*head, f"{family}, Holm", f"{family}, uncorrected"]]
    for count in options.examples:
        plain, clustered = sample_with(count, count // 5), sample_with(count, count // 5 * 5, 5)
        p_values: dict[str, list[float]] = {name: [] for name in rows[0][1:]}
        for _ in range(options.rounds):
            base = draw_scores(rng, KINDS[0], np.full(count, 0.7))
            p_values[head[1]].append(paired_p_value(draw_scores(rng, KINDS[0], np.full(count, 0.7)) - base, 999))
            gains = _clustered_scores(rng, count, 0.7) - _clustered_scores(rng, count, 0.7)
            p_values[head[2]].append(paired_p_value(clustered.unit_sums(gains), 999))
            p_values[head[3]].append(paired_p_value(plain.unit_sums(gains), 999))
            drawn = draw_scores(rng, KINDS[0], np.full((MODELS * DIMENSIONS_OF_TEST, 2, count), 0.7))
            many = [paired_p_value(gains, 999) for gains in drawn[:, 1] - drawn[:, 0]]
            p_values[rows[0][4]].append(min(holm(many)))
            p_values[rows[0][5]].append(min(many))
        rows.append([str(count), *(f"{np.mean(np.array(p) < SIGNIFICANT):.1%}" for p in p_values.values())])
    return markdown_table(rows, right_from=0)


def difference_table(options: Options, rng: np.random.Generator) -> str:
    """One row a number of examples, alone or five to an instruction, that gain together or not; one column a share of
    them that only the better model has right."""
    shares = (0.0, 0.02, 0.1, 0.3)
    rows = [["examples", "units", *(f"{share:.0%} alone right" for share in shares)]]
    for count, an_instruction in product(options.examples, (1, 5)):
        sample = sample_with(count, count // 5 * 5, an_instruction)
        texts = []
        for share in shares:
            places = rng.random((options.rounds, count))
            of_units = np.repeat(rng.random((options.rounds, count // an_instruction)), an_instruction, axis=1)
            places = np.where(rng.random(places.shape) < 0.5, places, of_units)
            gains = TOP * ((places < share) * 1.0 - (places > 1 - share / 2))
            estimates = [sample.difference_estimate(row, TOP) for row in gains]
            cell = _share_and_width(estimates, TOP * share / 2)[1]
            texts.append(f"{cell}, {_disagreement(estimates, sample, gains)}")
        rows.append([str(count), str(count // an_instruction), *texts])
    return markdown_table(rows, right_from=0)


def _disagreement(estimates: list[Estimate], sample: Sample, gains: np.ndarray) -> str:
    """Of how many in % interval and test do not say the same of no difference."""
    without_zero = np.array([estimate.ends[0] > 0 or estimate.ends[1] < 0 for estimate in estimates])
    p_values = np.array([paired_p_value(sample.unit_sums(row), 999) for row in gains])
    return f"{100 * np.mean(without_zero != (p_values < SIGNIFICANT)):.0f}"


def sample_with(count: int, a_task: int, an_instruction: int = 1) -> Sample:
    """`count` examples, `a_task` of them in each task and `an_instruction` of those under one instruction."""
    keys = [(f"task{i // a_task:03}", i) for i in range(count)]
    origins = {key: {"template": str(key[1] // an_instruction)} for key in keys}
    return sample_of({"Spatial": keys}, {"Spatial": origins})


def estimate_of(sample: Sample, scores: np.ndarray) -> Estimate:
    """The mean of scores (examples,) as an evaluation has it."""
    return sample.estimates(scores[:, None], np.zeros(1), np.full(1, float(TOP)))[0]


def draw_scores(rng: np.random.Generator, kind: str, rates: np.ndarray) -> np.ndarray:
    """Scores, 0 to TOP, whose means are `rates` times TOP."""
    if kind == KINDS[0]:
        return TOP * (rng.random(rates.shape) < rates)
    if kind == KINDS[1]:  # half of what is not right is half right
        place = rng.random(rates.shape) / (1 - rates)
        return TOP * np.where(place < 0.5, 0, np.where(place < 1.5, 0.5, 1))
    return TOP * rng.beta(4 * rates, 4 * (1 - rates))


if __name__ == "__main__":
    run(main)
