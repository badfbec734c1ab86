"""Numbers that others published, read from configs/published_results.yaml, where their format is described.

They are cited, never measured here, and every table that shows them says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from configs.config import DIMENSIONS, REPOSITORY
from configs.errors import UserError

PUBLISHED_RESULTS = REPOSITORY / "configs" / "published_results.yaml"
MARK = "(published, not measured here)"


@dataclass(frozen=True)
class PublishedScore:
    """Means of 0 to 100: by dimension, of dimensions (macro), of examples (micro); None and {} where none is given."""

    score: str
    dimensions: dict[str, float]
    macro: float | None
    micro: float | None


@dataclass(frozen=True)
class Published:
    """One model's published scores, where they stand, and what is known of how they were made."""

    model: str
    source: str
    settings: dict[str, Any]
    scores: tuple[PublishedScore, ...]

    def totals(self) -> dict[str, float]:
        """Its official totals by dimension and "macro", as figures take them; {} where none are given."""
        total = next((score for score in self.scores if score.score == "official.total_score"), None)
        if total is None:
            return {}
        return total.dimensions | ({"macro": total.macro} if total.macro is not None else {})


def load_published(path: Path = PUBLISHED_RESULTS) -> list[Published]:
    """The entries of a YAML file. UserError names the one that is malformed."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    except FileNotFoundError:
        raise UserError(f"file not found: {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, list):
        raise UserError(f"{path} must be a list of entries, found {type(content).__name__}")
    return [_entry(item, f"{path}, entry {number}") for number, item in enumerate(content, 1)]


def published_rows(published: Sequence[Published], name: str) -> list[list[str]]:
    """Table rows of one score: model, a cell a dimension ("-" if not given), macro, micro, and "-" for the examples."""
    return [
        [
            f"{entry.model} {MARK}",
            *(_cell(score.dimensions.get(dimension)) for dimension in DIMENSIONS),
            _cell(score.macro),
            _cell(score.micro),
            "-",
        ]
        for entry in published
        for score in entry.scores
        if score.score == name
    ]


def published_notes(published: Sequence[Published]) -> str:
    """Markdown: what is known of each entry, one line each."""
    return "\n".join(
        f"- {entry.model} {MARK}: {'; '.join(f'{key} {value}' for key, value in entry.settings.items()) or 'unknown'}. "
        f"Source: {entry.source}"
        for entry in published
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _entry(item: Any, where: str) -> Published:
    fields = _fields(item, where, ("model", "source", "settings", "scores"), needed=("model", "source", "scores"))
    settings, scores = fields.get("settings") or {}, fields["scores"]
    for key in ("model", "source"):
        if not isinstance(fields[key], str) or not fields[key].strip():
            raise UserError(f"{where}: {key} must be text, found {fields[key]!r}")
    if not isinstance(settings, dict):
        raise UserError(f"{where}: settings must be a mapping, found {settings!r}")
    if not isinstance(scores, list) or not scores:
        raise UserError(f"{where}: scores must be a list, found {scores!r}")
    return Published(fields["model"], fields["source"], settings, tuple(_score(score, where) for score in scores))


def _score(item: Any, where: str) -> PublishedScore:
    fields = _fields(item, where, ("score", "dimensions", "macro", "micro"), needed=("score",))
    dimensions = fields.get("dimensions") or {}
    if not isinstance(dimensions, dict) or not dimensions.keys() <= set(DIMENSIONS):
        raise UserError(f"{where}: dimensions must map some of {', '.join(DIMENSIONS)} to means, found {dimensions!r}")
    numbers = {**dimensions, **{key: fields[key] for key in ("macro", "micro") if fields.get(key) is not None}}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
            raise UserError(f"{where}: {key} must be a number from 0 to 100, found {value!r}")
    return PublishedScore(str(fields["score"]), dimensions, fields.get("macro"), fields.get("micro"))


def _fields(item: Any, where: str, keys: Sequence[str], needed: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        raise UserError(f"{where}: expected a mapping with {', '.join(keys)}, found {item!r:.80}")
    unknown = next((key for key in item if key not in keys), None)
    if unknown is not None:
        raise UserError(f"{where}: unknown key {unknown!r}; known keys: {', '.join(keys)}")
    missing = next((key for key in needed if key not in item), None)
    if missing is not None:
        raise UserError(f"{where}: {missing} is missing")
    return item
