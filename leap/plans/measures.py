"""The words for every measure of plans, the same in each table, figure, report and model card.

Files hold the keys, people read the titles. A key is "<scorer>.<metric>" for a score of the benchmark, as in
summary.json, and for a validation score the name in leap_manifest.json (leap.plans.metrics.score_answers).
"""

from __future__ import annotations

from dataclasses import dataclass

from leap.plans.scoring import GROUNDED_METRICS, TOPS


@dataclass(frozen=True)
class Measure:
    """`best` is the value of a perfect plan on the measure's scale; `scorer` is set where both scorers have such a
    measure."""

    title: str
    meaning: str
    best: float = 100
    scorer: str | None = None
    short_title: str | None = None

    @property
    def short(self) -> str:
        """The title where there is little room."""
        return self.short_title or self.title

    @property
    def name(self) -> str:
        """As in "skill match, official"."""
        return f"{self.title}, {self.scorer}" if self.scorer else self.title

    @property
    def label(self) -> str:
        """As in "total score, official (of 80)"."""
        return f"{self.name} (of {self.best:g})"


def _of_both(metric: str, title: str, members: str, short_title: str | None = None) -> dict[str, Measure]:
    """A term that is a recall by the official scorer and an F1 by the grounded one."""
    meanings = {
        "official": f"share of the true {members} that the plan has",
        "grounded": f"F1 of the plan's {members} against the true ones, so that extra ones cost as missing ones do",
    }
    return {f"{scorer}.{metric}": Measure(title, meanings[scorer], 100, scorer, short_title) for scorer in TOPS}


def _total(scorer: str, meaning: str) -> dict[str, Measure]:
    return {f"{scorer}.total_score": Measure("total score", meaning, TOPS[scorer], scorer)}


def validation_key(metric: str) -> str:
    """The key of a grounded metric among the scores of a validation."""
    return "grounded_" + metric.removesuffix("_score").removesuffix("_match")


MEASURES: dict[str, Measure] = {
    **_total("official", "0.4 skill match and 0.4 entity match, so that a perfect plan gets 80"),
    **_total(
        "grounded",
        "F1 each: 0.4 skill match, 0.4 entity match, 0.1 skill with entity match, 0.1 exact sub-task match",
    ),
    **_of_both("skill_match_score", "skill match", "skills"),
    **_of_both("entity_match_score", "entity match", "objects and places"),
    **_of_both(
        "skill_with_entity_match_score",
        "skill with entity match",
        "steps, in any order,",
        "skill with entity",
    ),
    **_of_both(
        "exact_match_score",
        "exact sub-task match",
        "sub-tasks, each in its turn,",
        "exact sub-tasks",
    ),
    "grounded.plan_success": Measure("plan success", "share of plans that are right as a whole"),
    "grounded.edit_similarity": Measure("edit similarity", "1 less the edit distance of steps over the longer plan"),
    "grounded.precision": Measure("step precision", "share of the plan's steps that are true ones"),
    "grounded.recall": Measure("step recall", "share of the true steps that the plan has"),
    "loss": Measure("loss", "cross-entropy per supervised token, in nats", 0),
    "plan_format_validity": Measure("valid plans", "share of answers that are a numbered plan", 1),
    "plan_step_precision": Measure("plan step precision", "overlap of words, over the answer's steps", 1),
    "plan_step_recall": Measure("plan step recall", "overlap of words, over the reference's steps", 1),
    "plan_step_f1": Measure("plan step F1", "harmonic mean of plan step precision and recall", 1),
    "plan_order_agreement": Measure("order agreement", "Kendall's tau of the order of matched steps, from -1", 1),
    "plan_redundancy": Measure("redundancy", "share of steps that repeat an earlier one", 0),
    "grounded_format_validity": Measure("valid skill lists", "share of answers that hold a skill list", 1),
    "other_exact_match": Measure("exact match", "share of answers that equal the reference, white space aside", 1),
}
MEASURES |= {validation_key(metric): MEASURES[f"grounded.{metric}"] for metric in GROUNDED_METRICS}
