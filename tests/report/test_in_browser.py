"""The page in a browser: what a reader sees, clicks and types. Runs where Chromium is installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.chromium import CHROMIUM, Browser
from tests.conftest import REPOSITORY
from tests.report.conftest import HOSTILE, HOSTILE_PLACE, MODELS

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.timeout(60),
]

FOUND = "document.querySelector('.found').textContent"
HEADING = "document.querySelector('.detail h2').textContent"
HASH = "decodeURIComponent(location.hash)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def at(browser: Browser, page: Path) -> Iterator[Browser]:
    """The browser, 1280 pixels wide. After the test nothing was asked of the network and nothing complained."""
    browser.resize(1280, 800)
    yield browser
    browser.run("0")  # what is still to be told comes before the answer
    asked = {address for address in browser.requests if not address.startswith(("data:", "about:"))}
    assert all(address.startswith("file://") for address in asked), asked
    assert browser.errors == []
    assert browser.run("window.hacked === undefined")


def visit(browser: Browser, page: Path, hash: str = "") -> None:
    browser.open(page.as_uri() + hash)
    browser.wait("!document.querySelector('main > .wait')")


def example(browser: Browser, name: str) -> None:
    """Wait until the example is shown."""
    browser.wait(f"document.querySelector('.detail h2') && {HEADING} === {json.dumps(name)}")


def texts(browser: Browser, selector: str) -> list[str]:
    return browser.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => node.textContent)")


def test_numbers_are_rounded_as_in_tables_and_figures(at, page):
    visit(at, page)
    tools = (REPOSITORY / "leap/pages/assets/dom.js").read_text()
    numbers = [30.25, 30.75, -30.25, 0.25, 3.125, 0.35, 2.675, 62.5, 63.5, -0.04, 1e-9, 0.0, 100.0]
    for digits in (0, 1, 2):
        shown = at.run(f"(() => {{ {tools} return {json.dumps(numbers)}.map((one) => fixed(one, {digits})); }})()")
        assert shown == [f"{number:.{digits}f}" for number in numbers]


def test_the_overview_shows_every_model_and_what_is_missing(at, page):
    visit(at, page)
    assert at.run("document.title") == "A report"
    assert texts(at, ".legend .name") == MODELS
    groups = texts(at, ".results:not(.differences) .group th")
    assert groups[:2] == ["Total score, grounded of 100", "Total score, official of 80"]
    constant = texts(at, ".results tbody:nth-of-type(1) tr:nth-child(4) td")
    assert "over 5 of 6" in constant[0]
    assert constant[7] == "missing"
    trained = texts(at, ".results tbody:nth-of-type(2) tr:nth-child(3) td b")
    assert trained[2] == "80.0"  # all plans of M&T are right, and official has no more
    assert texts(at, ".differences tbody:nth-of-type(1) tr:nth-child(3) td")[0] == "missing"
    assert texts(at, ".differences tbody:nth-of-type(1) tr:nth-child(2) td")[0].startswith("\u25b2 +")
    at.wait("document.querySelectorAll('.plot svg').length === 4")
    assert "80, not 100" in at.run("document.querySelector('.reading').textContent")


def test_a_count_in_the_overview_leads_to_its_examples(at, page):
    visit(at, page)
    at.choose("breakdown", "Semantic")
    assert at.run("document.activeElement.name || 'breakdown'") == "breakdown"
    link = "a[href*='model=baseline'][href*='outcome=machine_failure'][href*='dimension=Semantic']"
    assert texts(at, link) == ["2"]
    at.click(link)
    at.wait(f"document.querySelector('.found') && {FOUND} === '2 of 42 examples'")
    assert at.run("document.querySelector('select[name=outcome]').value") == "machine_failure"
    at.run("history.back()")
    at.wait("document.querySelector('.overview')")


def test_the_confusion_of_another_model_can_be_chosen(at, page):
    visit(at, page)
    assert texts(at, ".confusion td.same b")[0] == "100 %"
    at.choose("confusion", "1")
    assert at.run("document.querySelector('select[name=confusion]').selectedOptions[0].text").endswith("checkpoint-200")


def test_filters_narrow_the_list_and_stay_in_the_address(at, page):
    visit(at, page, "#examples")
    assert at.run(FOUND) == "42 examples"
    at.choose("dimension", "Spatial")
    assert at.run(FOUND) == "6 of 42 examples"
    assert texts(at, "select[name=task] option") == ["all", "select_book_spatial", "select_fruit_spatial"]
    at.choose("task", "select_fruit_spatial")
    assert at.run(FOUND) == "3 of 42 examples"
    at.choose("model", "baseline")
    assert "format error, grounded (1)" in texts(at, "select[name=outcome] option")
    at.choose("outcome", "not_right")
    at.choose("error", "wrong_entity")
    assert at.run(FOUND) == "1 of 42 examples"
    example(at, "Spatial / select_fruit_spatial / 2")
    address = at.run("location.href")
    assert "error=wrong_entity" in address
    at.open(address)
    at.wait(f"document.querySelector('.found') && {FOUND} === '1 of 42 examples'")
    at.choose("outcome", "right")
    assert at.run(FOUND) == "0 of 42 examples"
    at.wait("document.querySelector('.detail').textContent.startsWith('No example has all of this')")
    at.click(".reset")
    assert at.run(FOUND) == "42 examples"


def test_outcome_and_error_are_of_one_model(at, page):
    visit(at, page, "#examples?outcome=right&error=wrong_entity")  # of two different models there would be some
    assert at.run(FOUND) == "0 of 42 examples"


def test_sorting_by_disagreement_puts_the_largest_difference_first(at, page):
    visit(at, page, "#examples")
    at.choose("sort", "disagree")
    at.choose("a", "checkpoint-200")
    at.choose("b", "constant")
    shown = [int(text.split()[1]) for text in texts(at, ".row .delta")]
    assert shown == sorted(shown, key=abs, reverse=True)
    assert shown[0] > 50
    at.choose("sort", "b")
    assert next(int(text.split()[1]) for text in texts(at, ".row .delta")) < shown[0]


def test_sorting_by_score_puts_examples_without_one_last(at, page):
    visit(at, page, "#examples?sort=low&model=baseline")
    assert texts(at, ".row:first-child .badge")[0] == "A\u2205"
    at.run("document.querySelector('.list').scrollTop = 1e6")
    at.wait("[...document.querySelectorAll('.row .place')].at(-1).textContent.endsWith(' / 1')")
    assert texts(at, ".row:last-child .badge")[0] == "Afailed"


def test_keys_move_search_and_help(at, page):
    visit(at, page, "#examples")
    example(at, "M&T / add_condiment / 0")
    at.press("j")
    example(at, "M&T / add_condiment / 1")
    at.press("ArrowDown")
    example(at, "M&T / add_condiment / 2")
    at.press("k")
    example(at, "M&T / add_condiment / 1")
    assert at.run(HASH) == "#M&T/add_condiment/1"
    assert at.run("document.querySelector('[aria-selected=true]').id") == "row-1"
    at.press("/")
    for letter in "vase":
        at.press(letter)
    at.wait("location.hash.endsWith('?q=vase')")
    assert all("vase" in text for text in texts(at, ".row .instruction"))
    at.press("j")
    assert at.run("document.querySelector('[name=q]').value") == "vasej"  # typed, not a key of the page
    at.press("Backspace")
    at.press("Escape")
    assert at.run("document.activeElement === document.body")
    at.press("?")
    assert "search the instructions" in at.run("document.querySelector('dialog[open]').textContent")
    at.press("Escape")
    at.wait("!document.querySelector('dialog')")
    assert at.run("document.querySelector('[data-fold=raw]').open") is False
    at.press("r")
    assert at.run("document.querySelector('[data-fold=raw]').open") is True
    at.press("j")
    at.wait("document.querySelectorAll('[data-fold=raw][open] pre').length > 0")  # stays open


@pytest.mark.parametrize("place", ["M&T/select_fruit/2", "M%26T/select_fruit/2"])
def test_a_link_opens_its_example(at, page, place):
    visit(at, page, f"#{place}?model=baseline")
    example(at, "M&T / select_fruit / 2")
    assert at.run("document.querySelector('select[name=model]').value") == "baseline"
    at.wait("document.querySelector('[aria-selected=true]')")


def test_a_link_to_no_example_says_so(at, page):
    visit(at, page, "#Spatial/select_fruit_spatial/77")
    assert "no example Spatial/select_fruit_spatial/77" in at.run("document.querySelector('.detail').textContent")
    visit(at, page, "#nowhere%zz?=&sort=7")
    assert at.run("document.querySelector('.overview') !== null")


def test_differences_are_said_in_words_and_signs(at, page):
    visit(at, page, "#Complex/book_rearrange/2")
    example(at, "Complex / book_rearrange / 2")
    rows = at.run(
        "[...document.querySelectorAll('.plans tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert len(rows) == 5  # four steps of the ground truth, and the extra one of checkpoint-200
    assert rows[0][2].startswith("\u2260 entity")
    assert rows[0][3].startswith("\u2713")
    assert rows[0][4] == "Not answered"
    assert rows[4][3].startswith("+ extra")
    visit(at, page, "#Complex/book_rearrange/0")
    example(at, "Complex / book_rearrange / 0")
    assert "No plan in the answer" in texts(at, ".noplan")[0]
    visit(at, page, "#Complex/book_rearrange/1")
    example(at, "Complex / book_rearrange / 1")
    assert texts(at, ".noplan")[0] == "Machine failure, no answerout of memory"


def test_hostile_text_is_shown_as_text(at, page):
    visit(at, page, "#" + "/".join(map(quote, map(str, HOSTILE_PLACE))))
    example(at, " / ".join(map(str, HOSTILE_PLACE)))
    at.press("r")
    assert texts(at, "blockquote") == [HOSTILE]
    assert texts(at, ".raw pre")[0].startswith(HOSTILE)
    assert at.run("document.querySelectorAll('img[src=x], pre *, blockquote *').length") == 0


def test_both_pictures_are_shown_and_can_be_enlarged(at, page):
    visit(at, page, "#M&T/select_fruit/0")
    at.wait("[...document.querySelectorAll('.scene img')].filter((image) => image.naturalWidth === 64).length === 2")
    sources = at.run("[...document.querySelectorAll('.scene img')].map((image) => image.src)")
    assert sources[0] != sources[1]
    at.click(".scene .picture")
    at.wait("document.querySelector('dialog[open] img.large').naturalWidth === 64")
    at.press("Escape")
    at.wait("!document.querySelector('dialog')")


def test_models_can_be_hidden(at, page):
    visit(at, page, "#M&T/select_fruit/0")
    example(at, "M&T / select_fruit / 0")
    at.click(".shown [name=B]")
    at.wait("document.querySelectorAll('.plans thead th').length === 4")
    assert texts(at, ".plans thead .name") == ["baseline", "constant"]
    assert at.run("document.querySelectorAll('.row:first-child .badge').length") == 2
    assert at.run("location.hash").endswith("show=A+C")


def test_only_rows_in_sight_are_in_the_page(at, page):
    visit(at, page, "#examples")
    assert at.run("document.querySelectorAll('.row').length") < 25
    at.run("document.querySelector('.list').scrollTop = 1e6")
    at.wait("[...document.querySelectorAll('.row')].at(-1).getAttribute('aria-posinset') === '42'")
    at.click(".row[aria-posinset='41']")
    example(at, "Complex / cook_dishes / 1")


def test_a_narrow_window_shows_the_list_or_the_example(at, page):
    at.resize(700, 800)
    visit(at, page, "#examples")
    shown = "[...document.querySelectorAll('.list-pane, .detail')].filter((n) => n.offsetWidth).map((n) => n.className)"
    assert at.run(shown) == ["list-pane"]
    at.click(".row[aria-posinset='3']")
    example(at, "M&T / add_condiment / 2")
    assert at.run(shown) == ["detail"]
    at.press("Escape")
    assert at.run(shown) == ["list-pane"]
    visit(at, page)
    assert at.run("document.documentElement.scrollWidth") <= 700  # tables scroll inside their own box


def test_whole_pictures_are_taken_from_the_folder(at, evaluated, tmp_path):
    evaluated.report(tmp_path / "a b.html", ["baseline"], images_folder=True)
    visit(at, tmp_path / "a b.html", "#M&T/select_fruit/0")
    at.wait("[...document.querySelectorAll('.scene img')].filter((image) => image.naturalWidth === 64).length === 2")


def test_a_report_without_benchmark_still_shows_the_answers(at, evaluated, tmp_path):
    evaluated.report(tmp_path / "bare.html", MODELS, benchmark=tmp_path / "none")
    visit(at, tmp_path / "bare.html")
    assert "no pictures" in at.run("document.querySelector('.note').textContent")
    visit(at, tmp_path / "bare.html", "#M&T/select_fruit/0")
    example(at, "M&T / select_fruit / 0")
    assert texts(at, ".scene") == ["picture missingPicture", "picture missingPicture with numbered tags"]
    assert "entity 99" in at.run("document.querySelector('.plans tbody').textContent")
