"""How time and memory grow is measured once each, goes on after an interruption, and becomes tables and a figure."""

import pytest

from leap.files import read_jsonl
from tests.conftest import assert_one_line_error, run_script

GROWTH, TABLE = "benchmark/growth.py", "benchmark/growth_table.py"
DOCUMENT = (
    "# Scale\n\n<!-- growth -->\nold\n<!-- end of growth -->\n\nwords\n\n<!-- on paper -->\n<!-- end of on paper -->\n"
)


def measure(output, *flags):
    done = run_script(GROWTH, "--parts", "journals", "--largest", 100, "--output", output, *flags)
    assert done.returncode == 0, done.stderr
    return read_jsonl(output)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    output = tmp_path_factory.mktemp("growth") / "growth.jsonl"
    measure(output)
    return output


def test_each_step_is_measured_at_each_size(results):
    lines = read_jsonl(results)
    steps = ["opened and read", "100 lines appended", "watched"]
    assert [(line["size"], line["step"]) for line in lines] == [(size, step) for size in (10, 100) for step in steps]
    for line in lines:
        assert line["ended"] == "done"
        assert line["cpu_seconds"] > 0
        assert 5 < line["peak_mb"] < 2000
    assert lines[3]["file_bytes"] > 5 * lines[0]["file_bytes"] > 0


def test_an_interrupted_run_measures_what_is_missing_and_nothing_else(results, tmp_path):
    output = tmp_path / "growth.jsonl"
    lines = results.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(lines[:4]) + lines[4][:30])
    measure(output, "--folder", tmp_path)
    assert output.read_bytes().splitlines(keepends=True)[:4] == lines[:4]
    assert [line["step"] for line in read_jsonl(output)[4:]] == ["100 lines appended", "watched"]
    assert list(tmp_path.iterdir()) == [output]  # the inputs are gone


def test_a_step_over_the_limit_is_noted_and_not_tried_at_larger_sizes(tmp_path):
    lines = measure(tmp_path / "growth.jsonl", "--seconds", 0.001)
    assert [(line["size"], line["ended"]) for line in lines] == [(10, "limit")] * 3


def test_tables_and_figure_take_their_places(results, tmp_path):
    document, figure = tmp_path / "scale.md", tmp_path / "images" / "growth.png"
    document.write_text(DOCUMENT)
    done = run_script(TABLE, "--results", results, "--document", document, "--figure", figure)
    assert done.returncode == 0, done.stderr
    text = document.read_text()
    [row] = [line for line in text.splitlines() if line.startswith("| watched")]
    assert row.count(" s, ") == 2
    assert "old" not in text
    assert "97 hours" in text.partition("<!-- on paper -->")[2]
    assert figure.stat().st_size > 5000
    before = document.read_bytes()
    run_script(TABLE, "--results", results, "--document", document)
    assert document.read_bytes() == before


def test_a_document_without_places_and_results_without_lines_are_errors(results, tmp_path):
    (tmp_path / "scale.md").write_text("# Scale\n")
    done = run_script(TABLE, "--results", results, "--document", tmp_path / "scale.md")
    assert_one_line_error(done, "one place", "<!-- growth -->")
    (tmp_path / "empty.jsonl").touch()
    assert_one_line_error(
        run_script(TABLE, "--results", tmp_path / "empty.jsonl"), "holds no measurements", "growth.py"
    )
