"""Answers that are there under other settings: what differs, and the flags that go on with them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from configs.errors import UserError

# The flag that decides a setting, by the setting's place in settings.json.
_FLAG_OF = {
    "planner.model": "model",
    "planner.load_in": "load_in",
    "planner.decoding.max_new_tokens": "max_new_tokens",
    "planner.decoding.max_tokens": "max_new_tokens",
    "planner.decoding.stop_at_plan": "stop_at_plan",
    "planner.decoding.temperature": "temperature",
    "planner.decoding.top_p": "top_p",
    "prompt.style": "prompt",
    "prompt.language": "language",
    "prompt.wording": "wording",
    "prompt.skills.style": "prompt",
    "prompt.skills.language": "language",
    "prompt.few_shot_num": "few_shot_num",
    "prompt.shot_format": "shot_format",
    "prompt.shot_seed": "seed",
    "prompt.seed": "seed",
    "drawing.temperature": "temperature",
    "drawing.top_p": "top_p",
    "drawing.seed": "seed",
}
# What follows from another setting: {setting: those that decide it}.
_FOLLOWS = {
    "prompt.text_sha256": ("prompt.style", "prompt.language"),
    "prompt.skills.text_sha256": ("prompt.skills.style", "prompt.skills.language"),
}


def continuing_flags(earlier: Mapping[str, Any], changes: Sequence[str]) -> str | None:
    """The flags that give the `earlier` values of what `changes` (of leap.provenance.differences) name, or None where
    flags alone do not."""
    names = [change.partition(":")[0] for change in changes]
    flags: dict[str, str] = {}
    for name in names:
        value = _value_at(earlier, name)
        if any(other in names for other in _FOLLOWS.get(name, ())):
            continue
        if name not in _FLAG_OF or value is None:
            return None
        flags[_FLAG_OF[name]] = _written(_FLAG_OF[name], value)
    return " ".join(flags.values())


def flags_of(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The flags that ask under `settings` what a script whose knobs have these `defaults` would ask otherwise."""
    values = {
        flag: _value_at(settings, place) for place, flag in _FLAG_OF.items() if _value_at(settings, place) is not None
    }
    return " ".join(
        _written(flag, value) for flag, value in values.items() if flag in defaults and value != defaults[flag]
    )


def other_settings(holder: str, earlier: Mapping[str, Any], changes: Sequence[str], folder_flag: str) -> UserError:
    """The error that `holder` has answers under `earlier` settings, which differ."""
    flags = continuing_flags(earlier, changes)
    go_on = f"Go on with them by {flags}, or give" if flags else "Give"
    return UserError(
        f"{holder} under other settings ({'; '.join(changes)}). "
        f"{go_on} --overwrite to replace them, --suffix to name these apart, or another {folder_flag}"
    )


def _written(flag: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} {shlex.quote(str(value))}"


def _value_at(settings: Any, place: str) -> Any:
    for name in place.split("."):
        settings = settings.get(name) if isinstance(settings, Mapping) else None
    return settings
