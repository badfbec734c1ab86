"""The report's data and file: what it holds, how it fits a size, what it says when something is missing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest

from configs.config import DIMENSIONS
from configs.errors import UserError
from leap.files import read_json, write_json
from leap.pages.page import packed
from leap.plans.diagnosis import diagnose
from leap.plans.reading import Step, fenced
from leap.report.examples import FLAGS, collect_examples
from leap.report.overview import overview_of, rows_by_dimension
from leap.report.steps import pairings
from tests.conftest import assert_one_line_error, run_script
from tests.report.conftest import HOSTILE, HOSTILE_PLACE, MODELS, Evaluated, right, write_model

ASSETS = Path(__file__).resolve().parents[2] / "leap" / "report" / "assets"


def island(page: Path, name: str) -> Any:
    """The value in an island of the page."""
    found = re.search(rf'<script type="text/plain" id="data-{name}">([^<]*)</script>', page.read_text(encoding="utf-8"))
    return json.loads(zlib.decompress(base64.b64decode(found.group(1))))


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


# ---- the file


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


def test_hostile_text_is_kept_whole_and_stays_out_of_the_markup(page):
    text = page.read_text(encoding="utf-8")
    assert "onerror" not in text
    assert "window.hacked" not in text
    index = island(page, "index")
    at = place_in(index, *HOSTILE_PLACE)
    assert index["examples"]["instruction"][at] == HOSTILE
    task = index["examples"]["task"][at]
    details = island(page, f"details-{task}")[at - index["examples"]["task"].index(task)]
    assert details["answers"][1]["text"].startswith(HOSTILE)


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


# ---- examples


def test_every_answer_has_its_outcome_and_errors(page):
    index = island(page, "index")
    first, second = (place_in(index, "M&T", "select_fruit", number) for number in (0, 1))
    assert flags_of(index, 0, first) == {"unparsable", "format_error", "official_format_error"}
    assert flags_of(index, 0, second) == {"machine_failure"}
    assert flags_of(index, 1, first) == {"right"}
    assert flags_of(index, 2, first) == {"not_right", "wrong_entity", "wrong_container"}
    assert flags_of(index, 1, place_in(index, "Complex", "book_rearrange", 0)) == {"not_right", "extra_step"}
    assert flags_of(index, 2, place_in(index, "Complex", "book_rearrange", 0)) == {"no_answer"}


def test_what_was_not_answered_has_no_score(page):
    index = island(page, "index")
    failed, not_asked = place_in(index, "M&T", "select_fruit", 1), place_in(index, "Complex", "cook_dishes", 0)
    assert index["answers"][0]["grounded"][failed] is None
    assert index["answers"][2]["official"][not_asked] is None
    assert index["answers"][0]["grounded"][place_in(index, "M&T", "select_fruit", 0)] == 0


def test_the_counts_of_errors_are_those_of_the_summaries(evaluated):
    found = collect_examples(evaluated.results, MODELS, evaluated.benchmark)
    for model in MODELS:
        for dimension, counts in found.diagnoses[model].items():
            summary = read_json(evaluated.results / dimension / model / "summary.json")
            assert {name: counts[name] for name in summary["diagnosis"]} == summary["diagnosis"]
            assert counts["answers"] == summary["examples"]["answered"]


def test_the_torn_last_line_of_a_running_evaluation_is_passed_over(evaluated, tmp_path):
    place = copied(evaluated, tmp_path)
    journal = place.results / "Spatial" / "baseline" / "generations.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    found = collect_examples(place.results, ["baseline"], place.benchmark)
    assert len(found.index["examples"]["task"]) == 14 * 3 - 1


def test_a_broken_line_inside_a_journal_is_named(evaluated, tmp_path):
    place = copied(evaluated, tmp_path)
    journal = place.results / "Spatial" / "baseline" / "generations.jsonl"
    journal.write_bytes(b'{"task": "x"}\n' + journal.read_bytes())
    with pytest.raises(UserError, match=r"generations.jsonl:1"):
        collect_examples(place.results, ["baseline"], place.benchmark)


def test_an_answer_that_is_not_scored_yet_has_no_score(evaluated, tmp_path):
    place = copied(evaluated, tmp_path)
    for name in ("final_score.json", "grounded_score.json"):
        (place.results / "Spatial" / "checkpoint-200" / name).unlink()
    found = collect_examples(place.results, ["checkpoint-200"], place.benchmark)
    at = place_in(found.index | {"tasks": [list(t) for t in found.index["tasks"]]}, *HOSTILE_PLACE)
    assert found.index["answers"][0]["grounded"][at] is None
    assert flags_of(found.index, 0, at) == set()


def test_a_text_that_never_ends_is_cut_and_says_so(evaluated, tmp_path):
    place = Evaluated(evaluated.benchmark, tmp_path)
    write_model(place, "endless", lambda example: right(example) + "x" * 30_000, ["Spatial"])
    found = collect_examples(place.results, ["endless"], place.benchmark)
    answer = found.details[0][0]["answers"][0]
    assert len(answer["text"]) == 20_000
    assert answer["cut"] > 10_000
    assert answer["rows"][0][2] == []


def test_thousands_of_steps_are_cut_and_counted(evaluated, tmp_path):
    place = Evaluated(evaluated.benchmark, tmp_path)
    write_model(place, "endless", lambda example: fenced(example.ground_truth() * 500), ["Spatial"])
    answer = collect_examples(place.results, ["endless"], place.benchmark).details[0][0]["answers"][0]
    assert (len(answer["rows"]), answer["more"]) == (60, 940)
    assert len(answer["steps"]) <= 60


def test_steps_out_of_turn_are_marked_and_the_others_not():
    truth = [
        {"name": "pick", "params": {"target_entity_name": 1}},
        {"name": "pour", "params": {"target_container_name": 2}},
        {"name": "place", "params": {"target_container_name": 3}},
    ]
    true = [Step("pick", 1, None), Step("pour", None, 2), Step("place", None, 3)]
    plan = fenced([truth[2], truth[0], truth[1]])
    rows = pairings(true, diagnose(plan, truth, order_independent=False), order_independent=False)
    assert rows == [(0, 1, []), (1, 2, []), (2, 0, ["wrong_order"])]


# ---- what is missing


def test_without_the_benchmark_the_page_says_so_and_keeps_what_the_results_know(evaluated, tmp_path):
    notes = evaluated.report(tmp_path / "r.html", MODELS, benchmark=tmp_path / "none")
    assert len(notes) == 1
    assert "no pictures" in notes[0]
    assert str(tmp_path / "none") in notes[0]
    index = island(tmp_path / "r.html", "index")
    assert set(index["examples"]["instruction"]) == {None}
    assert {number for pair in index["examples"]["pictures"] for number in pair} == {-1}
    at = place_in(index, "M&T", "select_fruit", 0)
    assert flags_of(index, 2, at) == {"not_right", "wrong_entity", "wrong_container"}  # of diagnosis.json
    answer = island(tmp_path / "r.html", f"details-{index['examples']['task'][at]}")[0]["answers"][2]
    assert answer["rows"] is None
    assert answer["steps"][0][1] == 99
    overview = island(tmp_path / "r.html", "overview")
    assert overview["models"][2]["diagnoses"]["M&T"]["labels"]["wrong_entity"] == 12  # of the summary
    assert overview["notes"] == notes


def test_a_missing_dimension_is_no_zero(evaluated):
    scores = overview_of(evaluated.results, ["constant"], {})["models"][0]["scores"]["grounded"]
    assert "Complex" not in scores["dimensions"]
    assert scores["complete"] is False


def test_the_difference_from_the_base_is_over_the_examples_both_answered(evaluated):
    differences = overview_of(evaluated.results, MODELS, {})["differences"]
    assert differences["base"] == "baseline"
    assert (differences["of"][0]["scorer"], differences["of"][0]["metric"]) == ("grounded", "total_score")
    base, trained, constant = differences["of"][0]["models"]
    assert base is None
    assert trained["examples"] == 14 * 2  # the machine failed on one of three examples a task
    assert trained["macro"][0] > trained["macro"][1] > 0
    assert (constant["macro"], "Complex" in constant["dimensions"]) == (None, False)
    assert overview_of(evaluated.results, ["constant"], {})["differences"] is None


def test_examples_that_the_benchmark_lacks_are_counted(evaluated, tmp_path):
    place = copied(evaluated, tmp_path)
    shutil.rmtree(place.benchmark / "Spatial" / "select_fruit_spatial" / "example0")
    (place.benchmark / "Spatial" / "select_fruit_spatial" / "example2" / "input" / "instruction.txt").unlink()
    notes = place.report(tmp_path / "r.html", ["baseline"])
    assert [note.split()[0] for note in notes] == ["1"]
    task = island(tmp_path / "r.html", "index")["tasks"].index(["select_fruit_spatial", DIMENSIONS.index("Spatial")])
    absent, _, damaged = island(tmp_path / "r.html", f"details-{task}")
    assert absent["problem"] == "the benchmark folder has no Spatial/select_fruit_spatial/example0"
    assert "instruction.txt is missing" in damaged["problem"]
    assert damaged["truth"]


def test_a_benchmark_that_changed_since_is_told(evaluated, tmp_path):
    place = copied(evaluated, tmp_path)
    plan = place.benchmark / "Spatial" / "select_fruit_spatial" / "example0" / "output" / "operation_sequence.json"
    write_json(plan, {"skill_sequence": [{"name": "press", "params": {"target_entity_name": 1}}]})
    notes = place.report(tmp_path / "r.html", ["checkpoint-200"])
    assert [note.split()[:4] for note in notes] == [["1", "answers", "score", "otherwise"]]


def test_settings_that_differ_by_dimension_are_told_apart():
    rows = rows_by_dimension({"M&T": {"a": {"b": 1}, "c": []}, "Spatial": {"a": {"b": 2}, "c": [], "d": None}})
    assert rows == [
        ("a.b", None, {"M&T": "1", "Spatial": "2"}),
        ("c", "[]", None),
        ("d", None, {"M&T": "not given", "Spatial": "null"}),
    ]


# ---- pictures


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


# ---- the script


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
