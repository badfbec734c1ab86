"""What a server's Retry-After header (RFC 9110, section 10.2.3) asks for."""

from __future__ import annotations

import email.utils
import time


def retry_after_s(header: str | None) -> float | None:
    """Seconds to wait, from a number of them or an HTTP date; None for no header, another text or a time gone by."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return None
    return seconds if 0 <= seconds < float("inf") else None
