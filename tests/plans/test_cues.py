import pytest

from leap.plans.cues import (
    DRAFT,
    EXAMPLE,
    FINAL,
    UNMARKED,
    announces_a_step,
    finality_of,
    is_step_label,
    without_fences,
)


@pytest.mark.parametrize(
    ("words", "finality"),
    [
        ("", UNMARKED),
        ("Here is the plan:\n```json\n", UNMARKED),
        ("Example 0 output skill sequence\n", EXAMPLE),
        ("Output format:\n", EXAMPLE),
        ("e.g. ", EXAMPLE),
        ("Here is the answer in the required format:", UNMARKED),
        ("As in the example, the plan is:", UNMARKED),
        ("For example, a cup can be lifted. The plan is: ", UNMARKED),
        ("### Draft\n", DRAFT),
        ("Maybe ", DRAFT),
        ("**Final answer:**\n\n```json\n", FINAL),
        ("That was wrong. Corrected:", FINAL),
        ("<answer>\n", FINAL),
        ("\u793a\u4f8b\uff1a\n", EXAMPLE),
        ("\u4ee5JSON\u683c\u5f0f\u8f93\u51fa\uff1a\n", UNMARKED),
        ("\u8349\u7a3f\uff1a", DRAFT),
        ("\u6700\u7ec8\u7b54\u6848\uff1a", FINAL),
    ],
)
def test_the_last_sentence_says_what_a_plan_is(words, finality):
    assert finality_of(words) == finality


def test_a_plan_behind_an_invented_question_is_an_example():
    words = "```\nUser: And the pear?\nAssistant: "
    assert finality_of(words, after_a_plan=True) == EXAMPLE
    assert finality_of(words) == UNMARKED


def test_words_between_steps_may_name_the_next_step():
    assert is_step_label("```\n\nStep 2: Place it.\n```json\n")
    assert is_step_label("\n2. ")
    assert is_step_label("\n\u7b2c\u4e8c\u6b65\uff1a")
    assert not is_step_label("\nFinal: ")
    assert not is_step_label("")
    assert announces_a_step("Here is the plan.\n\nStep 1: Pick it up.\n```json\n")


def test_fences_and_a_comment_behind_the_step_are_no_words():
    assert without_fences(",  # the apple\n```\n```json\n") == ""
    assert without_fences("```\nand") == "and"
