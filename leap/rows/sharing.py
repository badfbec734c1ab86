"""Which pictures may go where others see them: into a page, a folder beside it, or a repository on the Hub.

What a row calls a picture may be any file of this machine (../secret.env, /etc/passwd, a link to either).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from leap.rows.images import decode_image


def why_outside(path: Path, roots: Iterable[Path]) -> str | None:
    """The reason why a file lies in none of the folders `roots` once links are followed, or None."""
    real = path.resolve()
    if any(real.is_relative_to(root.resolve()) for root in roots):
        return None
    return f"leads to {real}, outside of the data" if real != path.absolute() else "lies outside of the data"


def why_not_shared(path: Path, roots: Iterable[Path]) -> str | None:
    """The reason why a file is no picture that decodes, in one of the folders `roots` once links are followed, or
    None."""
    if reason := why_outside(path, roots):
        return reason
    try:
        decode_image(path.read_bytes())
    except (OSError, ValueError) as error:
        return f"is no intact picture ({error})"
    return None
