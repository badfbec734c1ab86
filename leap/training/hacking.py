"""Does a reward rise while plans get worse? The one question to ask of a run that trains by rewards.

A planner learns what the reward pays for, not what was meant by it (Amodei et al. 2016, arXiv 1606.06565). Here both
are known: the reward of completions from the log, and the whole-plan success of held-out rows from its validations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_CLEAR = 2.0  # standard errors

# What validation calls the share of right plans, by what rows have: skill lists (0 to 100) or numbered steps (0 to 1).
_SUCCESS = (("eval_grounded_plan_success", "eval_grounded_rows", 100.0), ("eval_plan_step_f1", "eval_plan_rows", 1.0))


class Trend(NamedTuple):
    """Where something stood and stands, in its own unit, and how far apart that is in standard errors."""

    begin: float
    end: float
    errors: float


def reward_trend(records: Sequence[Mapping[str, Any]]) -> Trend | None:
    """The reward of completions in the first and the last quarter of the log's lines; None for fewer than eight."""
    rewards = [record["reward"] for record in _by_step(records, "reward")]
    quarter = len(rewards) // 4
    if quarter < 2:
        return None
    begin, end = rewards[:quarter], rewards[-quarter:]
    error = math.sqrt(_squared_error(begin) + _squared_error(end))
    return Trend(_mean(begin), _mean(end), _in_errors(_mean(end) - _mean(begin), error))


def success_trend(records: Sequence[Mapping[str, Any]]) -> Trend | None:
    """The held-out share of right plans (0 to 1) at its best and at the end; None without two validations.

    The same rows are asked each time, so that the error of two independent shares is on the careful side.
    """
    for key, rows, scale in _SUCCESS:
        validations = _by_step(records, key)
        if len(validations) > 1:
            best, last = max(validations, key=lambda record: record[key]), validations[-1]
            begin, end, count = best[key] / scale, last[key] / scale, last.get(rows) or 1
            error = math.sqrt((begin * (1 - begin) + end * (1 - end)) / count)
            return Trend(begin, end, _in_errors(end - begin, error))
    return None


def hacking(records: Sequence[Mapping[str, Any]]) -> str | None:
    """What to say of a run whose reward rises clearly while held-out plans fall clearly; None of any other."""
    reward, success = reward_trend(records), success_trend(records)
    if reward is None or success is None or reward.errors < _CLEAR or success.errors > -_CLEAR:
        return None
    return (
        f"REWARD HACKING: the reward rose from {reward.begin:.3f} to {reward.end:.3f} while held-out success fell from "
        f"{success.begin:.1%} to {success.end:.1%}; the planner learned what the reward pays for, not to plan"
    )


def _by_step(records: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """The lines that have a value of `key`, the last one of each step."""
    by_step = {record["step"]: record for record in records if record.get(key) is not None}
    return [by_step[step] for step in sorted(by_step)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _squared_error(values: Sequence[float]) -> float:
    mean = _mean(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)


def _in_errors(difference: float, error: float) -> float:
    return difference / error if error else math.copysign(math.inf, difference) if difference else 0.0
