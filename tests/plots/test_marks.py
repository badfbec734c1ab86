from leap.plots.comparison import totals_by_dimension
from tests.plots.figures import results_of, words


def test_a_measured_zero_is_written_as_zero():
    assert words(totals_by_dimension({"constant": results_of(0)}, "official")) == ["0"] * 7
