import pytest

from leap.judge.actions import Phrase, actions_of


def told(step):
    """(verb, object, places, negated) of each action of a step, words in order of the alphabet."""
    return [
        (
            action.verb,
            " ".join(sorted(action.target.words)),
            {place.relation: " ".join(sorted(place.thing.words)) for place in action.places},
            action.negated,
        )
        for action in actions_of([step])
    ]


@pytest.mark.parametrize(
    ("step", "actions"),
    [
        ("Pick up the red cup from the tray.", [("pick up", "cup red", {"from": "tray"}, False)]),
        ("The robot then carefully picks the red cup up", [("pick up", "cup red", {}, False)]),
        ("With the left arm, grasp the cup.", [("grasp", "cup", {}, False)]),
        ("Use the sponge to wipe the plate", [("wipe", "plate", {"with": "sponge"}, False)]),
        ("Turn the radio on.", [("turn on", "radio", {}, False)]),
        ("Go to the shelf", [("go", "", {"to": "shelf"}, False)]),
        ("Hand the cup to the guest.", [("hand", "cup", {"to": "guest"}, False)]),
        ("Pull the handle of the drawer", [("pull", "drawer handle", {}, False)]),
        ("Put a piece of bread next to the fork and the knife.", [("put", "bread", {"by": "fork knife"}, False)]),
        (
            "Grab the cup and place it on the tray",
            [("grab", "cup", {}, False), ("place", "cup", {"on": "tray"}, False)],
        ),
        ("After opening the door, take the milk so that nothing spills", [("take", "milk", {}, False)]),
        ("Do not pick up the cup", [("pick up", "cup", {}, True)]),
        ("The robot should never close the drawer", [("close", "drawer", {}, True)]),
        ("Avoid placing the cup on the tray", [("place", "cup", {"on": "tray"}, True)]),
        ("pick 3 to 5", [("pick", "3", {"to": "5"}, False)]),
        (
            "\u628a\u676f\u5b50\u653e\u5230\u6258\u76d8\u4e0a\u3002",
            [("\u653e\u5230", "\u676f\u5b50", {"to": "\u6258\u76d8"}, False)],
        ),
        ("\u4e0d\u8981\u62ff\u8d77\u676f\u5b50", [("\u62ff\u8d77", "\u676f\u5b50", {}, True)]),
    ],
)
def test_a_step_is_what_is_done_to_what_and_where(step, actions):
    assert told(step) == actions


def test_it_is_the_object_before():
    _, place = actions_of(["Reach for the cup.", "Place it on the tray."])
    assert place.target == Phrase(frozenset({"cup"}), ("cup",))


@pytest.mark.parametrize(
    "step", ["Place tray cup the on the", "the Close drawer", "Pick cup the red up", "pick, cup, tray"]
)
def test_words_in_disorder_are_garbled(step):
    assert actions_of([step])[0].garbled


@pytest.mark.parametrize("step", ["...", "the", "to", "not", "if", "\u7136\u540e", "", "()"])
def test_a_step_without_an_action_is_one_all_the_same(step):
    assert len(actions_of([step])) == 1
