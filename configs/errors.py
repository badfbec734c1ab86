"""The error a user can mend: its text becomes one line on stderr and exit status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something outside the program is wrong: say what was found, what is allowed and the next command to run.

    `kind` names what is wrong where code tells errors apart; the message is for people only.
    """

    def __init__(self, message: str = "", kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """ " Did you mean ...?" with the nearest of `names`, or nothing where none is near."""
    by_form = {name.lower().replace("-", "_"): name for name in reversed(list(names))}  # the first of a form
    near = difflib.get_close_matches(word.lower().replace("-", "_"), by_form, n=1)
    return f" Did you mean {by_form[near[0]]}?" if near else ""
