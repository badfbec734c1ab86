"""The page in a browser: what a reader sees, clicks and types. Runs where Chromium is installed."""

from __future__ import annotations

import base64
import csv
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote
from xml.etree import ElementTree

import pytest

from leap.pages.palette import COLORS
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
    heads = texts(at, ".results:not(.differences) thead th")
    assert heads[1:3] == ["Total score, grounded (of 100)", "Total score, official (of 80)"]
    assert "over 5 of 6" in texts(at, ".results tr:nth-child(3) td")[0]
    assert texts(at, ".differences tr:nth-child(2) td")[0] == "missing"
    assert texts(at, ".differences tr:nth-child(1) td")[0].startswith("\u25b2 +")
    at.wait("document.querySelectorAll('.plot svg').length === 2")
    unfold(at, "dimensions")
    assert texts(at, "[data-fold=dimensions] tbody tr:nth-child(3) td")[7] == "missing"
    at.choose("measure", "official.total_score")
    trained = texts(at, "[data-fold=dimensions] tbody tr:nth-child(2) td b")
    assert trained[2] == "80.0"  # all plans of M&T are right, and official has no more
    unfold(at, "reading")
    assert "80, not 100" in at.run("document.querySelector('.reading').textContent")


def test_the_headline_comes_first_and_all_that_is_not_folded_fits_on_three_screens(at, page):
    visit(at, page)
    headline = texts(at, ".overview > :first-child h2")[0]
    assert headline.startswith("checkpoint-200 reaches ")
    assert ", baseline " in headline
    assert len(texts(at, ".numbers li")) == 4
    assert at.run("document.documentElement.scrollHeight") <= 3 * 800


def test_models_mean_and_base_are_chosen_and_stay_in_the_address(at, page):
    visit(at, page)
    at.choose("base", "constant")
    assert "Against constant" in texts(at, ".overview h2")
    at.choose("mean", "micro")
    at.click(".legend button[name=A]")
    assert texts(at, ".results:not(.differences) tbody .name") == ["checkpoint-200", "constant"]
    at.open(at.run("location.href"))
    at.wait("document.querySelector('.results')")
    assert texts(at, ".differences tbody .name") == ["checkpoint-200"]
    assert at.run("document.querySelector('select[name=mean]').value") == "micro"


def test_a_column_sorts_and_what_is_missing_stays_last(at, page):
    visit(at, page)
    for direction in ("descending", "ascending", None):
        at.click(".results:not(.differences) thead th:nth-child(2) .sort")
        head = "document.querySelector('.results:not(.differences) thead th:nth-child(2)')"
        assert at.run(f"{head}.getAttribute('aria-sort')") == direction
        means = [float(text) for text in texts(at, ".results:not(.differences) tbody td:nth-child(2) b")]
        if direction:
            assert means == sorted(means, reverse=direction == "descending")
    assert texts(at, ".results:not(.differences) tbody .name") == MODELS  # as it was
    for _ in range(2):
        at.click(".differences thead th:nth-child(2) .sort")
        assert texts(at, ".differences tbody .name") == ["checkpoint-200", "constant"]  # constant has no macro


def unfold(at: Browser, name: str) -> None:
    at.click(f"[data-fold={name}] summary")
    at.wait(f"document.querySelector('[data-fold={name}] .fold-body').firstChild")


def offered(at: Browser, label: str) -> str:
    """The text behind a button that offers a table."""
    at.click(f"button[aria-label='{label}']")
    text = at.run("document.querySelector('dialog textarea').value")
    href = at.run("document.querySelector('dialog a[download]').href")
    assert unquote(href.partition(",")[2]) == text
    at.press("Escape")
    at.wait("!document.querySelector('dialog')")
    return text


def test_a_table_is_written_for_programs_and_papers(at, page):
    visit(at, page)
    lines = list(csv.DictReader(offered(at, "results as CSV").splitlines()))
    assert [line["Model"] for line in lines] == MODELS
    title = "Total score, grounded (of 100)"
    low, mean, high = (float(lines[1][title + end]) for end in (" low", "", " high"))
    assert 0 < low < mean < high <= 100
    markdown = offered(at, "results as Markdown").splitlines()
    assert markdown[0].startswith(f"| Model | {title} |")
    assert {line.count("|") for line in markdown} == {7 + 2}
    assert f"| {mean:.1f} ({low:.1f} to {high:.1f}) |" in markdown[3]
    latex = offered(at, "results as LaTeX")
    assert latex.startswith("\\begin{tabular}{lrrrrrrr}\n\\toprule\n")
    assert f"checkpoint-200 & {mean:.1f} ({low:.1f} to {high:.1f}) &" in latex
    unfold(at, "wrong")
    assert "\\%)" in offered(at, "outcomes as LaTeX")


def test_bars_of_equal_values_are_equally_long_in_all_columns(at, page):
    visit(at, page)
    bars = at.run(
        "[...document.querySelectorAll('.results .mean')].map((cell) => "
        "[JSON.parse(cell.dataset.value)[0], getComputedStyle(cell).backgroundSize.split(' ')[0],"
        " Number(cell.style.getPropertyValue('--share'))])"
    )
    assert len(bars) > 10
    assert all(abs(share - mean / 100) < 1e-9 for mean, _, share in bars)  # official ones too: a point is a point
    assert len({length for mean, length, _ in bars if mean == 0}) == 1


def test_a_figure_is_saved_with_its_key_and_the_colours_of_paper(at, page):
    at.resize(1280, 800, dark=True)
    visit(at, page)
    at.wait("document.querySelectorAll('.plot svg').length === 2")
    at.run(
        "HTMLAnchorElement.prototype.click = function () { window.saved = [this.download, this.href]; }, 0"
    )  # a headless browser has no folder to save into
    at.click("figure .exports button")
    name, address = at.run("window.saved")
    assert name == "Total_score.svg"
    picture = ElementTree.fromstring(unquote(address.partition(",")[2]))
    drawn = [node.text for node in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in drawn if text and text[0] in "ABC"] == [
        f"{letter}  {name}" for letter, name in zip("ABC", MODELS, strict=True)
    ]
    fills = {node.get("fill") for node in picture.iter("{http://www.w3.org/2000/svg}path")}
    assert {f"rgb({int(c[1:3], 16)}, {int(c[3:5], 16)}, {int(c[5:7], 16)})" for c in COLORS[:2]} <= fills


def printed(at: Browser) -> list[bool]:
    """Whether there is text on each page that the browser prints."""
    answer = at.do("Page.printToPDF", preferCSSPageSize=True)
    return text_on_pages(base64.b64decode(answer["data"]))


def text_on_pages(pdf: bytes) -> list[bool]:
    streams = {
        number: zlib.decompress(content)
        for number, content in re.findall(
            rb"(\d+) 0 obj\s*<<[^>]*FlateDecode[^>]*>>\s*stream\r?\n(.*?)endstream", pdf, re.S
        )
        if content[:1] == b"x"
    }
    pages = re.findall(rb"/Type /Page\b(?!s)(.*?)endobj", pdf, re.S)
    contents = [re.search(rb"/Contents (\d+) 0 R", page).group(1) for page in pages]
    return [b"Tj" in streams[number] or b"TJ" in streams[number] for number in contents]


@pytest.mark.parametrize("hash", ["#overview", "#M&T/select_fruit/0", "#examples"])
def test_no_printed_page_is_empty(at, page, hash):
    visit(at, page, hash)
    if hash != "#overview":
        at.wait("document.querySelector('.plans')")
    pages = printed(at)
    assert all(pages)
    assert len(pages) <= 4


def test_a_figure_is_printed_alone_on_a_page_of_its_size(at, page):
    visit(at, page)
    at.wait("document.querySelectorAll('.plot svg').length === 2")
    at.run("window.print = () => null, 0")
    at.click("figure .exports button:last-child")
    assert printed(at) == [True]
    at.run("dispatchEvent(new Event('afterprint')), 0")
    assert at.run("document.body.className") == ""
    assert at.run("document.title") == "A report"


def test_answers_can_be_searched(at, page):
    visit(at, page, "#examples?q=would+up.")
    assert at.run(FOUND) == "0 of 42 examples"
    at.choose("where", "answers")
    at.wait(f"{FOUND} === '14 of 42 examples'")  # the first example of each task: prose of the base
    visit(at, page, "#examples?q=would+up.&where=answers")
    at.wait(f"{FOUND} === '14 of 42 examples'")


def test_a_count_in_the_overview_leads_to_its_examples(at, page):
    visit(at, page)
    unfold(at, "wrong")
    at.choose("breakdown", "Semantic")
    assert at.run("document.activeElement.name || 'breakdown'") == "breakdown"
    link = "a[href*='model=baseline'][href*='outcome=machine_failure'][href*='dimension=Semantic']"
    assert texts(at, link) == ["2"]
    at.click(link)
    at.wait(f"document.querySelector('.found') && {FOUND} === '2 of 42 examples'")
    assert at.run("document.querySelector('select[name=outcome]').value") == "machine_failure"
    at.run("history.back()")
    at.wait("document.querySelector('.overview')")


def test_scores_by_length_have_intervals_which_narrow_to_the_dimension_chosen(at, page):
    visit(at, page)
    unfold(at, "wrong")
    at.wait("document.querySelector('.figures .curve')")
    of_all, *_ = texts(at, ".figures .plot:has(.curve) .mark title")
    assert re.fullmatch(r"A baseline, 1 step n=6: 0.0 \(0.0 to \d+.\d\), 4 examples", of_all)
    marks, spans = (
        at.run(f"document.querySelectorAll('.figures .plot:has(.curve) .{name}').length") for name in ("mark", "span")
    )
    assert marks == spans == 16
    at.choose("breakdown", "M&T")
    at.wait("document.querySelector('.figures .curve')")
    of_one, *_ = texts(at, ".figures .plot:has(.curve) .mark title")
    assert of_one != of_all


def test_the_confusion_opens_on_a_model_with_plans_and_another_can_be_chosen(at, page):
    visit(at, page)
    unfold(at, "wrong")
    assert at.run("document.querySelector('select[name=confusion]').selectedOptions[0].text").endswith("checkpoint-200")
    assert texts(at, ".confusion td.same b")[0] == "100 %"
    at.choose("confusion", "0")
    assert at.run("document.querySelector('select[name=confusion]').selectedOptions[0].text").endswith("baseline")


def test_filters_narrow_the_list_and_stay_in_the_address(at, page):
    visit(at, page, "#examples")
    assert at.run(FOUND) == "42 examples"
    at.choose("dimension", "Spatial")
    assert at.run(FOUND) == "6 of 42 examples"
    assert texts(at, "select[name=task] option") == ["all", "Select book spatial", "Select fruit spatial"]
    at.choose("task", "select_fruit_spatial")
    assert at.run(FOUND) == "3 of 42 examples"
    at.choose("model", "baseline")
    assert "format error, grounded (1)" in texts(at, "select[name=outcome] option")
    at.choose("outcome", "not_right")
    at.choose("error", "wrong_entity")
    assert at.run(FOUND) == "1 of 42 examples"
    example(at, "Spatial / Select fruit spatial / 2")
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
    example(at, "Mesh & texture / Add condiment / 0")
    at.press("j")
    example(at, "Mesh & texture / Add condiment / 1")
    at.press("ArrowDown")
    example(at, "Mesh & texture / Add condiment / 2")
    at.press("k")
    example(at, "Mesh & texture / Add condiment / 1")
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
    example(at, "Mesh & texture / Select fruit / 2")
    assert at.run("document.querySelector('select[name=model]').value") == "baseline"
    at.wait("document.querySelector('[aria-selected=true]')")


def test_a_link_to_no_example_says_so(at, page):
    visit(at, page, "#Spatial/select_fruit_spatial/77")
    assert "no example Spatial/select_fruit_spatial/77" in at.run("document.querySelector('.detail').textContent")
    visit(at, page, "#nowhere%zz?=&sort=7")
    assert at.run("document.querySelector('.overview') !== null")


def test_differences_are_said_in_words_and_signs(at, page):
    visit(at, page, "#Complex/book_rearrange/2")
    example(at, "Complex / Book rearrange / 2")
    rows = at.run(
        "[...document.querySelectorAll('.plans tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert len(rows) == 5  # four steps of the ground truth, and the extra one of checkpoint-200
    assert rows[0][2].startswith("\u2260 entity")
    assert rows[0][3].startswith("\u2713")
    assert rows[0][4] == "Not answered"
    assert rows[4][3].startswith("+ extra")
    visit(at, page, "#Complex/book_rearrange/0")
    example(at, "Complex / Book rearrange / 0")
    assert "No plan in the answer" in texts(at, ".noplan")[0]
    visit(at, page, "#Complex/book_rearrange/1")
    example(at, "Complex / Book rearrange / 1")
    assert texts(at, ".noplan")[0] == "Machine failure, no answerout of memory"


def test_hostile_text_is_shown_as_text(at, page):
    visit(at, page, "#" + "/".join(map(quote, map(str, HOSTILE_PLACE))))
    example(at, "Spatial / Select fruit spatial / 1")
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
    example(at, "Mesh & texture / Select fruit / 0")
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
    example(at, "Complex / Cook dishes / 1")


def test_a_narrow_window_shows_the_list_or_the_example(at, page):
    at.resize(700, 800)
    visit(at, page, "#examples")
    shown = "[...document.querySelectorAll('.list-pane, .detail')].filter((n) => n.offsetWidth).map((n) => n.className)"
    assert at.run(shown) == ["list-pane"]
    at.click(".row[aria-posinset='3']")
    example(at, "Mesh & texture / Add condiment / 2")
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
    example(at, "Mesh & texture / Select fruit / 0")
    assert texts(at, ".scene") == ["picture missingPicture", "picture missingPicture with numbered tags"]
    assert "entity 99" in at.run("document.querySelector('.plans tbody').textContent")
