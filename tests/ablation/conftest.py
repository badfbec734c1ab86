"""Fixtures of comparisons."""

from tests.training.conftest import beginner as beginner
