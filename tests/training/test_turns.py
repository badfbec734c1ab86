"""Prompt, answer and earlier answers in what chat templates of several shapes render."""

import pytest

from configs.errors import UserError
from leap.models.loading import load_processor
from leap.rows.records import row_from_record
from leap.training.turns import earlier_answers, refuse_endless, render, render_all

STEPS = "1) Pick up the cup. 2) Place it."
# By what sets them apart: the blank of SmolVLM's answers, the blank of LLaVA-OneVision's headers, Gemma's renamed role.
_ITEMS = "{% for item in m.content %}{{ item.text }}{% endfor %}"
TEMPLATES = {
    "a blank begins the answer": "{% for m in messages %}{{ m.role | capitalize }}: " + _ITEMS + "<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}",
    "another header than the prompt's": "{% for m in messages %}<|im_start|>{{ m.role }} {{ '\n' }}" + _ITEMS
    + "<|im_end|>{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "a renamed role": "{% for m in messages %}<|im_start|>{{ m.role | replace('assistant', 'model') }}{{ '\n' }}"
    + _ITEMS + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}",
}  # fmt: skip


@pytest.fixture
def processor(demo):
    return load_processor(demo / "models" / "tiny-planner")


def conversation(*earlier):
    turns = [{"role": "user", "content": "Plan."}, *earlier]
    return row_from_record({"messages": turns, "target": {"steps": STEPS}}, "rows:1", None)


TWO_ANSWERS = (
    {"role": "assistant", "content": "Which cup?"},
    {"role": "user", "content": "The red one."},
    {"role": "assistant", "content": "And where?"},
    {"role": "user", "content": "There."},
)


@pytest.mark.parametrize("shape", TEMPLATES)
def test_the_prompt_is_that_of_generation_and_the_answer_ends_with_its_token(processor, shape):
    processor.chat_template = TEMPLATES[shape]
    row = conversation()
    prompt, answer = render(processor, row)
    assert prompt == processor.apply_chat_template(row.messages, tokenize=False, add_generation_prompt=True)
    assert answer.lstrip() == STEPS + "<|im_end|>"
    assert answer.startswith(" ") == (shape == "a blank begins the answer")


@pytest.mark.parametrize("shape", TEMPLATES)
def test_rows_are_rendered_together_as_they_are_one_by_one(processor, shape):
    processor.chat_template = TEMPLATES[shape]
    rows = [conversation(), conversation(*TWO_ANSWERS)]
    texts = render_all(processor, rows)
    assert texts == [render(processor, row) for row in rows]
    assert texts[0] != texts[1]


@pytest.mark.parametrize("shape", TEMPLATES)
def test_earlier_answers_are_found_with_what_ends_them(processor, shape):
    processor.chat_template = TEMPLATES[shape]
    row = conversation(*TWO_ANSWERS)
    prompt, _ = render(processor, row)
    found = [prompt[begin:end] for begin, end in earlier_answers(processor, row)]
    assert [answer.lstrip() for answer in found] == ["Which cup?<|im_end|>", "And where?<|im_end|>"]
    assert earlier_answers(processor, conversation()) == []


def test_a_template_that_shortens_earlier_turns_is_refused(processor):
    processor.chat_template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content[0].text if loop.last else m.content[0].text[:3] }}<|im_end|>"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    with pytest.raises(UserError, match=r"rows:1: .*(renders turn 2 otherwise|cannot tell)"):
        earlier_answers(processor, conversation(*TWO_ANSWERS))


def test_an_answer_that_ends_with_no_special_token_is_refused(processor):
    processor.chat_template = TEMPLATES["a renamed role"].replace("<|im_end|>", "[end]")
    with pytest.raises(UserError, match=r"rows:1: .*ends an answer with '\[end\]', which is no special token"):
        render(processor, conversation())


def test_a_turn_that_ends_where_generation_goes_on_is_refused(processor):
    processor.chat_template = TEMPLATES["a renamed role"].replace("<|im_end|>", "<|endoftext|>")
    tokens = processor.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    refuse_endless(processor, conversation(), tokens)
    with pytest.raises(UserError, match=r"ends a turn with '<\|endoftext\|>', .* stops at '<\|im_end\|>' only"):
        refuse_endless(processor, conversation(), tokens[:1])
