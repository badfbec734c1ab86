import time

import pytest

from leap.plans.loose_json import MOST_NESTING, BrokenJSON, decode, is_too_deep


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2.5, null, true], "b": "x"}',
        "{'a': [1, 2.5, None, True], 'b': 'x'}",
        '{"a": [1, 2.5, null, true,], "b": "x",}',
        '{a: [1, 2.5, null, true], b: "x"}',
        '{"a": [1, 2.5, null, true], // a list\n "b": "x" /* a\ntext */}',
        '{"a": [1, 2.5, None, True],  # a list\n "b": x}',
        "{\u201ca\u201d\uff1a[1\uff0c2.5\uff0cnull\uff0ctrue]\uff0c\u201cb\u201d\uff1a\u201cx\u201d}",
    ],
)
def test_json_is_read_as_models_write_it(text):
    assert decode(text + " and more", 0) == ({"a": [1, 2.5, None, True], "b": "x"}, len(text))


def test_an_id_with_a_number_sign_is_no_comment():
    assert decode("{'a': #3, 'b': '#4'}", 0)[0] == {"a": "#3", "b": "#4"}


def test_quotes_may_be_escaped():
    assert decode(r"{'a': 'it\'s'}", 0)[0] == {"a": "it's"}


@pytest.mark.parametrize("text", ["[1, 2", '{"a": 1, ', '{"a": "b', "[", "{'a': [1, 2]  ", '{"a"', "[1, 2\n```"])
def test_what_is_cut_off_says_so(text):
    with pytest.raises(BrokenJSON) as error:
        decode(text, 0)
    assert error.value.cut_off


@pytest.mark.parametrize("text", ["[1 2]", "{1: 2}", '{"a" 1}', "[1, ...]", "[,]", '["a\nb"]', "[" + "9" * 5000 + "x]"])
def test_what_is_broken_is_an_error_where_it_breaks(text):
    with pytest.raises(BrokenJSON) as error:
        decode(text + " and more", 0)
    assert not error.value.cut_off


@pytest.mark.parametrize("quote", ['"', "'"])
def test_what_is_nested_too_deep_is_refused_in_any_form(quote):
    for depth in (MOST_NESTING + 1, 100_000):
        with pytest.raises(BrokenJSON):
            decode("[" * depth + f"{quote}a{quote}" + "]" * depth, 0)
    deepest = "[" * (MOST_NESTING - 1) + f"{quote}a{quote}" + "]" * (MOST_NESTING - 1)
    assert not is_too_deep(decode(deepest, 0)[0])


@pytest.mark.parametrize("text", ["[" + " " * 100_000, "[" + "/*" * 50_000, "{'" + "\\" * 100_000, "[" + "1," * 50_000])
def test_long_and_hostile_texts_take_no_time(text):
    began = time.process_time()
    with pytest.raises(BrokenJSON):
        decode(text, 0)
    assert time.process_time() - began < 1
