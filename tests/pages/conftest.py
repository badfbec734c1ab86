"""A page of results, as the report makes one."""

from tests.report.conftest import evaluated, page  # noqa: F401  (fixtures)
