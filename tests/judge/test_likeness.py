import pytest

from leap.judge.actions import actions_of
from leap.judge.likeness import FIRM, likeness, shares_a_thing


def like(step, other):
    return likeness(*actions_of([step])[:1], *actions_of([other])[:1])


@pytest.mark.parametrize(
    ("step", "other"),
    [
        ("Pick up the cup", "Grab the mug"),
        ("Place the cup on the tray", "Put the cup onto the tray"),
        ("Place the cup on the tray", "Set the cup down"),
        ("Grasp the blue bottle", "Grasp the bottle"),
        ("Go to the shelf", "Approach the shelf"),
        ("\u62ff\u8d77\u7ea2\u8272\u7684\u676f\u5b50", "\u6293\u53d6\u7ea2\u8272\u676f\u5b50"),
    ],
)
def test_other_words_for_the_same_are_alike(step, other):
    assert FIRM <= like(step, other) == like(other, step) < 1


@pytest.mark.parametrize(
    ("step", "other"),
    [
        ("Pick up the cup", "Pick up the plate"),
        ("Pick up the red cup", "Pick up the blue cup"),
        ("Pick up cup 1", "Pick up cup 2"),
        ("Pick up the cup", "Do not pick up the cup"),
        ("Open the drawer", "Close the drawer"),
        ("Turn on the tap", "Turn off the tap"),
        ("Pick up the cup", "the cup Pick up"),
        ("Move the cup from the tray to the table", "Move the plate from the tray to the table"),
        ("\u62ff\u8d77\u676f\u5b50", "\u62ff\u8d77\u96e8\u4f1e"),
        ("\u62ff\u8d77\u676f\u5b50", "\u4e0d\u8981\u62ff\u8d77\u676f\u5b50"),
    ],
)
def test_another_object_or_action_is_not_alike_whatever_else_is_equal(step, other):
    assert like(step, other) == like(other, step) < FIRM


def test_the_wrong_way_round_is_less_alike_than_a_place_left_out():
    step = "Move the cup from the tray to the table"
    assert like(step, "Move the cup from the table to the tray") < like(step, "Move the cup to the table") < 1


def test_actions_share_what_they_act_on_or_at():
    take, place, close, pour = actions_of(
        ["Take the cup.", "Place the plate on the cup.", "Close the drawer.", "Pour the tea into the cup."]
    )
    assert shares_a_thing(take, place)
    assert not shares_a_thing(take, close)
    assert not shares_a_thing(place, pour)  # both end at the cup, in either order
