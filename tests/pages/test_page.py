"""One offline file: it names no address, lets nothing in, and hostile text stays text."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from pathlib import Path

import pytest

from leap.pages.page import packed

ASSETS = Path(__file__).resolve().parents[2] / "leap" / "report" / "assets"


def test_the_page_names_no_address_but_that_of_svg(page):
    found = set(re.findall(r"\w+://[^\"'\s)]+", page.read_text(encoding="utf-8")))
    assert found == {"http://www.w3.org/2000/svg"}  # a name, not an address that is asked for


def test_the_policy_allows_this_style_and_script_and_nothing_from_elsewhere(page):
    text = page.read_text(encoding="utf-8")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"


def test_a_hostile_title_is_text(evaluated, tmp_path):
    evaluated.report(tmp_path / "r.html", ["constant"], title="<b>M&T</b> {{script}} \\1")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<title>&lt;b&gt;M&amp;T&lt;/b&gt; {{script}} \\1</title>" in text


@pytest.mark.parametrize("path", sorted(ASSETS.glob("*.js")), ids=lambda path: path.name)
def test_no_script_makes_markup_or_code_from_text(path):
    text = path.read_text(encoding="ascii")
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
        "XMLHttp",
    ):
        assert word not in text
    assert "</script" not in text


def test_a_lone_surrogate_survives(evaluated, tmp_path):
    assert json.loads(zlib.decompress(base64.b64decode(packed("\ud800</script>")))) == "\ud800</script>"
