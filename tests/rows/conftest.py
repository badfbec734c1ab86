"""The collator of the tiny planner, with which rows are checked."""

import pytest

from leap.models.loading import load_processor
from leap.training.supervision import PlanningCollator


@pytest.fixture
def collator(demo):
    return PlanningCollator(load_processor(demo / "models" / "tiny-planner"), None, demo)
