"""Examples of one dimension that a test may change, and the folder of their results."""

import shutil

import pytest

from leap.vlabench.examples import find_examples


@pytest.fixture
def examples(demo, tmp_path):
    folder = tmp_path / "benchmark"
    shutil.copytree(demo / "dataset" / "vlm_evaluation_v1.0" / "Spatial", folder / "Spatial")
    return find_examples(folder, ["Spatial"])["Spatial"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "eva_results" / "Spatial" / "model"
