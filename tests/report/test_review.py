"""The report's page of a blind review: what it holds, what it hides until asked, and that it goes without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from configs.errors import UserError
from leap.blind.outputs import read_outputs
from leap.files import write_json, write_text
from leap.judge.judged import review_row
from leap.judge.judgements import CONTROLS, JUDGEMENTS_FILE, JUDGES_FOLDER, PEOPLE, REFERENCE_JUDGE, RUBRIC, Judgement
from leap.report.build import build_report
from leap.report.review import collect_review, has_review
from tests.chromium import CHROMIUM, Browser
from tests.conftest import assert_one_line_error, run_script
from tests.judge.review_folder import (
    EMPTY_ROW,
    FAILED_ROW,
    HOSTILE,
    HOSTILE_ROW,
    LLM_JUDGE,
    MISSING_PICTURE_ROW,
    MODELS,
    Review,
    write_outputs,
    write_review,
)
from tests.report.conftest import MODELS as EVALUATED
from tests.report.conftest import Evaluated
from tests.report.index import island


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> Review:
    """Ten rows, five models, three judges, a summary; tests only read it."""
    return write_review(tmp_path_factory.mktemp("a review"))


def collect(review: Review, models=()) -> dict:
    return collect_review(review.folder, list(models), None, review.data.parent).value


def alone(review: Review, output: Path, **options) -> list[str]:
    """The page of a review without any other result."""
    found = collect_review(review.folder, [], None, review.data.parent)
    usual = {"title": "A review", "max_megabytes": 60.0, "images_folder": False}
    return build_report(output.parent, [], output.parent / "none", output, review=found, **usual | options)


@pytest.fixture(scope="module")
def page(review: Review, evaluated: Evaluated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an evaluation and the review."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    found = collect_review(review.folder, EVALUATED, None, review.data.parent)
    evaluated.report(path, EVALUATED, review=found)
    return path


# ---- what the page holds


def test_every_output_and_judgement_is_in_its_row(review):
    found = collect(review)
    names = [name for name, _ in found["models"]]
    assert names == list(MODELS)
    assert found["judges"] == [LLM_JUDGE, PEOPLE, REFERENCE_JUDGE]
    assert found["notes"] == []
    for item, shown in zip(review.items(), found["items"], strict=True):
        assert shown["task"] == item.task_name
        assert {names[plan["model"]]: plan["text"] for plan in shown["plans"]} == {
            model: output.text for model, output in item.outputs.items()
        }
        assert [control["name"] for control in shown["controls"]] == list(CONTROLS)
    first = next(plan for plan in found["items"][0]["plans"] if names[plan["model"]] == MODELS[1])
    assert [(one["judge"], one["repeat"]) for one in first["said"]["rubric"]] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 1),
        (2, 0),
    ]
    assert [one["model_first"] for one in first["said"]["pairwise"]] == [True, False]


def test_the_order_of_plans_stays_and_differs_by_row(review):
    orders = [[plan["model"] for plan in item["plans"]] for item in collect(review)["items"]]
    assert orders == [[plan["model"] for plan in item["plans"]] for item in collect(review)["items"]]
    assert len({order[0] for order in orders}) > 1


def test_models_of_the_evaluation_keep_their_letters(review):
    found = dict(collect(review, ["checkpoint-200", "other", "baseline"])["models"])
    assert (found["checkpoint-200"], found["baseline"]) == (0, 2)
    assert sorted(set(found.values())) == [0, 2, 3, 4, 5]


def test_the_last_word_of_a_judge_counts(review, tmp_path):
    again = write_review(tmp_path, rows=1)
    path = again.folder / JUDGES_FOLDER / REFERENCE_JUDGE / JUDGEMENTS_FILE
    one = json.loads(path.read_text().splitlines()[0])
    corrected = one | {"scores": dict.fromkeys(one["scores"], 5.0)}
    write_text(path, path.read_text() + json.dumps(corrected) + "\n")
    (item,) = collect(again)["items"]
    said = [one for plan in item["plans"] for one in plan["said"]["rubric"] if one["judge"] == 2]
    assert len(said) == len(MODELS)
    assert [one["final"] for one in said].count(5.0) == 1


def test_judgements_of_plans_that_are_gone_are_counted(review, tmp_path):
    fewer = write_review(tmp_path, rows=2)
    fewer.keep_outputs(lambda output: output.model != MODELS[0])
    path = fewer.folder / JUDGES_FOLDER / PEOPLE / JUDGEMENTS_FILE
    write_text(path, json.dumps(Judgement(PEOPLE, RUBRIC, "gone", 0, failure="x").record()) + "\n")
    (note,) = collect(fewer)["notes"]
    # The base's of two rows by the language model (three times, once failed) and by the reference judge, all pairs with
    # it, and the one added.
    stray = 2 * 3 + 2 + 2 * 2 * (len(MODELS) - 1) + 1
    assert note.startswith(f"{stray} judgements are of rows, models or plans that outputs.jsonl does not hold")


def test_no_judgement_of_an_earlier_plan_or_reference_stands_beside_the_plan_of_today(tmp_path):
    changed = write_review(tmp_path, rows=2)
    outputs = read_outputs(changed.outputs)
    again = [replace(o, text="1) Wait.") if (o.model, o.sample) == (MODELS[1], 0) else o for o in outputs]
    again = [replace(o, reference="1) Wave.") if o.sample == 1 else o for o in again]
    write_outputs(changed.folder, again)
    found = collect(changed)
    said = {
        (item["sample"], found["models"][plan["model"]][0]): plan["said"]["rubric"]
        for item in found["items"]
        for plan in item["plans"]
    }
    assert {key for key, of in said.items() if of} == {(0, model) for model in MODELS if model != MODELS[1]}
    assert found["items"][0]["controls"] != []
    assert found["items"][1]["controls"] == []
    (note,) = found["notes"]
    assert "or of references or pictures that changed since; they are not shown" in note


def test_judgements_stay_where_the_pictures_are_not_to_be_found_and_go_where_others_are(tmp_path):
    judged = write_review(tmp_path, rows=1)
    path = judged.folder / JUDGES_FOLDER / REFERENCE_JUDGE / JUDGEMENTS_FILE
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    hashes = review_row(judged.items()[0], None, tmp_path).hashes
    write_text(path, "".join(json.dumps(line | {"pictures": hashes}) + "\n" for line in lines))
    assert collect(judged)["notes"] == []
    (picture,) = (judged.data / "images").iterdir()
    content = picture.read_bytes()
    picture.unlink()
    assert collect(judged)["notes"] == []
    picture.write_bytes(content[:40])  # broken
    assert collect(judged)["notes"] == []
    Image.new("RGB", (8, 8)).save(picture)
    (note,) = collect(judged)["notes"]
    assert note.startswith(f"{len(MODELS)} judgements are of")


def test_a_review_that_nobody_judged_yet_is_shown_without_means(tmp_path):
    bare = write_review(tmp_path, rows=2, judged=False)
    found = collect(bare)
    assert (found["summary"], found["judges"]) == (None, [])
    assert "analyze_output_results.py" in found["notes"][0]
    assert alone(bare, tmp_path / "r.html") == found["notes"]


def test_a_plan_that_never_ends_is_cut_and_says_so(tmp_path):
    long = write_review(tmp_path, rows=1, judged=False)
    outputs = read_outputs(long.outputs)
    write_outputs(long.folder, [replace(output, text="1) Wait. " * 5_600) for output in outputs])
    plan = collect(long)["items"][0]["plans"][0]
    assert (len(plan["text"]), plan["cut"]) == (20_000, 9 * 5_600 - 20_000)


def test_pictures_of_the_review_count_against_the_size(review, tmp_path):
    alone(review, tmp_path / "bare.html", images_folder=True)
    bare = (tmp_path / "bare.html").stat().st_size
    alone(review, tmp_path / "r.html", max_megabytes=(bare + 30_000) / 1e6)
    assert bare + 1_000 < (tmp_path / "r.html").stat().st_size <= bare + 30_000
    with pytest.raises(UserError, match="pictures do not fit"):
        alone(review, tmp_path / "r.html", max_megabytes=(bare + 1_000) / 1e6)
    with pytest.raises(UserError, match="of text alone"):
        alone(review, tmp_path / "r.html", max_megabytes=bare / 2e6)
    assert island(tmp_path / "r.html", "review")["items"][MISSING_PICTURE_ROW]["pictures"] == [-1]


def test_without_a_review_the_page_has_none(evaluated, review, tmp_path):
    assert has_review(review.folder)
    assert not has_review(tmp_path)
    evaluated.report(tmp_path / "r.html", ["baseline"])
    assert island(tmp_path / "r.html", "index")["review"] is False
    assert "data-review" not in (tmp_path / "r.html").read_text("utf-8").replace("`data-${name}`", "")


def test_hostile_text_stays_out_of_the_markup(page):
    text = page.read_text("utf-8")
    assert "onerror" not in text
    assert "window.hacked" not in text
    assert HOSTILE in json.dumps(island(page, "review")["items"][HOSTILE_ROW]).encode().decode("unicode_escape")


# ---- the script


def test_the_script_shows_a_review_alone_and_beside_results(evaluated, review, tmp_path):
    done = run_script(
        *("evaluation/make_report.py", "--results_dir", tmp_path, "--review_dir", review.folder),
        *("--output", tmp_path / "alone.html"),
    )
    assert done.returncode == 0, done.stderr
    assert "thumbnails: 10 different pictures" in done.stdout
    assert island(tmp_path / "alone.html", "index")["models"] == []
    done = run_script(
        *("evaluation/make_report.py", "--results_dir", evaluated.results, "--data_path", evaluated.benchmark),
        *("--review_dir", review.folder, "--output", tmp_path / "both.html", "--models", "baseline"),
    )
    assert done.returncode == 0, done.stderr
    assert island(tmp_path / "both.html", "index")["review"] is True
    assert len(island(tmp_path / "both.html", "review")["models"]) == len(MODELS)


def test_the_script_finds_pictures_that_moved(review, tmp_path):
    moved = write_review(tmp_path / "a", rows=1)
    moved.data.rename(tmp_path / "elsewhere")
    common = ("evaluation/make_report.py", "--results_dir", tmp_path, "--review_dir", moved.folder)
    for options, pictures in (((), [-1]), (("--image_root", tmp_path / "elsewhere"), [0])):
        done = run_script(*common, "--output", tmp_path / "r.html", *options)
        assert done.returncode == 0, done.stderr
        assert island(tmp_path / "r.html", "review")["items"][0]["pictures"] == pictures


def test_the_script_names_a_broken_line_of_the_review(tmp_path):
    broken = write_review(tmp_path, rows=1)
    write_json(broken.folder / "summary.json", {"models": []})
    path = broken.folder / JUDGES_FOLDER / PEOPLE / JUDGEMENTS_FILE
    write_text(path, '{"judge": 1}\n')
    done = run_script("evaluation/make_report.py", "--results_dir", tmp_path, "--review_dir", broken.folder)
    assert_one_line_error(done, f"{path}:1: not a judgement")


# ---- in a browser

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
NAMES = "[...document.querySelectorAll('.plan-card .plan-head .name')].map((node) => node.textContent)"
TASK = "document.querySelector('.review-row blockquote').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def at(browser: Browser) -> Iterator[Browser]:
    """The browser, 1280 pixels wide. After the test nothing was asked of the network and nothing complained."""
    browser.resize(1280, 900)
    yield browser
    browser.run("0")
    asked = [address for address in browser.requests if not address.startswith(("data:", "about:", "file://"))]
    assert (len(asked), browser.errors, browser.run("window.hacked === undefined")) == (0, [], True)


def visit(browser: Browser, page: Path, hash: str = "#review") -> None:
    browser.open(page.as_uri() + hash)
    browser.wait("document.querySelector('.plan-card')")


def order_of(page: Path, row: int) -> list[str]:
    found = island(page, "review")
    return [found["models"][plan["model"]][0] for plan in found["items"][row]["plans"]]


@needs_browser
def test_names_are_hidden_until_they_are_asked_for(at, page):
    visit(at, page)
    names = order_of(page, 0)
    shown = at.run("document.querySelector('.review-row').textContent")
    assert not [name for name in (*MODELS, "against") if name in shown]
    at.click("button[name=plan-1]")
    assert at.run(NAMES) == [names[1]]
    at.click("button[name=plan-1]")
    assert at.run(NAMES) == []
    at.click("input[name=names]")
    assert at.run(NAMES) == names
    at.click("button[name=plan-0]")  # all but one
    assert at.run(NAMES) == names[1:]
    at.press("n")
    assert at.run(NAMES) == names
    at.press("j")
    assert at.run(NAMES) == order_of(page, 1)  # stays so in the next row
    at.press("n")
    assert at.run(NAMES) == []


@needs_browser
def test_a_failed_control_is_the_first_thing_said(at, page):
    visit(at, page)
    warning = at.run("document.querySelector('.review').firstElementChild.textContent")
    assert warning.startswith(f"Warning: {LLM_JUDGE} put control:instructions at 3.10")
    assert at.run("document.querySelectorAll('.findings')[0].children.length") == 2
    rows = at.run("[...document.querySelectorAll('.judged')[0].rows].map((row) => row.textContent)")
    assert len(rows) == 1 + 3 * (1 + len(MODELS))
    assert rows[2].startswith("A baseline2.402.00\u20132.80")
    assert "\u25b2 +0.55" in rows[5]
    assert at.run("[...document.querySelectorAll('.judged .worse')].map((n) => n.textContent)") == ["1", "\u2717 no"]
    at.wait("document.querySelectorAll('.review .plot svg').length === 3")
    assert at.run("document.querySelectorAll('.review .plot')[0].querySelectorAll('.mark').length") == 5 * len(MODELS)


@needs_browser
def test_agreement_in_pairs_and_what_a_flip_is_are_shown(at, page):
    visit(at, page)
    rows = at.run("[...document.querySelectorAll('.verdicts tbody tr')].map((row) => row.textContent)")
    assert rows == [f"{LLM_JUDGE} and reference310.6640"]
    titles = at.run("[...document.querySelectorAll('th[title]')].map((head) => head.title)")
    assert "pairs of which one order named the model and the other the base; they count as ties" in titles


@needs_browser
def test_rows_are_reached_by_keys_choice_and_address(at, page):
    visit(at, page, "#review/4")
    assert at.run(TASK) == "Clear the countertop waste"
    at.press("j")
    assert at.run("location.hash") == "#review/5"
    at.press("k")
    at.choose("row", "9")
    assert at.run(TASK).startswith("Supermarket")
    at.press("j")  # the last one stays
    assert at.run("location.hash") == "#review/9"
    visit(at, page, "#review/77")
    assert at.run(TASK) == "Fold the cloth on the table"
    at.click("nav a[href='#overview']")
    at.wait("document.querySelector('.overview:not(.review)')")
    at.click("nav a[href='#review']")
    at.wait("document.querySelector('.plan-card')")


@needs_browser
def test_failures_empty_plans_and_missing_pictures_are_said(at, page):
    visit(at, page, f"#review/{FAILED_ROW}")
    assert "Machine failure, no answerout of memory" in at.run("document.querySelector('.noplan').textContent")
    visit(at, page, f"#review/{EMPTY_ROW}")
    assert "Nothing was written." in at.run("document.querySelector('.sheet-of-plans').textContent")
    visit(at, page, f"#review/{MISSING_PICTURE_ROW}")
    assert at.run("document.querySelector('.scene').textContent") == "picture missingPicture"
    visit(at, page, "#review/1")
    assert at.run("document.querySelector('.failed').textContent") == "failed: the reply held no scores"
    at.wait("[...document.querySelectorAll('.scene img')].filter((image) => image.naturalWidth).length === 2")


@needs_browser
def test_verdicts_in_both_orders_and_reasons_come_with_the_name(at, page):
    visit(at, page, "#review/1")
    at.press("n")
    place = order_of(page, 1).index("checkpoint-400")
    card = f"document.querySelectorAll('.plan-card')[{place}]"
    pairs = at.run(f"[...{card}.querySelectorAll('.pairs li')].map((node) => node.textContent)")
    assert [text.split(":")[0] for text in pairs] == [
        f"{LLM_JUDGE} against baseline, this plan shown {order}" for order in ("first", "second")
    ]
    reasons = at.run(f"{card}.querySelector('.reasons').textContent")
    assert "Reasons and comments (7)" in reasons
    assert "people 2Too coarse." in reasons


@needs_browser
def test_hostile_plans_and_reasons_are_shown_as_text(at, page):
    visit(at, page, f"#review/{HOSTILE_ROW}")
    assert HOSTILE in at.run("[...document.querySelectorAll('.written')].map((node) => node.textContent)")
    assert HOSTILE in at.run("[...document.querySelectorAll('.reasons dd')].map((node) => node.textContent)")
    assert at.run("document.querySelectorAll('img[src=x], .written *').length") == 0


@needs_browser
def test_the_page_of_a_review_alone_opens_with_it(at, review, tmp_path):
    alone(review, tmp_path / "r.html")
    visit(at, tmp_path / "r.html", "")
    assert at.run("[...document.querySelectorAll('nav a')].map((node) => node.textContent)") == ["Blind review"]
    at.resize(420, 900)
    assert at.run("document.documentElement.scrollWidth") <= 420


@needs_browser
def test_without_a_review_there_is_no_link_to_it(at, evaluated, tmp_path):
    evaluated.report(tmp_path / "r.html", ["baseline"])
    at.open((tmp_path / "r.html").as_uri() + "#review")
    at.wait("document.querySelector('.overview')")
    links = at.run("[...document.querySelectorAll('nav a')].map((node) => node.textContent)")
    assert "Blind review" not in links
    assert len(links) == 2


def test_files_that_rows_name_and_are_no_pictures_of_the_data_stay_out_of_the_page(tmp_path):
    hostile = write_review(tmp_path / "a", rows=1, judged=False)
    (picture,) = (hostile.data / "images").iterdir()
    secret, private = tmp_path / "a" / "secret.env", tmp_path / "a" / "private.png"
    secret.write_text("TOKEN=abc")
    Image.new("RGB", (8, 8), "red").save(private)
    (hostile.data / "images" / "link.png").symlink_to(private)
    (hostile.data / "images" / "text.png").write_text("TOKEN=abc")
    images = [f"images/{picture.name}", "../secret.env", str(private), "images/link.png", "images/text.png"]
    write_outputs(hostile.folder, [replace(output, images=images) for output in read_outputs(hostile.outputs)])
    common = ("evaluation/make_report.py", "--results_dir", tmp_path, "--review_dir", hostile.folder)
    done = run_script(*common, "--output", tmp_path / "r.html", "--images-folder")
    assert done.returncode == 0, done.stderr
    (placed,) = (tmp_path / "r_images").iterdir()
    assert placed.read_bytes() == picture.read_bytes()
    assert island(tmp_path / "r.html", "review")["items"][0]["pictures"] == [0, -1, -1, -1, -1]
    left_out = [line for line in done.stdout.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 4
    for words in ("secret.env leads to", "private.png lies outside", "link.png leads to", "text.png is no intact"):
        assert any(words in line for line in left_out), (words, left_out)
    run_script(*common, "--output", tmp_path / "thumbnails.html")
    assert island(tmp_path / "thumbnails.html", "review")["items"][0]["pictures"][:4] == [0, -1, -1, -1]
