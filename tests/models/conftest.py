"""A model that says something, and what it is asked."""

from tests.planners.conftest import lively, planner, queries  # noqa: F401  (fixtures)
