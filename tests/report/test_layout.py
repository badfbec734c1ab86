"""Every page, the rating sheet included, from phone to desk, light and dark: controls have boxes, texts do not overlap,
and axe-core has nothing to say. Runs where Chromium is installed; axe-core comes from npm for these tests alone."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterator

import pytest

from leap.judge.ratings import write_sheet
from leap.report.review import collect_review
from tests.chromium import CHROMIUM, Browser
from tests.judge.review_folder import EMPTY_ROW, MODELS, Review, write_review
from tests.report.conftest import MODELS as EVALUATED
from tests.report.conftest import Evaluated

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.timeout(120),
    pytest.mark.slow,
]

WIDTHS = (360, 1440, 420, 800, 1000)
PLACES = ("#overview", "#examples", "#M&T/select_fruit/0", "#review/1", "sheet")
WINDOWS = [(width, place) for width in WIDTHS for place in PLACES]
WINDOWS_FOR_AXE = WINDOWS[
    : 2 * len(PLACES)
]  # the first ones: those of a place and width are then visited once for both
AXE = "axe-core@4.14.1"
UNFOLD = "document.querySelectorAll('details').forEach((fold) => { fold.open = true; })"

# Controls that should have a box and have none, or one that reaches out of the window. What lies in a part that is not
# displayed at this width, or folded, needs none.
WITHOUT_BOX = """[...document.querySelectorAll('button, select, input, textarea, summary, nav a')].filter((node) => {
  for (let up = node.parentElement; up; up = up.parentElement) {
    if (getComputedStyle(up).display === 'none') return false;
    if (up.matches('details:not([open])') && node.tagName !== 'SUMMARY') return false;
  }
  if (node.matches('[hidden], .unseen, .actions button:first-child')) return false; // goes back from a narrow example
  const box = node.getBoundingClientRect();
  const scrolls = node.closest('.scroll, nav, .list');
  return box.width < 10 || box.height < 10 || (!scrolls && (box.left < -1 || box.right > innerWidth + 1));
}).map((node) => node.outerHTML.slice(0, 120))"""

# Pairs of texts of which one covers the other, each cut to what its scrolling parents let through.
OVERLAPS = """(() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const boxes = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest('script, noscript, select, title, .unseen') || !parent.checkVisibility())
      continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const { left, top, right, bottom } of range.getClientRects()) {
      let box = [left, top, right, bottom];
      for (let up = parent; up && up !== document.body; up = up.parentElement) {
        const style = getComputedStyle(up);
        if (style.overflow === 'visible' && style.clipPath === 'none') continue;
        const edge = up.getBoundingClientRect();
        box = [Math.max(box[0], edge.left), Math.max(box[1], edge.top), Math.min(box[2], edge.right),
          Math.min(box[3], edge.bottom)];
      }
      // The box of a line is higher than its letters.
      const rest = (box[3] - box[1]) * 0.2;
      if (box[2] - box[0] > 3 && box[3] - box[1] > 3)
        boxes.push({ node, box: [box[0] + 1, box[1] + rest, box[2] - 1, box[3] - rest] });
    }
  }
  const pairs = [];
  boxes.sort((a, b) => a.box[1] - b.box[1]);
  for (let i = 0; i < boxes.length; i += 1)
    for (let j = i + 1; j < boxes.length && boxes[j].box[1] < boxes[i].box[3]; j += 1) {
      const [a, b] = [boxes[i].box, boxes[j].box];
      if (boxes[i].node !== boxes[j].node && a[0] < b[2] && b[0] < a[2])
        pairs.push([boxes[i].node.data, boxes[j].node.data]);
    }
  return pairs;
})()"""

FINDINGS = (
    "axe.run(document, {resultTypes: ['violations'], RULES}).then(({violations}) =>"
    " violations.map(({id, nodes}) => [id, nodes.length, nodes[0].target.join(' ')]))"
)
ALL_FINDINGS = FINDINGS.replace(", RULES", "")
# A dark window differs in colours alone, and only these rules look at them.
FINDINGS_ON_COLORS = FINDINGS.replace(
    "RULES", "runOnly: {type: 'rule', values: ['color-contrast', 'link-in-text-block']}"
)


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> Review:
    return write_review(tmp_path_factory.mktemp("a review"), rows=EMPTY_ROW + 1)  # the rest is ordinary


@pytest.fixture(scope="module")
def pages(review: Review, evaluated: Evaluated, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The address of each place."""
    folder = tmp_path_factory.mktemp("pages")
    shown = collect_review(review.folder, EVALUATED, None, review.data.parent)
    evaluated.report(folder / "report.html", EVALUATED, review=shown)
    write_sheet(folder / "sheet.html", review.items(), MODELS, 0, None, review.data.parent)
    report = (folder / "report.html").as_uri()
    return {place: report + place for place in PLACES} | {"sheet": (folder / "sheet.html").as_uri()}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core."""
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("needs npm, to download axe-core")
    command = ["npm", "pack", AXE, "--silent", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not bring {AXE} within a minute")
    if done.returncode:
        pytest.skip(f"npm did not bring {AXE}: {done.stderr[-200:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


def visit(browser: Browser, address: str) -> None:
    """Open a page with all that is folded."""
    browser.open(address)
    browser.wait("!document.querySelector('main > .wait')")
    if "M&T" in address:
        browser.wait("document.querySelector('.plans')")
    browser.run(f"{UNFOLD}, 0")
    browser.wait("[...document.querySelectorAll('details .fold-body')].every((body) => body.firstChild)")
    browser.wait("[...document.querySelectorAll('.plot')].every((plot) => !plot.offsetWidth || plot.firstChild)")


@pytest.fixture(scope="module")
def window(request: pytest.FixtureRequest, browser: Browser, pages: dict[str, str]) -> int:
    """The browser is at a place, in a window of this width."""
    width, place = request.param
    browser.resize(width, 900)
    visit(browser, pages[place])
    return width


def in_windows(windows: list[tuple[int, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "window", windows, indirect=True, ids=[f"{place}-{width}" for width, place in windows]
    )


@in_windows(WINDOWS)
def test_every_control_has_a_box_and_no_text_covers_another(browser, window):
    for dark in (False, True):  # other colours move nothing
        browser.resize(window, 900, dark)
        assert browser.run(WITHOUT_BOX) == []
        assert browser.run(OVERLAPS) == []
        assert (
            browser.run("document.documentElement.scrollWidth") <= window
        )  # wide tables scroll inside their own boxes


@in_windows(WINDOWS_FOR_AXE)
def test_axe_finds_nothing(browser, window, axe):
    browser.run(f"{axe}; 0")
    browser.resize(window, 900)
    assert browser.run(ALL_FINDINGS) == []
    browser.resize(window, 900, dark=True)
    assert browser.run(FINDINGS_ON_COLORS) == []


def test_a_control_without_a_box_and_a_covered_text_are_noticed(browser, pages):
    browser.resize(800, 900)
    visit(browser, pages["#examples"])
    browser.run("document.querySelector('select[name=task]').style.display = 'contents', 0")
    assert 'name="task"' in browser.run(WITHOUT_BOX)[0]
    browser.run("document.querySelector('nav a:nth-child(2)').style.transform = 'translateX(-60px)', 0")
    assert browser.run(OVERLAPS) != []
