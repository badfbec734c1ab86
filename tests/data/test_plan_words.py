"""Verbs and objects of plans."""

import pytest

from leap.data.plan_words import NUMBERED, OTHER, SKILLS, base_form, plan_words, verb_and_object, words_of

SKILL_LIST = '```json\n[{"name": "pick", "params": {"target_entity_name": 1}}, {"name": "place", "params": {}}]\n```'
# "Open the fridge. Take out the drink.".
CHINESE_PLAN = "1) \u6253\u5f00\u51b0\u7bb1\u95e8\u3002 2) \u53d6\u51fa\u996e\u6599\u3002"


@pytest.mark.parametrize(
    ("step", "verb", "thing"),
    [
        ("Pick up the onion from the shelf.", "pick", "onion"),
        ("Then carefully placing the held red onions into the bag", "place", "onion"),
        ("Turn on the light", "turn", "light"),
        ("Opens the doors of the fridge", "open", "door"),
        ("Move to the table", "move", "table"),
        ("Grasping it", "grasp", None),
        ("Push", "push", None),
        ("\u6253\u5f00\u51b0\u7bb1\u95e8", "\u6253\u5f00", None),
        ("the", None, None),
    ],
)
def test_a_step_has_the_verb_and_the_object_that_a_reader_sees(step, verb, thing):
    assert verb_and_object(words_of(step)) == (verb, thing)


def test_forms_of_a_verb_and_of_a_noun_count_as_one():
    forms = {"place": "place places placed placing", "put": "put puts putting", "stop": "stops stopped stopping",
             "roll": "rolls rolled rolling", "carry": "carries carried carrying", "push": "pushes pushed pushing",
             "press": "press pressed pressing", "bring": "bring brings", "add": "adds added adding"}  # fmt: skip
    for base, written in forms.items():
        assert {base_form(form, "VERB") for form in written.split()} == {base}
    singular = {
        "boxes": "box",
        "cherries": "cherry",
        "knives": "knife",
        "glass": "glass",
        "atlas": "atlas",
        "bus": "bus",
    }
    assert {word: base_form(word, "NOUN") for word in singular} == singular


def test_plans_are_read_by_what_they_are():
    plan = plan_words("1) Pick up the red onion. 2) Put it down.")
    assert (plan.kind, plan.steps, plan.words, plan.step_words) == (NUMBERED, 2, 8, (5, 3))
    assert (plan.verbs, plan.objects) == (("pick", "put"), ("onion",))
    plan = plan_words(SKILL_LIST)
    assert (plan.kind, plan.steps, plan.verbs, plan.objects) == (SKILLS, 2, ("pick", "place"), ())
    plan = plan_words("apple 3")
    assert (plan.kind, plan.steps, plan.words, plan.verbs) == (OTHER, None, 2, ())
    assert plan_words(CHINESE_PLAN).verbs == ("\u6253\u5f00", "\u53d6\u51fa")
