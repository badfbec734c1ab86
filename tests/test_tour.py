"""The notebook runs from its first cell to its last, on a training of a few steps."""

import json

import pandas
import pytest

from leap.vlabench.folder import models_in
from tests.conftest import REPOSITORY

NOTEBOOK = json.loads((REPOSITORY / "docs/tour.ipynb").read_text())
SIZES = "STEPS, ROWS, EXAMPLES = 150, 4000, 5"


def code_cells():
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs(space, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    names = {}
    first, *others = code_cells()
    assert SIZES in first
    for cell in (first.replace(SIZES, "STEPS, ROWS, EXAMPLES = 2, 64, 1"), *others):
        exec(compile(cell, "docs/tour.ipynb", "exec"), names)
    assert names["workspace"].root == space
    assert names["checkpoint"] == space / "output" / "checkpoint-2"
    assert models_in(space / "eva_results") == ["baseline", "constant", "trained"]
    assert "total score, grounded" in capsys.readouterr().out
    table = names["table"]
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == 3 * sum(map(len, names["benchmark"].values()))


def test_the_notebook_is_committed_without_what_a_run_left_in_it():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in cells] == [[]] * len(cells)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
