import shutil

import pytest

from tests.blind.asking import Asking


@pytest.fixture
def data(demo, tmp_path):
    """A copy of the demo's ten rows with their pictures."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    shutil.copy(demo / "data" / "blind_10.jsonl", folder)
    for picture in (demo / "data" / "images").glob("blind-*.png"):
        shutil.copy(picture, folder / "images")
    return folder / "blind_10.jsonl"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "eva_results" / "blind_10"


@pytest.fixture
def asking(data, folder):
    return Asking(data, folder)
