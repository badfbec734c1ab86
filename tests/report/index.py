"""Reading what a page of results holds."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

from configs.config import DIMENSIONS
from leap.report.examples import EXAMPLES_AN_ISLAND, FLAGS
from tests.report.conftest import Evaluated


def island(page: Path, name: str) -> Any:
    """The value in an island of the page."""
    found = re.search(rf'<script type="text/plain" id="data-{name}">([^<]*)</script>', page.read_text(encoding="utf-8"))
    return unpacked(found.group(1))


def unpacked(text: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(text)))


def details_of(page: Path, at: int) -> dict:
    """The details of an example, by its place in the columns of the index."""
    return island(page, f"details-{at // EXAMPLES_AN_ISLAND}")[at % EXAMPLES_AN_ISLAND]


def flags_of(index: dict, model: int, at: int) -> set[str]:
    return {name for bit, name in enumerate(FLAGS) if index["answers"][model]["flags"][at] >> bit & 1}


def place_in(index: dict, dimension: str, task: str, number: int) -> int:
    """Where an example stands in the columns of the index."""
    which = index["tasks"].index([task, DIMENSIONS.index(dimension)])
    columns = index["examples"]
    return next(i for i, t in enumerate(columns["task"]) if t == which and columns["number"][i] == number)


def copied(evaluated: Evaluated, root: Path) -> Evaluated:
    """The benchmark and results for a test that changes them."""
    shutil.copytree(evaluated.benchmark, root / "benchmark")
    shutil.copytree(evaluated.results, root / "eva_results")
    return Evaluated(root / "benchmark", root / "eva_results")
