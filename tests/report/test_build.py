"""The report as a file: hostile text, its size, pictures beside it, and the script that makes it."""

from __future__ import annotations

import pytest

from configs.errors import UserError
from leap.files import read_json, write_json
from leap.vlabench.draws import REPORTED
from tests.conftest import assert_one_line_error, run_script
from tests.report.conftest import HOSTILE, HOSTILE_PLACE, MODELS
from tests.report.index import copied, details_of, island, place_in


def test_hostile_text_is_kept_whole_and_stays_out_of_the_markup(page):
    text = page.read_text(encoding="utf-8")
    assert "onerror" not in text
    assert "window.hacked" not in text
    index = island(page, "index")
    at = place_in(index, *HOSTILE_PLACE)
    assert index["examples"]["instruction"][at] == HOSTILE
    assert details_of(page, at)["answers"][1]["text"].startswith(HOSTILE)


def test_every_example_stands_at_its_place_among_the_islands_of_details(page):
    index = island(page, "index")
    steps = index["examples"]["steps"]
    assert [len(details_of(page, at)["truth"]) for at in range(len(steps))] == steps
    assert page.read_text(encoding="utf-8").count('id="data-details-') == 2  # of 42 examples


def test_what_drawn_answers_come_to_stands_among_the_notes(evaluated, tmp_path):
    place = copied(evaluated, tmp_path)
    path = place.results / "Spatial" / "checkpoint-200" / "summary.json"
    estimates = {
        "pass_at": {"1": [40, 30, 50], "2": [70, 60, 80]},
        "majority": {name: [60, 50, 70] for name in REPORTED},
    }
    write_json(path, read_json(path) | {"draws": {"count": 2, **estimates, "spread": dict.fromkeys(REPORTED, 1.5)}})
    place.report(tmp_path / "r.html", ["baseline", "checkpoint-200"])
    [note] = [note for note in island(tmp_path / "r.html", "overview")["notes"] if "drawn" in note]
    assert note.startswith("checkpoint-200: 2 answers drawn an example, ")
    assert "pass@2 70.0" in note


def test_the_page_keeps_to_its_size(evaluated, tmp_path):
    evaluated.report(tmp_path / "bare.html", ["baseline"], images_folder=True)
    bare = (tmp_path / "bare.html").stat().st_size
    room = 90_000
    evaluated.report(tmp_path / "r.html", ["baseline"], max_megabytes=(bare + room) / 1e6)
    assert bare < (tmp_path / "r.html").stat().st_size <= bare + room
    with pytest.raises(UserError, match="do not fit.*--max-megabytes.*--images-folder"):
        evaluated.report(tmp_path / "r.html", ["baseline"], max_megabytes=(bare + 2_000) / 1e6)
    with pytest.raises(UserError, match="of text alone"):
        evaluated.report(tmp_path / "r.html", ["baseline"], max_megabytes=bare / 2e6)
    assert island(tmp_path / "r.html", "index")["models"] == ["baseline"]  # the old page is still there, whole


def test_whole_pictures_go_to_a_folder_beside_the_page(evaluated, tmp_path):
    evaluated.report(tmp_path / "my report.html", ["baseline"], images_folder=True)
    pictures = island(tmp_path / "my report.html", "index")["pictures"]
    assert pictures["folder"] == "my%20report_images"
    assert sorted(pictures["names"]) == sorted(p.name for p in (tmp_path / "my report_images").iterdir())
    first = evaluated.benchmark / "M&T" / "add_condiment" / "example0" / "input" / "input.png"
    assert (tmp_path / "my report_images" / pictures["names"][0]).read_bytes() == first.read_bytes()
    assert "data-pictures-" not in (tmp_path / "my report.html").read_text(encoding="utf-8")
    evaluated.report(tmp_path / "my report.html", ["baseline"], images_folder=True)  # what is there stays


def test_the_script_writes_the_page_into_the_results(evaluated, tmp_path):
    place = copied(evaluated, tmp_path)
    done = run_script(
        "evaluation/make_report.py", "--results_dir", place.results, "--data_path", place.benchmark, "--title", "Mine"
    )
    assert done.returncode == 0, done.stderr
    assert "thumbnails: 84 different pictures" in done.stdout
    assert str(place.results / "report.html") in done.stdout.splitlines()[-1]
    assert island(place.results / "report.html", "index")["models"] == MODELS
    assert "<title>Mine</title>" in (place.results / "report.html").read_text(encoding="utf-8")


def test_the_script_says_what_is_not_there(evaluated, tmp_path):
    done = run_script("evaluation/make_report.py", "--results_dir", tmp_path)
    assert_one_line_error(done, "no results", str(tmp_path), "run_vlm_evaluation.py")
    done = run_script("evaluation/make_report.py", "--results_dir", evaluated.results, "--models", "nobody")
    assert_one_line_error(done, "'nobody'", "there: baseline, checkpoint-200, constant")
    done = run_script("evaluation/make_report.py", "--results_dir", evaluated.results, "--output", tmp_path)
    assert_one_line_error(done, "--output must be a file")
