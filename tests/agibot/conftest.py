"""A workspace without anything, and archives of three tasks with their annotations."""

import json

import pytest

from tests.agibot.annotated import EPISODES, annotation
from tests.agibot.archives import task_archive


@pytest.fixture
def root(space):
    """A workspace without anything."""
    return space


@pytest.fixture
def source(tmp_path):
    """Archives of three tasks and their annotations."""
    for task in ("327", "352", "1001"):
        task_archive(tmp_path / "source", task, EPISODES)
        folder = tmp_path / "source" / "task_info"
        folder.mkdir(exist_ok=True)
        entries = [annotation(task, episode) for episode in EPISODES]
        (folder / f"task_{task}.json").write_text(json.dumps(entries))
    return tmp_path / "source"
