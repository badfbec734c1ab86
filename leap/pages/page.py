"""A page as one file that asks the network for nothing.

Its data stand in islands, <script type="text/plain"> elements of deflated JSON in base64, so that no text of a model
or of a benchmark can be taken for markup. What the first view needs comes before the script, details and pictures after
it: the page can be used while they still load. A policy in its head forbids every other source of anything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from leap.files import replacing


@dataclass(frozen=True)
class Assets:
    """The files a page is made of, as paths below leap/: its HTML with {{places}} for the rest, its style, and its
    scripts, which share one scope in this order."""

    html: str
    style: str
    scripts: tuple[str, ...]


# Pictures stand in islands of so many, a line of base64 each, which the page reads one by one.
PICTURES_AN_ISLAND = 128

# Pictures that are files lie beside the page, which may be opened from a disk or a server.
_SOURCES_OF_PICTURES = {False: "data:", True: "data: file: 'self'"}


def packed(value: Any) -> str:
    """A JSON value, deflated and in base64."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii")


def page_parts(
    title: str,
    first: Mapping[str, str],
    rest: Mapping[str, str],
    thumbnails: Sequence[bytes] = (),
    *,
    assets: Assets,
    has_picture_files: bool = False,
) -> Iterator[str]:
    """The page in pieces, in order. `first` and `rest` are packed values by name, for before and behind the script."""
    style, script = _asset(assets.style), _script(assets.scripts)
    values = {
        "title": html.escape(title),
        "policy": html.escape(
            "default-src 'none'; "
            f"img-src {_SOURCES_OF_PICTURES[has_picture_files]}; "
            f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
        ),
        "style": style,
        "first": "".join(_island(name, value) for name, value in first.items()),
        "script": script,
    }
    head, tail = _asset(assets.html).split("{{rest}}")
    # A function, since the values may hold backslashes; one pass, so that nothing inside a value is replaced.
    yield re.sub(r"\{\{(\w+)\}\}", lambda match: values[match.group(1)], head)
    for name, value in rest.items():
        yield _island(name, value)
    for start in range(0, len(thumbnails), PICTURES_AN_ISLAND):
        lines = (
            base64.b64encode(content).decode("ascii") for content in thumbnails[start : start + PICTURES_AN_ISLAND]
        )
        yield _island(f"pictures-{start // PICTURES_AN_ISLAND}", "\n".join(lines))
    yield tail


def write_page(path: Path, parts: Iterable[str]) -> int:
    """Replace `path` by the page in one step; its size in bytes."""
    size = 0
    with replacing(path) as file:
        for part in parts:
            size += file.write(part.encode("utf-8"))
    return size


def _island(name: str, content: str) -> str:
    return f'<script type="text/plain" id="data-{name}">{content}</script>\n'


def _script(names: Sequence[str]) -> str:
    return '(() => {\n"use strict";\n' + "\n".join(map(_asset, names)) + "})();\n"


def _asset(name: str) -> str:
    return (files("leap") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
