from PIL import Image, ImageChops

from leap.planning.drawing import draw_plan
from leap.plans.reading import Step

PICTURE = Image.new("RGB", (320, 240), "green")
TAGS = {1: (40, 40), 2: (280, 200)}
SKILLS = [Step("pick", 1, None), Step("place", None, 2)]
BLUE, ORANGE = (0, 114, 178), (213, 94, 0)  # of steps 1 and 2


def colors_in(picture):
    return {color for _, color in picture.getcolors(1_000_000)}


def photo_side(drawing):
    return drawing.crop((0, 0, 640, 480))


def test_steps_are_marked_at_the_tags_that_they_name():
    side = photo_side(draw_plan("Move it", [PICTURE], ["pick 1", "place to 2"], SKILLS, TAGS))
    upper_left, lower_right = side.crop((0, 0, 200, 150)), side.crop((440, 330, 640, 480))
    assert BLUE in colors_in(upper_left)
    assert BLUE not in colors_in(lower_right)
    assert ORANGE in colors_in(lower_right)
    assert ORANGE in colors_in(side.crop((250, 150, 400, 330)))  # the arrow between them


def test_without_places_the_picture_stays_as_it_is():
    drawing = draw_plan("Move it", [PICTURE], ["pick 1", "place to 2"], SKILLS)
    assert colors_in(photo_side(drawing)) == {(0, 128, 0)}
    assert {BLUE, ORANGE} <= colors_in(drawing.crop((640, 0, *drawing.size)))


def test_a_step_that_names_no_tag_is_not_marked():
    side = photo_side(draw_plan("Move it", [PICTURE], ["pick 9"], [Step("pick", 9, None)], TAGS))
    assert colors_in(side) == {(0, 128, 0)}


def test_pictures_lie_below_each_other_and_long_steps_have_room():
    two = draw_plan("Move it", [PICTURE, PICTURE], ["pick 1"])
    assert two.size == (640 + 420, 2 * 480)
    words = " ".join(["everything"] * 60)
    long = draw_plan("Move it", [PICTURE], [words] * 3)
    assert long.height > 480
    assert ImageChops.invert(long.crop((640, long.height - 60, *long.size))).getbbox()  # written to its end
    assert draw_plan("x" * 500, [], []).width == 420
