"""Rewards of answers: what a researcher would pay for, and attempts to get paid for something else."""

import json
from itertools import pairwise

import pytest

from configs.errors import UserError
from leap.plans.metrics import compare_plans
from leap.plans.reading import SKILLS, fenced
from leap.plans.scoring import score_grounded
from leap.training.recipes import ReinforcementRecipe
from leap.training.rewards import TERMS, ThoughtRule, reward, reward_terms, truth_of


def step(skill, entity=None, container=None):
    params = {"target_entity_name": entity} if entity is not None else {}
    if container is not None:
        params["target_container_name"] = container
    return {"name": skill, "params": params}


def plan(*steps):
    return fenced([step(*each) for each in steps])


PICK_PLACE = (("pick", 3), ("place", None, 5))
TRUTH = plan(*PICK_PLACE)
LONG = plan(("pick", 3), ("place", None, 5), ("pick", 4), ("place", None, 6))
THOUGHT = ThoughtRule(200)
WEIGHTS = ReinforcementRecipe().reward_weights

EVERY_SKILL = plan(*((skill, 3, 5) for skill in SKILLS))
EVERY_ID = plan(*(("pick", number, number) for number in range(1, 10)))
EVERYTHING = plan(*((skill, number, number) for skill in SKILLS for number in range(1, 10)))
PROMPT = (
    'Answer with a fenced JSON list of skills. Shape:\n```json [{"name": "pick", "params": '
    '{"target_entity_name": number}}, {"name": "place", "params": {"target_container_name": number}}] ```\n'
    "Instruction: Put the apple on the plate"
)


def value(answer, truth=TRUTH, **options):
    return reward(reward_terms(answer, truth, **options), WEIGHTS)


# Groups of answers to TRUTH, from what earns most to what earns nothing. Within a group no order is meant; every member
# of a group earns less than every member of the group before it.
RIGHT = {"the plan": TRUTH, "with blank space": f"\n{TRUTH}\n", "spaced JSON": f"```json\n{TRUTH[8:-4]}\n```"}
RIGHT_IN_BAD_FORM = {
    "ids as text": plan(("pick", "3"), ("place", None, "5")),
    "words around it": f"Sure, here it is: {TRUTH} Good luck!",
    "without a fence": TRUTH[8:-4],
    "a thought in front that nobody asked for": f"<think>3 is the apple</think>{TRUTH}",
    "the plan in two fences": f"{TRUTH}\n{TRUTH}",
    "ids as floats": plan(("pick", 3.0), ("place", None, 5.0)),
    "an object around the list": '```json\n{"skill_sequence": ' + TRUTH[8:-4] + "}\n```",
    "another plan as draft in front": f"Draft: {plan(('press', 9))}\nFinal plan: {TRUTH}",
}
ONE_MISTAKE = {
    "another place": plan(("pick", 3), ("place", None, 6)),
    "another object": plan(("pick", 4), ("place", None, 5)),
    "another skill": plan(("pick", 3), ("insert", None, 5)),
    "one step too much": plan(*PICK_PLACE, ("press", 1)),
    "no place": plan(("pick", 3), ("place",)),
}
MORE_MISTAKES = {
    "the plan twice in one list": plan(*PICK_PLACE, *PICK_PLACE),
    "the plan three times in one list": plan(*PICK_PLACE, *PICK_PLACE, *PICK_PLACE),
    "the first half": plan(("pick", 3)),
    "the second half": plan(("place", None, 5)),
    "ids swapped": plan(("pick", 5), ("place", None, 3)),
    "no ids": plan(("pick",), ("place",)),
    "a row with other ids": plan(("pick", 7), ("place", None, 8)),
    "every id in one step": plan(("pick", 3, 5), ("place", 3, 5)),
    "every skill": EVERY_SKILL,
    "every id": EVERY_ID,
    "everything": EVERYTHING,
    "everything with the plan in front": plan(*PICK_PLACE, *((s, n, n) for s in SKILLS for n in range(1, 10))),
    "the plan as draft and another one after it": f"{TRUTH}\nFinal plan: {plan(('pick', 7), ('place', None, 8))}",
    "other ids in a second fence": f"{TRUTH}\n{plan(('pick', 7), ('place', None, 8))}",
    "the plan of another task": plan(("press", 2)),
    "the right objects with skills that do something else": plan(("press", 3), ("open_door", None, 5)),
}
NOTHING = {
    "nothing": "",
    "blank space": " \n ",
    "an empty list": "```json\n[]\n```",
    "an empty fence": "```json\n```",
    "the prompt": PROMPT.partition("```")[0],
    "words": "Pick object 3 and place it on object 5.",
    "numbered steps": "1) Pick up object 3. 2) Place it on object 5.",
    "the plan in a thought that closes on nothing": f"<think>{TRUTH}</think>",
    "the plan in a thought that never closes": f"<think>{TRUTH}",
    "the plan cut off": TRUTH[:-12],
    "the plan without names": "```json\n" + json.dumps([{"params": {"target_entity_name": 3}}]) + "\n```",
    "numbers": "```json\n[3, 5]\n```",
    "end tokens spelt out": "<|im_end|>" * 5,
}
GROUPS = (RIGHT, RIGHT_IN_BAD_FORM, ONE_MISTAKE, MORE_MISTAKES, NOTHING)


def test_there_are_at_least_forty_attempts():
    assert sum(map(len, GROUPS)) >= 40


@pytest.mark.parametrize(("better", "worse"), list(pairwise(GROUPS)))
def test_attempts_earn_in_the_order_in_which_a_researcher_would_pay_them(better, worse):
    lowest = min(better, key=lambda name: value(better[name]))
    highest = max(worse, key=lambda name: value(worse[name]))
    assert value(better[lowest]) > value(worse[highest]), f"{lowest!r} must earn more than {highest!r}"


def test_only_the_whole_plan_earns_more_than_half():
    assert all(value(answer) == 1 for answer in RIGHT.values())
    assert all(value(answer) > 0.9 for answer in RIGHT_IN_BAD_FORM.values())
    assert all(value(answer) < 0.5 for group in GROUPS[2:] for answer in group.values())
    assert all(value(answer) == 0 for answer in NOTHING.values())


def test_listing_everything_earns_less_than_one_honest_mistake_of_each_kind():
    honest = min(map(value, ONE_MISTAKE.values()))
    for attempt in (EVERY_SKILL, EVERY_ID, EVERYTHING):
        assert value(attempt) < honest / 2


def test_brevity_pays_nothing_for_stopping_early_or_for_repeating():
    brevity = {
        name: reward_terms(answer, LONG)["brevity"]
        for name, answer in {
            "whole": LONG,
            "half": TRUTH,
            "one step": plan(("pick", 3)),
            "repeated": plan(*PICK_PLACE, *PICK_PLACE),
            "padded": plan(("pick", 3), ("place", None, 5), ("pick", 4), ("place", None, 6), ("press", 1)),
        }.items()
    }
    assert brevity.pop("whole") == 1
    assert 0 < brevity.pop("padded") < 1
    assert set(brevity.values()) == {0}


def test_a_plan_that_repeats_where_the_row_does_is_brief():
    truth = plan(("pick", 3), ("pour", None, 5), ("pick", 3), ("pour", None, 5))
    assert reward_terms(truth, truth)["brevity"] == 1


@pytest.mark.parametrize("shuffled", [(2, 3, 0, 1), (3, 2, 1, 0), (1, 0, 3, 2)])
def test_a_shuffled_plan_earns_less_than_a_plan_with_one_wrong_id(shuffled):
    steps = [("pick", 3), ("place", None, 5), ("pick", 4), ("place", None, 6)]
    one_wrong = plan(*steps[:3], ("place", None, 9))
    assert value(plan(*(steps[i] for i in shuffled)), LONG) < value(one_wrong, LONG)


def test_sub_tasks_in_another_order_are_right_where_the_task_leaves_it_free():
    other = plan(("pick", 4), ("place", None, 6), ("pick", 3), ("place", None, 5))
    assert value(other, LONG, order_independent=True) == 1
    assert value(other, LONG) < 0.6


def test_a_plan_without_targets_is_not_paid_for_naming_none():
    truth = plan(("press", 3))
    assert reward_terms(plan(("press", 9)), truth)["container"] == 0
    assert value(plan(("press", 3)), truth) == 1
    assert value(plan(("pick", 3), ("place", None, 5)), truth) < 0.3


@pytest.mark.parametrize("answer", [a for group in GROUPS for a in group.values()])
def test_the_term_of_whole_plans_is_the_plan_success_of_the_scorer(answer):
    true = json.loads(TRUTH[8:-4])
    score = score_grounded(answer, true, order_independent=False)
    assert reward_terms(answer, TRUTH)["plan"] == score.scores["plan_success"] / 100


PROSE = "1) Pick up the red apple. 2) Place it on the plate. 3) Close the drawer."
PROSE_GROUPS = (
    {"the plan": PROSE, "other case and articles": PROSE.replace("the red", "a Red")},
    {
        "one word else": PROSE.replace("drawer", "door"),
        "in a style of its own": "Step 1: Pick up the red apple.\nStep 2: Place it on the plate.\n"
        "Step 3: Close the drawer.\nDone!",
    },
    {
        "two steps swapped": "1) Place it on the plate. 2) Pick up the red apple. 3) Close the drawer.",
        "the first steps": "1) Pick up the red apple. 2) Place it on the plate.",
        "the plan twice": f"{PROSE} 4) Pick up the red apple. 5) Place it on the plate. 6) Close the drawer.",
        "the last step again and again": f"{PROSE} " + " ".join(f"{n}) Close the drawer." for n in range(4, 12)),
        "one step with all words": "1) Pick up the red apple place it on the plate close the drawer.",
    },
    {
        "another plan": "1) Open the door. 2) Push the button.",
        "the first step only, over and over": " ".join(f"{n}) Pick up the red apple." for n in range(1, 9)),
    },
    {"nothing": "", "words without numbers": "pick apple plate drawer", "thought only": f"<think>{PROSE}</think>"},
)


@pytest.mark.parametrize(("better", "worse"), list(pairwise(PROSE_GROUPS)))
def test_attempts_at_numbered_steps_earn_in_order_too(better, worse):
    lowest = min(better, key=lambda name: value(better[name], PROSE))
    highest = max(worse, key=lambda name: value(worse[name], PROSE))
    assert value(better[lowest], PROSE) > value(worse[highest], PROSE), f"{lowest!r} must earn more than {highest!r}"


def test_steps_in_the_right_order_earn_the_step_f1_of_the_metrics():
    answer = "1) Pick up the apple. 2) Place it on the table."
    assert reward_terms(answer, PROSE)["step"] == pytest.approx(compare_plans(answer, PROSE).step_f1)


def test_a_thought_is_paid_for_where_it_is_asked_for_and_the_plan_counts_behind_it():
    def paid(answer):
        return reward_terms(answer, TRUTH, thought=THOUGHT)

    assert paid(f"<think>The apple is 3.</think>\n{TRUTH}")["thought"] == 1
    assert value(f"<think>The apple is 3.</think>\n{TRUTH}", thought=THOUGHT) == 1
    for spoilt in (TRUTH, f"<think></think>{TRUTH}", f"<think>{'a ' * 200}</think>{TRUTH}", f"{TRUTH}<think>a</think>"):
        assert paid(spoilt)["thought"] == 0
    assert paid(f"<think>{TRUTH}</think>")["plan"] == 0
    assert paid(f"<think>a<think>b</think>{TRUTH}</think>{TRUTH}")["thought"] == 0
    assert paid(f"<think>{TRUTH}</think>{plan(('press', 1))}")["plan"] == 0, "the draft in the thought"


def test_a_row_without_a_plan_to_compare_with_is_an_error():
    with pytest.raises(UserError, match="no plan to compare with"):
        truth_of("apple 3 plate 5")
    with pytest.raises(UserError, match="no known skill"):
        truth_of(plan(("fly", 3)))
    with pytest.raises(UserError, match="unknown skill 'fly'"):
        truth_of(plan(("pick", 3), ("fly", 3)))


def test_the_recipe_has_a_weight_for_every_term_and_wants_one_above_nothing():
    assert set(WEIGHTS) == set(TERMS)
    with pytest.raises(UserError, match="all weights of the reward are 0"):
        ReinforcementRecipe(**{f"reward_{name}": 0.0 for name in TERMS})
