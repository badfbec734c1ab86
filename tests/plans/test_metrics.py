import itertools
import json
import random

import pytest
from scipy.stats import kendalltau

from configs.errors import UserError
from leap.demo.build import build_rows
from leap.plans.metrics import (
    MOST_CHARACTERS,
    MOST_STEPS,
    alignment,
    compare_plans,
    compare_skills,
    is_numbered_plan,
    numbered_steps,
    score_answers,
    summarise,
)
from leap.plans.reading import FormatError, fenced
from leap.plans.scoring import GROUNDED_METRICS, score_grounded

REFERENCE = "1) Pick up the cup. 2) Wipe the table. 3) Place the cup."
SKILLS = [
    {"name": "pick", "params": {"target_entity_name": 1}},
    {"name": "place", "params": {"target_container_name": 2}},
]


@pytest.mark.parametrize(
    "text",
    [
        "1) Pick up 2) Wipe",
        "1)Pick up\n2)Wipe",
        "  Steps: 1) Pick up 2) Wipe\n",
        "1. Pick up\n2. Wipe",
        "1. Pick up 2. Wipe",
        "steps:1: Pick up\n2: Wipe",
        "Step 1: Pick up\n\nStep 2: Wipe",
        "step 1. Pick up step 2. Wipe",
        "(1) Pick up (2) Wipe",
        "1\uff09Pick up 2\uff09Wipe",
        "\uff11\uff0ePick up\n\uff12\uff0eWipe",
        "\uff081\uff09Pick up\n\uff082\uff09Wipe",
        "1\u3001Pick up 2\u3001Wipe",
        "\u6b65\u9aa4\uff1a1\u3001Pick up\uff0c2\u3001Wipe",
    ],
)
def test_steps_are_read_in_every_usual_numbering(text):
    assert [step.rstrip("\uff0c") for step in numbered_steps(text)] == ["Pick up", "Wipe"]
    assert is_numbered_plan(text)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("1) Put 3.5 cups at 1.5 m 2) Wait until 2:30", ["Put 3.5 cups at 1.5 m", "Wait until 2:30"]),
        ("1) Open (see slot 2) the box. 2) Close it", ["Open (see slot 2) the box.", "Close it"]),
        ("1. Pick up object 2. 2. Put it on 3. 3. Wipe", ["Pick up object 2.", "Put it on 3.", "Wipe"]),
        ("1. Pick up object 2.\n2. Put it on 3. Let go.", ["Pick up object 2.", "Put it on 3. Let go."]),
        ("1. Pick up object 2.", ["Pick up object 2."]),
        ("1. Move it by 0.2. 2. Stop", ["Move it by 0.2.", "Stop"]),
        ("1) Take the parts A1) and A2) 2) Stop", ["Take the parts A1) and A2)", "Stop"]),
        ("1) 2 cups on 2. Then wait 2) Wipe", ["2 cups on 2. Then wait", "Wipe"]),
        ("1) Pick up 2) Wipe. Step 1: is done", ["Pick up", "Wipe. Step 1: is done"]),
        ("Step 1: Go. Step 2: Repeat step 1. Step 3: Stop.", ["Go.", "Repeat step 1.", "Stop."]),
        ("1\u3001\u62ff\u8d772\u30013\u53f7\u676f\u5b50\u30022\u3001\u653e\u4e0b", None),
    ],
)
def test_numbers_inside_a_step_do_not_split_it(text, steps):
    assert numbered_steps(text) == steps if steps else len(numbered_steps(text)) == 2
    assert is_numbered_plan(text)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("Sure! 1) Pick up 2) Wipe", ["Pick up", "Wipe"]),  # something in front
        ("The plan for table 1: 1) Pick up 2) Wipe", ["Pick up", "Wipe"]),
        ("For table 1. we plan: 1. Pick up 2. Wipe", ["Pick up", "Wipe"]),
        ("1. The plan\n1) Pick up\n2) Wipe", ["Pick up", "Wipe"]),
        ("1) Pick up. 3) Wipe", ["Pick up. 3) Wipe"]),  # a gap
        ("1. Pick up\n2. Wipe\n1. Pick up", ["Pick up", "Wipe\n1. Pick up"]),  # starts again
        ("1) Pick up 2)", ["Pick up"]),  # cut off: an empty step
        ("1) Pick up 2) ... 3) Wipe", ["Pick up", "Wipe"]),
        ("2) Pick up 3) Wipe", []),
        ("1) 2) 3)", []),
        ("1 2 3 4 5", []),
        ("apple 1 lemon 2", []),
        ("The answer is 1. It is red", []),
        ("Pick up the cup, then wipe.", []),
        (fenced(SKILLS), []),
        ("", []),
    ],
)
def test_a_text_that_is_not_a_plan_and_nothing_else_is_invalid(text, steps):
    assert not is_numbered_plan(text)
    assert numbered_steps(text) == steps


def test_scores_computed_by_hand():
    # "wipe table" is step 2; {pick, up, plate} and {pick, up, cup} overlap by 2 * 2 / 6; together 5 / 3.
    scores = compare_plans("1) Wipe a table! 2) Pick UP the plate.", REFERENCE)
    assert scores.format_valid
    assert scores.step_precision == pytest.approx(5 / 6)
    assert scores.step_recall == pytest.approx(5 / 9)
    assert scores.step_f1 == pytest.approx(2 / 3)
    assert scores.order_agreement == -1
    assert (scores.redundancy, scores.steps, scores.reference_steps) == (0, 2, 3)


@pytest.mark.parametrize(
    "plan",
    [
        REFERENCE,
        "1) Pick up the cup. 2) Place it. 3) Pick up the cup. 4) Place it. 5) Pick up the cup.",
        "1\u3001\u62ff\u8d77\u676f\u5b50\u30022\u3001\u64e6\u684c\u5b50\u3002",
    ],
)
def test_a_plan_agrees_with_itself(plan):
    scores = compare_plans(plan, plan)
    assert (scores.step_precision, scores.step_recall, scores.step_f1) == pytest.approx((1, 1, 1))
    assert (scores.format_valid, scores.order_agreement) == (True, 1)


def test_a_reversed_plan_has_the_steps_but_not_the_order():
    scores = compare_plans("1) Place the cup. 2) Wipe the table. 3) Pick up the cup.", REFERENCE)
    assert (scores.step_f1, scores.order_agreement) == (1, -1)


def test_repeated_steps_cost_precision_and_show_as_redundancy():
    scores = compare_plans(REFERENCE + " 4) Wipe table.", REFERENCE)
    assert (scores.step_precision, scores.step_recall, scores.redundancy) == (0.75, 1, 0.25)


def test_an_answer_without_steps_scores_nothing_and_has_no_order_and_no_redundancy():
    scores = compare_plans("I cannot see a cup.", REFERENCE)
    assert (scores.format_valid, scores.step_precision, scores.step_recall, scores.step_f1) == (False, 0, 0, 0)
    assert (scores.order_agreement, scores.redundancy, scores.steps) == (None, None, 0)


def test_a_reference_without_steps_is_an_error_that_shows_it():
    with pytest.raises(UserError, match="no numbered plan: 'Do it'"):
        compare_plans(REFERENCE, "Do it")


def test_a_chinese_character_is_a_word():
    # Three of four characters are common.
    pairs = alignment(["\u62ff\u8d77\u676f\u5b50"], ["\u62ff\u8d77\u76d8\u5b50\u3002"])
    assert pairs == [(0, 0, 0.75)]


def test_the_matching_is_optimal_where_greedy_is_not():
    # Greedy pairs the equal steps and leaves 0 for the rest; crossing them gives 6/7 + 2/5.
    pairs = alignment(["pick red round cup", "cup"], ["pick red round cup", "pick red round"])
    assert pairs == [(0, 1, pytest.approx(6 / 7)), (1, 0, pytest.approx(2 / 5))]


def test_steps_without_a_common_word_are_not_aligned():
    assert alignment(["wipe the table", "stop"], ["pick the cup", "stop"]) == [(1, 1, 1)]
    assert alignment([], ["stop"]) == alignment(["stop"], []) == []


def test_leaving_steps_out_does_not_look_like_disorder_even_if_steps_repeat():
    assert alignment(["pick", "place"], ["place", "pick", "place"]) == [(0, 1, 1), (1, 2, 1)]
    rng = random.Random(0)
    for _ in range(100):
        reference = rng.choices("uvwxy", k=rng.randint(2, 12))
        answer = [step for step in reference if rng.random() < 0.8]
        matched = [j for _, j, _ in alignment(answer, reference)]
        assert matched == sorted(matched)


def test_no_other_matching_has_a_larger_overlap():
    rng = random.Random(0)
    for _ in range(30):
        a, b = ([" ".join(rng.choices("uvwxyz", k=rng.randint(1, 4))) for _ in range(5)] for _ in range(2))
        overlaps = {
            (i, j): o for i, j in itertools.product(range(5), repeat=2) for _, _, o in alignment([a[i]], [b[j]])
        }
        best = max(
            sum(overlaps.get(pair, 0) for pair in enumerate(order)) for order in itertools.permutations(range(5))
        )
        assert sum(overlap for _, _, overlap in alignment(a, b)) == pytest.approx(best)


def test_order_agreement_is_kendalls_tau_over_the_steps_that_match():
    words = ["apple", "bread", "cheese", "dates", "eggs", "figs"]
    for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 31):
        answer = " ".join(f"{i}) {words[j]}." for i, j in enumerate(order, 1))
        reference = " ".join(f"{i}) {word}." for i, word in enumerate(words, 1))
        expected = kendalltau(range(6), order).statistic
        assert compare_plans(answer, reference).order_agreement == pytest.approx(expected)


def test_a_pair_with_little_in_common_says_nothing_about_the_order():
    # Only "cup" joins the first step to the last of the reference, an overlap of 2/7; counted, it would give -1/3.
    answer = "1) Rinse it with the cup there. 2) Pick up the cup. 3) Wipe the table."
    assert len(alignment(numbered_steps(answer), numbered_steps(REFERENCE))) == 3
    assert compare_plans(answer, REFERENCE).order_agreement == 1
    assert compare_plans("1) Place the cup.", REFERENCE).order_agreement is None


def test_means_leave_out_what_is_not_defined_and_count_the_rest():
    reversed_plan = "1) Place the cup. 2) Wipe the table. 3) Pick up the cup."
    answers = [REFERENCE, reversed_plan, reversed_plan, "no plan"]
    found = summarise([compare_plans(answer, REFERENCE) for answer in answers])
    assert (found["rows"], found["format_validity"], found["step_f1"]) == (4, 0.75, 0.75)
    assert (found["order_agreement"], found["order_agreement_rows"]) == (pytest.approx(-1 / 3), 3)
    assert (found["redundancy"], found["steps"], found["reference_steps"]) == (0, 2.25, 3)
    nothing = summarise([compare_plans("no plan", REFERENCE)])
    assert (nothing["order_agreement"], nothing["order_agreement_rows"], nothing["redundancy"]) == (None, 0, None)
    with pytest.raises(ValueError, match="no scores"):
        summarise([])


def test_skill_lists_get_the_grounded_scores_of_the_evaluation():
    answer = json.dumps([SKILLS[0], {"name": "place", "params": {"target_container_name": 3}}])
    assert compare_skills(answer, fenced(SKILLS)) == score_grounded(answer, SKILLS, order_independent=False)
    with pytest.raises(FormatError):
        compare_skills(answer, REFERENCE)


def test_a_mixed_sample_is_scored_by_kind():
    found = score_answers(
        [
            (REFERENCE, REFERENCE),
            ("no plan", REFERENCE),
            (fenced(SKILLS), fenced(SKILLS)),
            ("no list", fenced(SKILLS)),
            ("apple 1  lemon 2\n", "apple 1 lemon 2"),
            ("apple 2 lemon 1", "apple 1 lemon 2"),
            ("", "apple 1"),
            ("1) apple", "apple 1"),
        ]
    )
    assert (found["plan_rows"], found["plan_format_validity"], found["plan_step_f1"]) == (2, 0.5, 0.5)
    assert (found["grounded_rows"], found["grounded_format_validity"], found["grounded_total"]) == (2, 0.5, 50)
    assert (found["grounded_entity"], found["grounded_plan_success"]) == (50, 50)
    assert (found["other_rows"], found["other_exact_match"]) == (4, 0.25)
    assert sum(key.startswith("grounded_") for key in found) == len(GROUNDED_METRICS) + 2
    assert json.loads(json.dumps(found)) == found


def test_a_kind_without_rows_has_no_keys():
    assert {key.split("_")[0] for key in score_answers([("", REFERENCE)])} == {"plan"}
    assert set(score_answers([("b", "a")])) == {"other_rows", "other_exact_match"}
    assert score_answers([]) == {}


def test_every_row_of_the_demo_is_of_a_known_kind_and_agrees_with_itself(tmp_path):
    build_rows(tmp_path / "rows.jsonl", "train", 60, seed=0)
    records = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    targets = [record["target"]["steps"] for record in records]
    found = score_answers([(target, target) for target in targets])
    assert found["other_rows"] == sum("List the tagged" in json.dumps(record) for record in records)
    assert found["grounded_rows"] == sum(target.startswith("```json") for target in targets)
    assert found["plan_rows"] == sum(target.startswith("1)") for target in targets) > 0
    assert (found["plan_step_f1"], found["plan_format_validity"]) == (1, 1)
    assert (found["grounded_total"], found["other_exact_match"]) == (pytest.approx(100), 1)


@pytest.mark.parametrize(
    "text",
    [
        " ".join(f"{i}) Pick up the cup." for i in range(1, 10_001)),
        "1) " + "cup " * 100_000,
        "1) a. " * 50_000,
        "(" * 100_000,
        " " * 100_000 + "1) a",
        "1" * 100_000,
        "step " * 50_000,
        "\u3001".join(map(str, range(10_000))),
        "\ud800 1) \x00 \udfff 2) a",
    ],
)
def test_hostile_text_is_read_within_bounds(text):
    scores = compare_plans(text, REFERENCE)
    assert scores.steps <= MOST_STEPS
    assert sum(map(len, numbered_steps(text))) <= MOST_CHARACTERS
    assert 0 <= scores.step_f1 <= 1
    assert 0 <= compare_plans(REFERENCE, f"{REFERENCE} 4) {text}").step_f1 <= 1


def test_of_ten_thousand_steps_the_first_are_read():
    steps = numbered_steps(" ".join(f"{i}) step number {i}." for i in range(1, 10_001)))
    assert steps == [f"step number {i}." for i in range(1, MOST_STEPS + 1)]
