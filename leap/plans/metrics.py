"""How near a generated plan is to a reference plan, without a judge.

Numbered plans are compared step by step on their words, skill lists by VLABench's grounded scores, anything else by
equality. Word overlap does not know what a step does: a wrong object costs one word, a good paraphrase several. Use it
to follow a training run and to compare checkpoints, not to say that a plan works.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from configs.errors import UserError
from leap.plans.cues import finality_of
from leap.plans.measures import validation_key
from leap.plans.reading import FormatError, answer_text, read_tolerant
from leap.plans.scoring import GROUNDED_METRICS, Score, score_against_steps

# A pair below this overlap shares less than half of its words: the matching had nothing better for it, and where it
# stands says nothing about the order of the plan.
MATCH_THRESHOLD = 0.5

# A text is read up to these limits, so that a model that never stops costs no more than a long plan.
MOST_STEPS = 200
MOST_CHARACTERS = 20_000

ARTICLES = frozenset({"a", "an", "the"})

# Full-width digits and ( ) . : as their plain forms, one character for one, so that positions stay.
_PLAIN = {0xFF10 + i: 0x30 + i for i in range(10)} | {0xFF08: "(", 0xFF09: ")", 0xFF0E: ".", 0xFF1A: ":"}

# An aside such as "(slot 2)", which is skipped, or the number of a step: 1)  1.  1:  (1)  Step 1:  and the Chinese
# forms with an enumeration comma (U+3001) or "step" (U+6B65 U+9AA4). No 1.5, no 10:30.
_STEP_NUMBER = re.compile(
    r"(?=[(0-9s\u6b65])(?:"  # what it can begin with: the rest is tried there only
    r"\((?![0-9]{1,3}\))[^()\n]{0,80}\)"
    r"|(?<![A-Za-z0-9_])(?<![0-9][.,:])(?P<word>(?:step|\u6b65\u9aa4)\s{0,3})?"
    r"(?P<open>\()?(?P<number>[0-9]{1,3})\s?(?P<close>\)|[.:\u3001](?![0-9])))",
    re.IGNORECASE,
)
_SENTENCE_ENDS = ".:;!?\n\u3002\uff1b\uff01\uff1f"
_FRONTS = ("", "steps:", "step:", "\u6b65\u9aa4:")

# Ranges of Chinese and Japanese characters, for use inside a character class.
CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{CJK}]|[^\W_{CJK}]+")


@dataclass(frozen=True)
class PlanScores:
    """One answer against its reference.

    `step_precision` and `step_recall` are the summed overlap of the aligned steps over the number of steps of the
    answer and of the reference, `step_f1` their harmonic mean: all 0 to 1. `order_agreement` is Kendall's tau (-1 to
    1) over pairs that overlap by at least MATCH_THRESHOLD, None with fewer than two. `redundancy` is the share of the
    answer's steps that repeat an earlier one (a good plan may repeat too, where its reference does), None without
    steps.
    """

    format_valid: bool
    step_precision: float
    step_recall: float
    step_f1: float
    order_agreement: float | None
    redundancy: float | None
    steps: int
    reference_steps: int


def numbered_steps(text: str) -> list[str]:
    """The steps of a numbered plan without their numbers; [] if the text has none. Steps without a word are left out.

    A step starts at the number after the last step's, in the one style that counts furthest: `1)`, `1.`, `1:`, `(1)`,
    `Step 1:` and their Chinese forms. Unless it is written as `1)`, it must open a line or sentence ("Pick up object 2.
    2. Place it"), or else no second step would be found. What a model thought is not read; of several plans the first
    one counts, unless the words in front tell it for an example or a draft, or a later one for the final plan. Reads
    MOST_CHARACTERS and MOST_STEPS of the answer.
    """
    return _read(text)[0]


def is_numbered_plan(text: str) -> bool:
    """Whether the text is a numbered plan and nothing else: steps 1, 2, 3, ..., none empty or out of turn, and in front
    of them at most `steps:`."""
    return _read(text)[1]


def leading_number(step: str) -> tuple[int | None, str]:
    """The number that a step begins with, in any of the styles of `numbered_steps`, and what follows; None and the step
    if there is none."""
    plain = step[:MOST_CHARACTERS].translate(_PLAIN)
    first = next(iter(_markers(plain)), None)
    if first is None or plain[: first.start].strip():
        return None, step
    return first.number, step[first.end :].strip()


def compare_plans(answer: str, reference: str) -> PlanScores:
    """Compare two numbered plans. An answer without steps scores 0; UserError for such a reference."""
    reference_steps = numbered_steps(reference)
    if not reference_steps:
        raise UserError(
            f'the reference is no numbered plan: {reference!r:.80}. Write it as "1) Pick up ... 2) Put ..."'
        )
    steps, valid = _read(answer)
    return compare_steps(steps, reference_steps, format_valid=valid)


def compare_steps(steps: Sequence[str], reference_steps: Sequence[str], *, format_valid: bool = True) -> PlanScores:
    """Compare an answer's steps with the reference's, of which there must be some."""
    pairs = alignment(steps, reference_steps)
    total = sum(overlap for _, _, overlap in pairs)
    order = [j for _, j, overlap in pairs if overlap >= MATCH_THRESHOLD]
    return PlanScores(
        format_valid=format_valid,
        step_precision=total / len(steps) if steps else 0.0,
        step_recall=total / len(reference_steps),
        step_f1=2 * total / (len(steps) + len(reference_steps)),
        order_agreement=_kendall_tau(order) if len(order) > 1 else None,
        redundancy=repeated_share(steps) if steps else None,
        steps=len(steps),
        reference_steps=len(reference_steps),
    )


def repeated_share(steps: Sequence[str]) -> float:
    """The share of steps that repeat an earlier one, word for word but for case, articles and punctuation."""
    return 1 - len({tuple(_tokens(step)) for step in steps}) / len(steps)


def alignment(answer_steps: Sequence[str], reference_steps: Sequence[str]) -> list[tuple[int, int, float]]:
    """The one-to-one matching of steps with the largest summed overlap; one that keeps the order if any of those does.

    Triples (answer index, reference index, overlap 0 to 1) by answer index; pairs without a common word are left out.
    """
    if not answer_steps or not reference_steps:
        return []
    from scipy.optimize import linear_sum_assignment

    overlaps = _overlaps(answer_steps, reference_steps)
    bonus = np.zeros_like(overlaps)
    for i, j in _best_in_order(overlaps):
        bonus[i, j] = 1e-8  # repeated steps tie; too small to outweigh a word
    chosen = zip(*linear_sum_assignment(overlaps + bonus, maximize=True), strict=True)
    return [(int(i), int(j), float(overlaps[i, j])) for i, j in chosen if overlaps[i, j] > 0]


def ordered_f1(answer_steps: Sequence[str], reference_steps: Sequence[str]) -> float:
    """F1 of steps, 0 to 1, by the one-to-one matching with the largest summed overlap of those that keep the order."""
    overlaps = _overlaps(answer_steps, reference_steps)
    matched = sum(overlaps[i, j] for i, j in _best_in_order(overlaps)) if overlaps.size else 0.0
    return float(2 * matched / (len(answer_steps) + len(reference_steps)))


def summarise(scores: Sequence[PlanScores]) -> dict[str, float | int | None]:
    """Means over rows. `order_agreement` and `redundancy` average the rows that have one (None if none has);
    `order_agreement_rows` counts them. ValueError without rows."""
    if not scores:
        raise ValueError("no scores to average")
    ordered = [score.order_agreement for score in scores if score.order_agreement is not None]
    return {
        "rows": len(scores),
        "format_validity": _mean([score.format_valid for score in scores]),
        "step_precision": _mean([score.step_precision for score in scores]),
        "step_recall": _mean([score.step_recall for score in scores]),
        "step_f1": _mean([score.step_f1 for score in scores]),
        "order_agreement": _mean(ordered),
        "order_agreement_rows": len(ordered),
        "redundancy": _mean([score.redundancy for score in scores if score.redundancy is not None]),
        "steps": _mean([score.steps for score in scores]),
        "reference_steps": _mean([score.reference_steps for score in scores]),
    }


def compare_skills(answer: str, reference: str) -> Score:
    """The grounded score of a skill list (0 to 100 by metric; zeros with status format_error if the answer has none).

    The order counts, also for VLABench's two tasks without one, which a row does not name. Raises FormatError if the
    reference holds no skill list.
    """
    return score_against_steps(answer, read_tolerant(reference), order_independent=False)


def score_answers(pairs: Sequence[tuple[str, str]]) -> dict[str, float | int | None]:
    """Mean scores of (answer, reference) pairs, by what the reference is; a kind without rows has no keys.

    `plan_*`: a numbered plan, keys as in `summarise`, 0 to 1. `grounded_*`: a skill list, 0 to 100 as in the evaluation
    (`grounded_format_validity` 0 to 1). `other_*`: any other text, `other_exact_match` 0 to 1, white space aside.
    """
    plans, skills, others = [], [], []
    for answer, reference in pairs:
        try:
            skills.append(compare_skills(answer, reference))
        except FormatError:
            if numbered_steps(reference):
                plans.append(compare_plans(answer, reference))
            else:
                others.append(answer.split() == reference.split())
    means: dict[str, float | int | None] = {}
    if plans:
        means |= {f"plan_{key}": value for key, value in summarise(plans).items()}
    if skills:
        means |= {"grounded_rows": len(skills)}
        means |= {"grounded_format_validity": _mean([score.status == "ok" for score in skills])}
        for metric in GROUNDED_METRICS:
            means[validation_key(metric)] = _mean([score.scores[metric] for score in skills])
    if others:
        means |= {"other_rows": len(others), "other_exact_match": _mean(others)}
    return means


class StepNumber(NamedTuple):
    """The number of a step: where it stands, how it is written, and whether it can be nothing else."""

    number: int
    start: int
    end: int
    style: str
    firm: bool


def _read(text: str) -> tuple[list[str], bool]:
    """(steps, whether the text is a numbered plan and nothing else).

    A number in a text may be a step's, or a count, a slot, an amount. Hence:
    1. find all that look like a step's number (`_markers`), each in its style; those that open a line or sentence are
       firm;
    2. for each style, follow the firm ones that count up from 1 (`_chain`), and take the style that counts furthest;
    3. if that leaves one step, its plan may stand in a line ("1. Pick 2. Place"): take numbers that are not firm too,
       unless a step without a word shows that they were no steps.
    """
    text = answer_text(text)[:MOST_CHARACTERS]
    plain = text.translate(_PLAIN)
    markers = _markers(plain)
    markers = markers[_start_of_final_plan(plain, markers) :]
    styles = {marker.style: None for marker in markers}  # in the order in which they occur
    chain = max((_chain(markers, style) for style in styles), key=len, default=[])
    if not chain:
        return [], False
    steps = _between(text, chain)
    if len(chain) == 1:
        loose = _chain(markers[markers.index(chain[0]) :], chain[0].style, only_firm=False)
        if all(map(_tokens, _between(text, loose))):
            chain, steps = loose, _between(text, loose)
    in_turn = set(chain)
    worded = [step for step in steps if _tokens(step)]
    valid = (
        len(worded) == len(steps)
        and "".join(plain[: chain[0].start].lower().split()) in _FRONTS
        and all(marker in in_turn for marker in markers if marker.firm and marker.style == chain[0].style)
    )
    return worded[:MOST_STEPS], valid


def _start_of_final_plan(plain: str, markers: Sequence[StepNumber]) -> int:
    """The index of the marker with which the final one of several plans begins; 0 if there is one plan."""
    openings = [i for i, marker in enumerate(markers) if marker.number == 1 and marker.firm]
    if len(openings) < 2 or len({markers[i].style for i in openings}) > 1:
        return 0
    ends = [0, *(markers[i].end for i in openings)]
    ranks = [finality_of(plain[end : markers[i].start]) for end, i in zip(ends, openings, strict=False)]
    best = ranks.index(max(ranks))
    return openings[best] if best else 0


def _markers(plain: str) -> list[StepNumber]:
    numbers = []
    for match in _STEP_NUMBER.finditer(plain):
        if match["number"] is None:
            continue
        style = "step" if match["word"] else (match["open"] or "") + match["close"]
        text_in_front = plain[max(0, match.start() - 20) : match.start()].rstrip(" \t\u3000*#-")
        firm = style in (")", "\u3001") or not text_in_front or text_in_front[-1] in _SENTENCE_ENDS
        numbers.append(StepNumber(int(match["number"]), *match.span(), style, firm))
    return numbers


def _chain(markers: list[StepNumber], style: str, *, only_firm: bool = True) -> list[StepNumber]:
    """The markers of one style that count up from 1."""
    chain: list[StepNumber] = []
    for marker in markers:
        if marker.style == style and marker.number == len(chain) + 1 and (marker.firm or not only_firm):
            chain.append(marker)
    return chain


def _between(text: str, chain: list[StepNumber]) -> list[str]:
    ends = [marker.start for marker in chain[1:]] + [len(text)]
    return [text[marker.end : end].strip() for marker, end in zip(chain, ends, strict=True)]


def _tokens(step: str) -> list[str]:
    """Lower-case words without punctuation and articles; a Chinese or Japanese character is a word."""
    return [token for token in _TOKEN.findall(unicodedata.normalize("NFKC", step).lower()) if token not in ARTICLES]


def _overlaps(answer_steps: Sequence[str], reference_steps: Sequence[str]) -> np.ndarray:
    """The overlap of every two steps, 0 to 1.  # (answer steps, reference steps)"""
    answers, references = ([Counter(_tokens(step)) for step in steps] for steps in (answer_steps, reference_steps))
    return np.array([[_overlap(a, b) for b in references] for a in answers])


def _overlap(a: Counter[str], b: Counter[str]) -> float:
    """F1 of two bags of words, 0 to 1."""
    size = a.total() + b.total()
    return 2 * (a & b).total() / size if size else 0.0


def _best_in_order(overlaps: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of the order-preserving matching with the largest summed overlap, last first.

    Dynamic programming as for a longest common subsequence, with the overlap of a pair in place of 1.
    """
    i, j = overlaps.shape
    best = [[0.0] * (j + 1) for _ in range(i + 1)]  # by the number of steps of the answer and of the reference seen
    for a, row in enumerate(overlaps.tolist()):
        for b, overlap in enumerate(row):
            best[a + 1][b + 1] = max(best[a][b + 1], best[a + 1][b], best[a][b] + overlap)
    pairs = []
    while i and j:
        if best[i][j] == best[i - 1][j]:
            i -= 1
        elif best[i][j] == best[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs


def _kendall_tau(order: list[int]) -> float:
    """Kendall's tau of a sequence without ties (the matching is one to one, so tau-b is tau-a) against its sorting."""
    pairs = list(combinations(order, 2))
    return 1 - 2 * sum(a > b for a, b in pairs) / len(pairs)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
