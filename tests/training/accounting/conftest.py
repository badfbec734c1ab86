"""The geometry of the tiny planner."""

import pytest

from leap.training.accounting import Geometry


@pytest.fixture(scope="session")
def tiny(demo):
    return Geometry.from_folder(demo / "models" / "tiny-planner")
