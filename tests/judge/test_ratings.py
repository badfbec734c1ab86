"""Ratings by people: what the sheet shows and hides, and how its CSV is read back."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from configs.errors import UserError
from leap.blind.outputs import items_of, read_outputs
from leap.files import read_json, write_json, write_text
from leap.judge.judged import review_row, up_to_date
from leap.judge.judgements import PEOPLE, RUBRIC, SCALES
from leap.judge.plan_text import normalised
from leap.judge.ratings import CSV_COLUMNS, KEY_FILE, RATINGS_FILE, SHEET_FILE, read_ratings, write_sheet
from tests.chromium import CHROMIUM, Browser
from tests.conftest import assert_one_line_error, run_script
from tests.judge.review_folder import (
    ALIKE_ROW,
    EMPTY_ROW,
    FAILED_ROW,
    HOSTILE,
    HOSTILE_ROW,
    MISSING_PICTURE_ROW,
    MODELS,
    Review,
    write_outputs,
    write_review,
)

HEADER = ",".join(CSV_COLUMNS)


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> Review:
    """Ten rows and five models, with the sheet and its key; tests only read it."""
    review = write_review(tmp_path_factory.mktemp("a review"), judged=False)
    make(review, review.folder)
    return review


def make(review: Review, folder: Path, models=MODELS, seed: int = 0, rows: int | None = None) -> None:
    write_sheet(folder / SHEET_FILE, review.items()[:rows], models, seed, None, review.data.parent)


def islands(sheet: Path) -> dict[str, str]:
    found = re.findall(r'<script type="text/plain" id="data-([^"]*)">([^<]*)</script>', sheet.read_text("utf-8"))
    return dict(found)


def data_of(sheet: Path) -> dict[str, Any]:
    return json.loads(zlib.decompress(base64.b64decode(islands(sheet)["sheet"])))


def pictures_of(sheet: Path) -> list[bytes]:
    return [base64.b64decode(line) for line in islands(sheet)["pictures-0"].split("\n")]


def key_of(folder: Path) -> dict[str, dict]:
    return read_json(folder / KEY_FILE)["plans"]


def plan_of(folder: Path, sample: int, model: str) -> str:
    return next(p for p, e in key_of(folder).items() if e["sample"] == sample and model in e["models"])


# ---- the sheet


def test_the_sheet_tells_nothing_about_models_files_and_folders(review):
    sheet = review.folder / SHEET_FILE
    shown = sheet.read_text("utf-8") + json.dumps(data_of(sheet))
    pictures = b"".join(pictures_of(sheet))
    images = {image for item in review.items() for image in item.images}
    secrets = [*MODELS, str(review.data), "images/", *images, *(Path(image).name for image in images)]
    for secret in secrets:
        assert secret not in shown
        assert secret.encode() not in pictures


def test_pictures_keep_their_pixels_alone(review):
    for content in pictures_of(review.folder / SHEET_FILE):
        with Image.open(io.BytesIO(content)) as picture:
            assert set(picture.info) <= {"loop", "background", "timestamp", "duration"}  # what WebP always has
            assert not picture.getexif()


def test_large_pictures_are_scaled_down(review, tmp_path):
    small = write_review(tmp_path / "r", rows=1, judged=False)
    Image.new("RGB", (4000, 1000), "red").save(small.data / "images" / "300-6000.png")
    make(small, tmp_path)
    with Image.open(io.BytesIO(pictures_of(tmp_path / SHEET_FILE)[0])) as picture:
        assert picture.size == (1024, 256)


def test_every_plan_is_there_in_one_form_and_failed_outputs_are_not(review):
    items = data_of(review.folder / SHEET_FILE)["items"]
    key = key_of(review.folder)
    assert len(items) == 10
    for item, entry in zip(review.items(), items, strict=True):
        texts = {normalised(output.text) for output in item.outputs.values() if output.text is not None}
        assert {plan["text"] for plan in entry["plans"]} == texts
        assert {key[plan["id"]]["sample"] for plan in entry["plans"]} == {item.sample}
    assert len(items[FAILED_ROW]["plans"]) == len(MODELS) - 1
    assert "" in [plan["text"] for plan in items[EMPTY_ROW]["plans"]]
    assert items[MISSING_PICTURE_ROW]["pictures"] == [-1]
    assert HOSTILE.split()[0] in str(items[HOSTILE_ROW])


def test_a_plan_that_two_models_wrote_is_shown_once_and_counts_for_both(review):
    assert len(data_of(review.folder / SHEET_FILE)["items"][ALIKE_ROW]["plans"]) == len(MODELS) - 1
    plan = plan_of(review.folder, ALIKE_ROW, MODELS[0])
    assert key_of(review.folder)[plan]["models"] == list(MODELS[:2])
    path = review.folder / "alike.csv"
    write_text(path, f"{HEADER}\nAnn,{plan},1,2,3,4,\n")
    found = read_ratings(path, review.folder / KEY_FILE, review.items())
    assert [judgement.model for judgement in found] == list(MODELS[:2])
    assert found[0].scores == found[1].scores


def test_the_seed_shuffles_and_nothing_else_does(review, tmp_path):
    orders = []
    for name, seed, models in (("a", 0, MODELS), ("b", 0, MODELS[::-1]), ("c", 1, MODELS)):
        make(review, tmp_path / name, models, seed)
        orders.append(
            [[plan["text"] for plan in item["plans"]] for item in data_of(tmp_path / name / SHEET_FILE)["items"]]
        )
    assert orders[0] == orders[1] != orders[2]
    assert len(set(map(len, orders[0]))) > 1
    by_model = [
        [key_of(tmp_path / "a")[plan["id"]]["models"][0] for plan in item["plans"]]
        for item in data_of(tmp_path / "a" / SHEET_FILE)["items"]
    ]
    assert len({models[0] for models in by_model}) > 1  # no model is always first


def test_ids_stay_when_models_are_added(review, tmp_path):
    make(review, tmp_path, MODELS[:2])
    assert key_of(tmp_path).keys() <= key_of(review.folder).keys()
    make(review, tmp_path, seed=1)
    assert not key_of(tmp_path).keys() & key_of(review.folder).keys()


def test_without_any_plan_there_is_no_sheet(review, tmp_path):
    failed = [replace(o, text=None, failure={"kind": "machine", "reason": "x"}) for o in read_outputs(review.outputs)]
    with pytest.raises(UserError, match="no plan to rate"):
        write_sheet(tmp_path / "s.html", items_of(failed, tmp_path), MODELS, 0, None, tmp_path)
    assert not list(tmp_path.iterdir())


# ---- the ratings


def read(review: Review, text: str, tmp_path: Path, encoding: str = "utf-8"):
    path = tmp_path / RATINGS_FILE
    path.write_bytes(text.encode(encoding))
    return read_ratings(path, review.folder / KEY_FILE, review.items())


def test_ratings_become_judgements_of_people(review, tmp_path):
    first, second = (plan_of(review.folder, sample, MODELS[1]) for sample in (0, 1))
    found = read(
        review, f'{HEADER}\nZoe,{first},5,4,3,2,"well, ""so"""\nAnn,{first},1,1,1,1,\nZoe,{second},5,5,5,5,\n', tmp_path
    )
    assert [(j.judge, j.protocol, j.model, j.sample, j.repeat) for j in found] == [
        (PEOPLE, RUBRIC, MODELS[1], 0, 1),  # Zoe comes after Ann
        (PEOPLE, RUBRIC, MODELS[1], 0, 0),
        (PEOPLE, RUBRIC, MODELS[1], 1, 1),
    ]
    assert found[0].scores == dict(zip(SCALES, (5, 4, 3, 2), strict=True))
    assert found[0].final_score == 3.5
    assert found[0].reasoning == 'well, "so"'


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_saved_by_a_spreadsheet_program_reads_the_same(review, tmp_path, delimiter, end):
    plan = plan_of(review.folder, 0, MODELS[0])
    rows = [CSV_COLUMNS, ("J\u00f6rg", plan, "4", "4.0", " 3", "5", '"a, b; c\r\nd"'), ("",) * len(CSV_COLUMNS)]
    (found,) = read(review, end.join(delimiter.join(row) for row in rows) + end, tmp_path, "utf-8-sig")
    assert list(found.scores.values()) == [4, 4, 3, 5]
    assert found.reasoning == "a, b; c\r\nd"


def test_a_folder_of_exports_is_read_as_one(review, tmp_path):
    plan = plan_of(review.folder, 0, MODELS[0])
    for rater in ("ann", "bob"):
        write_text(tmp_path / f"{rater}.csv", f"{HEADER}\n{rater},{plan},1,2,3,4,\n")
    assert [j.repeat for j in read_ratings(tmp_path, review.folder / KEY_FILE, review.items())] == [0, 1]
    write_text(tmp_path / "c.csv", f"{HEADER}\nann,{plan},1,2,3,4,\n")
    with pytest.raises(UserError, match=r"c.csv:2: ann rated plan .* in .*ann.csv:2 already"):
        read_ratings(tmp_path, review.folder / KEY_FILE, review.items())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Ann,pffff,1,2,3,4,", r"ratings.csv:3: .* knows no plan 'pffff'"),
        ("Ann,{plan},1,2,3,6,", r"ratings.csv:3: granularity must be a whole number from 1 to 5, found '6'"),
        ("Ann,{plan},1,,3,4,", r"ratings.csv:3: logical_sequence must be .* found ''"),
        ("Ann,{plan},1,2.5,3,4,", r"ratings.csv:3: logical_sequence must be .* found '2.5'"),
        ("Zoe,{plan},1,2,3,4,", r"ratings.csv:3: Zoe rated plan \w+ in .*ratings.csv:2 already"),
        (",{plan},1,2,3,4,", r"ratings.csv:3: the rating has no rater"),
        ("Ann,{plan},1,2,3", r"ratings.csv:3: not as many fields as columns"),
        ("Ann,{plan},1,2,3,4,a,b", r"ratings.csv:3: not as many fields as columns"),
    ],
)
def test_a_rating_that_cannot_be_read_is_named_by_file_and_line(review, tmp_path, row, message):
    plan = plan_of(review.folder, 0, MODELS[0])
    with pytest.raises(UserError, match=message):
        read(review, f"{HEADER}\nZoe,{plan},1,2,3,4,\n{row.format(plan=plan)}\n", tmp_path)


def test_a_file_that_holds_no_ratings_says_why(review, tmp_path):
    with pytest.raises(UserError, match="has no column granularity"):
        read(review, HEADER.replace("granularity", "grain") + "\n", tmp_path)
    with pytest.raises(UserError, match="has no column rater"):
        read(review, "", tmp_path)
    with pytest.raises(UserError, match="no ratings in"):
        read(review, HEADER, tmp_path)
    with pytest.raises(UserError, match="not UTF-8"):
        read(review, "J\u00f6rg", tmp_path, "latin-1")
    with pytest.raises(UserError, match="cannot read"):
        read_ratings(tmp_path / "none.csv", review.folder / KEY_FILE, review.items())


def test_a_key_of_other_outputs_is_refused(review, tmp_path):
    plan = plan_of(review.folder, 0, MODELS[0])
    write_text(tmp_path / RATINGS_FILE, f"{HEADER}\nAnn,{plan},1,2,3,4,\n")
    outputs = read_outputs(review.outputs)
    key = review.folder / KEY_FILE
    others = [replace(o, text="1) Wait.") if (o.model, o.sample) == (MODELS[2], 0) else o for o in outputs]
    with pytest.raises(UserError, match=f"belongs to other outputs: plan .* is not what {MODELS[2]} wrote for row 0"):
        read_ratings(tmp_path / RATINGS_FILE, key, items_of(others, tmp_path))
    with pytest.raises(UserError, match="belongs to other outputs"):
        read_ratings(tmp_path / RATINGS_FILE, key, [item for item in review.items() if item.sample != 1])
    write_json(tmp_path / "key.json", {"plans": {"p": {"sample": 0}}})
    with pytest.raises(UserError, match="is no key of a rating sheet"):
        read_ratings(tmp_path / RATINGS_FILE, tmp_path / "key.json", review.items())
    with pytest.raises(UserError, match=r"no key.*make_rating_sheet.py"):
        read_ratings(tmp_path / RATINGS_FILE, tmp_path / "none.json", review.items())


def test_ratings_beside_another_task_or_reference_are_refused_and_those_of_other_pictures_carry_theirs(
    review, tmp_path
):
    plan = plan_of(review.folder, 0, MODELS[0])
    write_text(tmp_path / RATINGS_FILE, f"{HEADER}\nAnn,{plan},1,2,3,4,\n")
    key = review.folder / KEY_FILE
    (found,) = read_ratings(tmp_path / RATINGS_FILE, key, review.items())
    rows = [review_row(item, None, review.data.parent) for item in review.items()]
    assert up_to_date([found], rows, MODELS) == [found]
    assert up_to_date([found], [replace(rows[0], hashes=[])], MODELS) == [found]  # not to be found today
    assert up_to_date([found], [replace(rows[0], hashes=["other"])], MODELS) == []
    for change in ({"reference": "1) Wave."}, {"prompt": "Wave."}, {"task_name": "Wave"}, {"images": []}):
        items = [replace(item, **change) if item.sample == 0 else item for item in review.items()]
        with pytest.raises(UserError, match=r"belongs to other outputs: row 0 has another task or reference"):
            read_ratings(tmp_path / RATINGS_FILE, key, items)


def test_ids_are_others_where_the_row_shows_something_else(review, tmp_path):
    items = [replace(item, reference="1) Wave.") if item.sample == 0 else item for item in review.items()]
    write_sheet(tmp_path / SHEET_FILE, items, MODELS, 0, None, review.data.parent)
    known = {plan for plan, entry in key_of(review.folder).items() if entry["sample"] == 0}
    assert not known & key_of(tmp_path).keys()
    assert len(key_of(tmp_path).keys() & key_of(review.folder).keys()) == len(key_of(review.folder)) - len(known)
    write_sheet(tmp_path / SHEET_FILE, review.items(), MODELS, 0, tmp_path / "none", tmp_path)  # without pictures
    shared = key_of(tmp_path).keys() & key_of(review.folder).keys()
    assert {key_of(review.folder)[plan]["sample"] for plan in shared} == {MISSING_PICTURE_ROW}


# ---- the script


def test_ratings_of_a_sheet_that_lies_elsewhere_are_read_with_its_key(tmp_path):
    review = write_review(tmp_path, judged=False)
    made = ("evaluation/make_rating_sheet.py", "--review_dir", review.folder, "--output", tmp_path / "send" / "s.html")
    done = run_script(*made)
    assert done.returncode == 0, done.stderr
    key = tmp_path / "send" / KEY_FILE
    assert f"--human ratings.csv --human_key {key}" in done.stdout
    plans = read_json(key)["plans"]
    write_text(tmp_path / RATINGS_FILE, f"{HEADER}\n" + "".join(f"Ann,{plan},3,3,3,3,\n" for plan in plans))
    judge = (
        *("evaluation/analyze_output_results.py", "--review_dir", review.folder, "--judge", "reference"),
        *("--human", tmp_path / RATINGS_FILE),
    )
    assert_one_line_error(run_script(*judge), "no key to the ratings", "--human_key")
    done = run_script(*judge, "--human_key", key)
    assert done.returncode == 0, done.stderr
    models = read_json(review.folder / "summary.json")["judges"]["people"]["models"]
    assert [of["items"] for of in models.values()] == [10, 10, 10, 10, 9]
    # Ratings of a plan that was written anew since do not count, and are not read again.
    outputs = read_outputs(review.outputs)
    write_outputs(review.folder, [replace(o, text="1) Wait.") if o.model == MODELS[1] else o for o in outputs])
    assert_one_line_error(run_script(*judge, "--human_key", key), "belongs to other outputs")
    done = run_script(*judge[:-2])
    assert "10 judgements of other rows, models or bases" in done.stdout
    assert read_json(review.folder / "summary.json")["judges"]["people"]["models"][MODELS[1]]["items"] == 0


def test_the_script_writes_sheet_and_key_and_says_what_is_missing(review, tmp_path):
    done = run_script(
        *("evaluation/make_rating_sheet.py", "--review_dir", review.folder, "--output", tmp_path / "s.html"),
        *("--models", MODELS[0], MODELS[-1], "--max_items", 5),
    )
    assert done.returncode == 0, done.stderr
    assert "note: 1 pictures are missing" in done.stdout
    assert "note: 1 outputs failed" in done.stdout
    assert "s.html: 9 plans of 2 models, 5 rows" in done.stdout
    assert {model for entry in key_of(tmp_path).values() for model in entry["models"]} == {MODELS[0], MODELS[-1]}


def test_the_script_says_what_is_not_there(review, tmp_path):
    done = run_script("evaluation/make_rating_sheet.py", "--review_dir", tmp_path)
    assert_one_line_error(done, "no outputs to judge", "run_vlm_output.py")
    done = run_script("evaluation/make_rating_sheet.py", "--review_dir", review.folder, "--models", "nobody")
    assert_one_line_error(done, "no outputs of 'nobody'", MODELS[1])


# ---- the sheet in a browser

STATE = "document.querySelector('.progress span').textContent"
SAID = "document.querySelector('.said').textContent"
FOCUS = "(({plan, scale}) => [plan, scale])(document.activeElement.closest('fieldset').dataset)"

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture
def at(review: Review, tmp_path: Path) -> Iterator[Browser]:
    """A browser with the sheet open that saves downloads in tmp_path. Afterwards nothing was asked of the network and
    nothing complained."""
    browser = Browser(tmp_path / "profile")
    browser.resize(1280, 900)
    browser.do("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    visit(browser, review)
    yield browser
    browser.run("0")
    asked = [address for address in browser.requests if not address.startswith(("data:", "about:", "blob:", "file:"))]
    errors, hacked = browser.errors, browser.run("window.hacked !== undefined")
    browser.close()
    assert (len(asked), errors, hacked) == (0, [], False)


def visit(browser: Browser, review: Review) -> None:
    browser.open((review.folder / SHEET_FILE).as_uri())
    browser.wait("document.querySelector('.plan')")


def shown_plans(review: Review) -> list[str]:
    return [plan["id"] for item in data_of(review.folder / SHEET_FILE)["items"] for plan in item["plans"]]


def rate(browser: Browser, keys: str) -> None:
    for key in keys:
        browser.press(key)


def export(browser: Browser, folder: Path) -> Path:
    path = folder / RATINGS_FILE
    path.unlink(missing_ok=True)
    browser.click("button[name=export]")
    for _ in range(200):
        if path.is_file() and path.stat().st_size:
            return path
        browser.run("new Promise((done) => setTimeout(done, 25))")
    raise TimeoutError("no download")


@needs_browser
def test_ratings_by_keyboard_outlive_the_page_and_come_out_as_csv(at, review, tmp_path):
    first, second = shown_plans(review)[:2]
    rate(at, "n4321")  # four scores, each of which goes on to the next scale
    assert at.run(FOCUS) == [second, SCALES[0]]
    rate(at, "55")
    rate(at, "k0")  # back, and taken back
    assert at.run(STATE) == "1 of 48 plans rated"
    at.press("c")
    rate(at, "a 1,;")  # typed, no scores
    at.press("Escape")
    at.click("input[name=rater]")
    rate(at, "Ann")
    visit(at, review)
    assert at.run(STATE) == "1 of 48 plans rated"
    assert at.run("document.querySelector('input[name=rater]').value") == "Ann"
    assert at.run(f"document.querySelector('#plan-{second} textarea').value") == "a 1,;"
    assert at.run(f"document.querySelector('#plan-{second} .state').textContent") == "3 to go"
    at.press("n")
    assert at.run(FOCUS) == [second, SCALES[1]]
    rate(at, "n")
    rate(at, "222")
    path = export(at, tmp_path)
    assert at.run(SAID) == "ratings.csv holds 2 plans. 46 plans without all four scores left out."
    found = read_ratings(path, review.folder / KEY_FILE, review.items())
    scores = {(j.model, j.sample): list(j.scores.values()) for j in found}
    key = key_of(review.folder)
    assert scores == {(key[first]["models"][0], 0): [4, 3, 2, 1], (key[second]["models"][0], 0): [5, 2, 2, 2]}
    assert {j.reasoning for j in found} == {"", "a 1,;"}


@needs_browser
def test_an_earlier_export_is_taken_over_and_newer_ratings_stay(at, review, tmp_path):
    first, second, third = shown_plans(review)[:3]
    earlier = tmp_path / "earlier.csv"
    rows = [
        f"Ann;{first};1;1;1;1;",
        f'Ann;{second};2;2;2;2;"a;\r\n""b"""',
        "Ann;pffff;1;1;1;1;",
        f"Ann;{third};9;1;1;1;",
    ]
    earlier.write_bytes("\r\n".join([HEADER.replace(",", ";"), *rows, ""]).encode("utf-8-sig"))
    rate(at, "n5")  # rated here already
    document = at.do("DOM.getDocument")["root"]["nodeId"]
    node = at.do("DOM.querySelector", nodeId=document, selector="input[type=file]")["nodeId"]
    at.do("DOM.setFileInputFiles", nodeId=node, files=[str(earlier)])
    at.wait(f"{SAID}.length > 0")
    assert at.run(SAID) == (
        "1 rating taken over, 1 left as they are here, 1 of plans that are not on this sheet, "
        "1 with scores that are none."
    )
    assert at.run("document.querySelector('input[name=rater]').value") == "Ann"
    assert at.run(STATE) == "1 of 48 plans rated"
    path = export(at, tmp_path)
    (found,) = read_ratings(path, review.folder / KEY_FILE, review.items())
    assert (found.final_score, found.reasoning) == (2, 'a;\r\n"b"')


@needs_browser
def test_a_browser_that_keeps_nothing_says_so_and_still_exports(at, review, tmp_path):
    forbid = "Storage.prototype.setItem = () => { throw new Error('forbidden'); };"
    at.do("Page.addScriptToEvaluateOnNewDocument", source=forbid)
    visit(at, review)
    assert at.run(SAID).startswith("This browser keeps nothing for this page.")
    rate(at, "n3333")
    at.click("input[name=rater]")
    rate(at, "Bo")
    found = read_ratings(export(at, tmp_path), review.folder / KEY_FILE, review.items())
    assert {judgement.final_score for judgement in found} == {3}


@needs_browser
def test_an_export_needs_a_name_and_a_rated_plan(at, review):
    at.click("button[name=export]")
    assert at.run(SAID) == "Write your name first; the ratings carry it."
    rate(at, "Ann")
    at.click("button[name=export]")
    assert "nothing to export" in at.run(SAID)


@needs_browser
def test_the_mouse_rates_too_and_what_is_missing_is_said_in_its_place(at, review):
    first = shown_plans(review)[0]
    at.click(f"fieldset[data-plan={first}][data-scale=granularity] label:nth-of-type(2)")
    assert at.run(f"document.querySelector('#plan-{first} .state').textContent") == "3 to go"
    assert at.run("document.querySelector('.scale.now h2').textContent").lower().startswith("granularity")
    texts = at.run("[...document.querySelectorAll('.task')].map((node) => node.textContent)")
    assert "The picture is missing." in texts[MISSING_PICTURE_ROW]
    assert "this plan is empty" in texts[EMPTY_ROW]
    assert normalised(HOSTILE) in texts[HOSTILE_ROW]
    assert at.run("document.querySelectorAll('img[src=x], .text *').length") == 0
    at.wait("[...document.querySelectorAll('.picture img')].filter((image) => image.naturalWidth).length === 10")
    at.resize(420, 900)
    assert at.run("document.documentElement.scrollWidth") <= 420
