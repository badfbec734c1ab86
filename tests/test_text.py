"""Numbers, sizes, durations and tables as people read them."""

import pytest

from leap.text import (
    count_text,
    duration_text,
    first_line,
    markdown_table,
    plural,
    printable,
    printable_lines,
    size_text,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.6, "1m00s"), (725, "12m05s"), (3600, "1h00m"), (11220, "3h07m"), (187200, "2d04h")],
)
def test_a_duration_has_two_units_at_most(seconds, text):
    assert duration_text(seconds) == text


def test_a_size_has_the_largest_unit_below_it():
    sizes = (12, 34_000, 5_620_000, 25_500_000_000, 123_400_000_000, 43_800_000_000_000)
    assert [size_text(size) for size in sizes] == ["12 bytes", "34.0 kB", "5.6 MB", "25.5 GB", "123 GB", "43.8 TB"]


def test_counts_are_short():
    assert [count_text(n) for n in (8402, 15_200_000, 2_127_000_000)] == ["8,402", "15.20 M", "2.13 B"]
    assert [plural(n, "row") for n in (0, 1, 1200)] == ["0 rows", "1 row", "1,200 rows"]


def test_a_table_lines_up_and_escapes_what_would_break_it():
    assert markdown_table([["a", "count"], ["x|y\nz", "1"]], right_from=1).splitlines() == [
        "| a      | count |",
        "| ------ | ----: |",
        "| x\\|y z |     1 |",
    ]


def test_what_steers_a_terminal_is_not_printed():
    assert printable("a\x1b[31m\u202e\ud800") == "a?[31m??"


def test_lines_stay_lines_and_blanks_of_other_scripts_blanks():
    assert printable_lines("a\tb\n\x1b]0;x\x07\u2067c\r") == "a\tb\n?]0;x??c?"
    assert printable("\u676f\u3000\u5b50\xa0") == "\u676f\u3000\u5b50\xa0"


def test_an_error_is_one_line_and_its_kind_where_it_says_nothing():
    assert first_line(ValueError("\n  no weights\nsecond line")) == "no weights"
    assert first_line(KeyError()) == "KeyError"
