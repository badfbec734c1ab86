from leap.data.plan_words import base_form
from leap.judge.lexicon import lexicon


def test_opposites_are_never_the_same_action():
    words = lexicon()
    for verb, other in (("open", "close"), ("turn on", "turn off"), ("pick up", "place"), ("fold", "unfold")):
        assert not words.is_same_action(verb, other)
    assert words.is_same_action("grab", "pick up")
    assert not words.is_same_action("juggle", "pick up")


def test_english_words_are_in_the_form_that_they_are_looked_up_in():
    words = lexicon()
    for noun in words.things:
        assert not noun.isascii() or noun.isdecimal() or base_form(noun, "NOUN") == noun


def test_colours_sides_and_numbers_tell_things_apart():
    words = lexicon()
    assert words.tells_apart(frozenset({"red", "cup"}), frozenset({"blue", "cup"}))
    assert words.tells_apart(frozenset({"cup", "1"}), frozenset({"cup", "2"}))
    assert not words.tells_apart(frozenset({"red", "cup"}), frozenset({"cup"}))
    assert not words.tells_apart(frozenset({"plastic", "cup"}), frozenset({"tea", "cup"}))


def test_what_prepares_is_needed_by_what_follows():
    words = lexicon()
    assert words.prepares("grasp")
    assert words.prepares("pull open")
    assert not words.prepares("place")
