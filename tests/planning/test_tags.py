import pytest
from PIL import Image, ImageChops

from configs.errors import UserError
from leap.planning.tags import box_of, check_places, next_number, tags_in, with_tags


def test_tags_are_numbered_in_their_order_unless_they_say_their_number():
    assert tags_in(["10,20", "3=30,40", "50, 60"]) == {1: (10, 20), 3: (30, 40), 2: (50, 60)}
    assert next_number({1: (0, 0), 3: (0, 0)}) == 2
    assert tags_in([]) == {}


@pytest.mark.parametrize("word", ["10", "a=1,2", "1,2,3", "-1,2", "1.5,2", ""])
def test_a_tag_that_is_no_place_is_named(word):
    with pytest.raises(UserError, match="is no X,Y or NUMBER=X,Y"):
        tags_in([word])


def test_a_number_may_not_be_given_twice():
    with pytest.raises(UserError, match="the number 3 is there twice"):
        tags_in(["3=1,2", "3=4,5"])


def test_a_tag_outside_of_the_picture_is_named():
    check_places({1: (0, 0), 2: (99, 49)}, (100, 50), "here")
    with pytest.raises(UserError, match="here: tag 2 at 100,10 lies outside of the picture, 100 x 50 pixels"):
        check_places({1: (0, 0), 2: (100, 10)}, (100, 50), "here")


def test_tags_are_drawn_at_their_places_and_nowhere_else():
    picture = Image.new("RGB", (400, 300), "green")
    tagged = with_tags(picture, {1: (100, 100), 24: (399, 299)})
    changed = ImageChops.difference(picture, tagged)
    for number, place in ((1, (100, 100)), (24, (399, 299))):
        left, top, right, bottom = box_of(str(number), place, picture.size)
        assert 0 <= left < right < 400
        assert 0 <= top < bottom < 300
        inside = tagged.crop((left, top, right + 1, bottom + 1))
        assert {(255, 255, 255), (0, 0, 0)} <= {color for _, color in inside.getcolors(100_000)}
        changed.paste((0, 0, 0), (left, top, right + 1, bottom + 1))
    assert changed.getbbox() is None
    assert picture.getcolors() == [(400 * 300, (0, 128, 0))]
