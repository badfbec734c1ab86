from collections.abc import Iterator

import pytest

from leap.plots.style import plt


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")
