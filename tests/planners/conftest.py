"""A model that says something, what it is asked, and examples with which the tests of asking run evaluations."""

import pytest

from tests.planners.lively import planner_of, queries_of, write_lively
from tests.vlabench.conftest import examples, folder  # noqa: F401  (fixtures)


@pytest.fixture(scope="session")
def queries(demo):
    return queries_of(demo)


@pytest.fixture(scope="session")
def lively(demo, tmp_path_factory):
    return write_lively(demo / "models" / "tiny-planner", tmp_path_factory.mktemp("lively"))


@pytest.fixture(scope="session")
def planner(lively):
    return planner_of(lively, max_new_tokens=24)
