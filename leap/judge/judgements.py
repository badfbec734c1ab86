"""What judges said: judgements.jsonl, one line a judgement, the same for a language model, the reference judge and
people.

    {"judge": "gpt-4o-mini", "protocol": "rubric", "model": "checkpoint-200", "sample": 0, "repeat": 0,
     "scores": {"completeness": 4, "logical_sequence": 5, "hallucination_redundancy": 3, "granularity": 4},
     "reasoning": "...", "failure": null, ...}
    {"judge": "gpt-4o-mini", "protocol": "pairwise", "model": "checkpoint-200", "sample": 0, "repeat": 0,
     "base": "baseline", "model_first": true, "verdict": "model", "reasoning": "...", "failure": null, ...}

and judgements.csv of all judges, with the columns of the original LEAP first.

A judgement that failed holds neither scores nor verdict, but the reason in `failure`; it is counted and never a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import numbered_jsonl, write_csv

# The four scales of the original LEAP, 1 (worst) to 5 (best); the final score is their mean.
SCALES = ("completeness", "logical_sequence", "hallucination_redundancy", "granularity")
FINAL = "final_score"
LOWEST, HIGHEST = 1, 5

RUBRIC, PAIRWISE = "rubric", "pairwise"
VERDICTS = ("model", "base", "tie")

# Plans that no model wrote (leap/judge/controls.py). A judge that does not put them at the bottom is unfit.
EMPTY_CONTROL, INSTRUCTIONS_CONTROL = "control:empty", "control:instructions"
OTHER_ROW_CONTROL, WRONG_OBJECTS_CONTROL = "control:other_row", "control:wrong_objects"
WRONG_PLANS = (OTHER_ROW_CONTROL, WRONG_OBJECTS_CONTROL)  # these look like plans
CONTROLS = (EMPTY_CONTROL, INSTRUCTIONS_CONTROL, *WRONG_PLANS)

REFERENCE_JUDGE = "reference"
# The judges that are programs, name -> module. Each has `scores_of(plan, reference) -> {scale of SCALES: 1.0 to 5.0}`.
# The reference judge stands beside every other one.
PROGRAMS = {REFERENCE_JUDGE: "leap.judge.reference"}
PEOPLE = "people"  # ratings by people, leap/judge/ratings.py; `repeat` numbers the raters

JUDGEMENTS_FILE = "judgements.jsonl"
JUDGES_FOLDER = "judges"  # eva_results/blind_10/judges/<judge>/

_ORIGINAL_COLUMNS = ("model_name", "sample_idx", "judge_raw", *SCALES, FINAL)
CSV_COLUMNS = (*_ORIGINAL_COLUMNS, "judge", "protocol", "repeat", "base", "model_first", "verdict", "failure")

ReviewSummary = Mapping[str, Any]  # a review's summary.json, in the form of leap/judge/summary.py


@dataclass(frozen=True)
class Judgement:
    """One judge's word on one plan (rubric) or on one plan beside the base's (pairwise).

    `scores` by scale, 1 to 5 (fractions from the reference judge); `verdict` is one of VERDICTS. `judged` is the hash
    of row and plan (leap/judge/judged.py), `pictures` are those of the pictures shown (None: the judge looks at none).
    `request` names the request that brought it in the journal of requests, `asks` counts the replies to it, `notes` say
    what the judge could not be shown.
    """

    judge: str
    protocol: str
    model: str
    sample: int
    repeat: int = 0
    scores: dict[str, float] | None = None
    base: str | None = None
    model_first: bool | None = None
    verdict: str | None = None
    reasoning: str = ""
    failure: str | None = None
    judged: str | None = None
    pictures: list[str] | None = None
    request: str | None = None
    asks: int = 0
    notes: list[str] | None = None

    @property
    def final_score(self) -> float | None:
        """The mean of the four scales, which we compute ourselves; None where there are none."""
        return sum(self.scores.values()) / len(SCALES) if self.scores else None

    def record(self) -> dict[str, Any]:
        """The line of judgements.jsonl."""
        return asdict(self)


def read_judgements(folder: Path) -> list[Judgement]:
    """The judgements of all judges in a review's folder (eva_results/blind_10), judge by judge in order of name; [] if
    there are none. UserError with file:line for a line that is none."""
    paths = sorted((folder / JUDGES_FOLDER).glob(f"*/{JUDGEMENTS_FILE}"))
    return [judgement for path in paths for judgement in read_judgements_of(path)]


def read_judgements_of(path: Path) -> list[Judgement]:
    """The judgements of one judge's file; [] if there is none. UserError with file:line for a line that is none."""
    judgements = []
    for number, record in numbered_jsonl(path) if path.is_file() else ():
        try:
            judgements.append(Judgement(**record))
        except TypeError as error:
            raise UserError(
                f"{path}:{number}: not a judgement ({error}). Remove the file and judge again; replies that are there "
                "already are not asked for again"
            ) from None
        if defect := _defect(judgements[-1]):
            raise UserError(f"{path}:{number}: {defect}")
    return judgements


def _defect(judgement: Judgement) -> str | None:
    """What a judgement that did not fail lacks; half of the scales would make a wrong final score."""
    if judgement.failure is not None:
        return None
    if judgement.protocol == PAIRWISE:
        if judgement.verdict in VERDICTS:
            return None
        return f"the verdict is {judgement.verdict!r}; it must be one of {', '.join(VERDICTS)}"
    scores = judgement.scores or {}
    numbers = all(isinstance(value, (int, float)) and LOWEST <= value <= HIGHEST for value in scores.values())
    if scores.keys() == set(SCALES) and numbers:
        return None
    return f"the scores are {judgement.scores!r}; each of {', '.join(SCALES)} must be a number {LOWEST} to {HIGHEST}"


def judges_of(judgements: Iterable[Judgement]) -> list[str]:
    """The judges' names in order, people and programs last."""
    last = {PEOPLE: 1, **dict.fromkeys(PROGRAMS, 2)}
    names = dict.fromkeys(judgement.judge for judgement in judgements)
    return sorted(names, key=lambda name: (last.get(name, 0), name))


def write_judgements_csv(path: Path, judgements: Iterable[Judgement]) -> None:
    """Replace `path` by all judgements, the original LEAP's columns first; a failed one has no score and no verdict."""
    rows = []
    for judgement in judgements:
        scores = judgement.scores if judgement.scores and judgement.failure is None else {}
        verdict = judgement.verdict if judgement.failure is None else None
        final_score = judgement.final_score if scores else None
        original = [judgement.model, judgement.sample, judgement.reasoning, *map(scores.get, SCALES), final_score]
        order = [judgement.judge, judgement.protocol, judgement.repeat, judgement.base, judgement.model_first]
        rows.append([*original, *order, verdict, judgement.failure])
    write_csv(path, CSV_COLUMNS, rows)
