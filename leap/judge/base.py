"""The base of a review, the model that the others are compared with, and the order of models that follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from configs.errors import UserError
from leap.judge.judgements import PAIRWISE, Judgement
from leap.models.names import base_suffix, order_of


def base_in(models: Iterable[str]) -> str | None:
    """The model that is called baseline, as "Baseline" too; None if there is none."""
    return min(
        (name for name in models if base_suffix(name.lower()) is not None),
        key=lambda name: (name.lower(), name != name.lower(), name),
        default=None,
    )


def base_named(models: Sequence[str], name: str | None) -> str | None:
    """The base among `models`: the one of this name, whatever its case, or without a name the one called baseline, if
    there is one. UserError for a name that none has."""
    if name is None:
        return base_in(models)
    alike = [model for model in models if model.lower() == name.lower()]
    if not alike:
        raise UserError(f"the base {name} is not among the models to judge: {', '.join(models)}")
    return name if name in alike else alike[0]


def base_of(judgements: Iterable[Judgement], models: Iterable[str]) -> str | None:
    """The base that pairs were judged against, or else the model that is called baseline."""
    paired = {judgement.base for judgement in judgements if judgement.protocol == PAIRWISE}
    return min((name for name in models if name in paired), default=None) or base_in(models)


def base_first(models: Iterable[str], base: str | None) -> list[str]:
    """The base, then the other models in their natural order."""
    return sorted(models, key=lambda name: (name != base, order_of(name)))
