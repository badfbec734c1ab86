"""Where a conversation's answers stand in what the chat template renders.

Prompt and answer are told apart structurally: the template renders the conversation with and without the answer, and
the rest, up to the token that ends the turn, is the answer. No token id is ever searched for.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from configs.errors import UserError
from leap.models.bounds import TEMPLATE_S, within
from leap.rows.chat import chat_messages
from leap.rows.records import PlanningRow


def render(processor: Any, row: PlanningRow) -> tuple[str, str]:
    """The row as (prompt text, answer text), the answer with its end-of-turn token and nothing behind it.

    ValueError if the processor's chat template takes too long; UserError if it does not continue the prompt by the
    answer and one token that ends it.
    """
    return render_all(processor, [row])[0]


def render_all(processor: Any, rows: Sequence[PlanningRow]) -> list[tuple[str, str]]:
    """`render` of each row, in the time for one. An error may be any row's."""
    prompts = _all_rendered(processor, [chat_messages(row) for row in rows], asks=True)
    wholes = _all_rendered(processor, [chat_messages(row, row.steps) for row in rows])
    answers = map(functools.partial(_answer, processor), rows, prompts, wholes)
    return list(zip(prompts, answers, strict=True))


def _answer(processor: Any, row: PlanningRow, prompt: str, whole: str) -> str:
    """The answer in a `whole` conversation that begins with `prompt`."""
    begin = prompt
    if not whole.startswith(prompt):
        begin = _rendered(processor, chat_messages(row))
        begin += _header(whole, begin, row.steps)
    answer = whole.removeprefix(begin).rstrip()
    blank, steps, end = answer.partition(row.steps)
    if not whole.startswith(begin) or not steps or blank.strip():
        problem = "does not render prompt + answer"
    elif not _is_special(processor.tokenizer, end.strip()):
        problem = f"ends an answer with {end!r:.60}, which is no special token"
    else:
        return answer
    raise UserError(
        f"{row.where}: the chat template of this model {problem}; LEAP cannot tell which tokens to supervise"
    )


def earlier_answers(processor: Any, row: PlanningRow) -> list[tuple[int, int]]:
    """The assistant's earlier turns in the prompt of `render`, each as (first, behind the last) of its characters, its
    end-of-turn token among them. Errors as `render`."""
    messages = chat_messages(row)
    turns = [i for i, turn in enumerate(messages) if turn["role"] == "assistant"]
    if not turns:
        return []
    prompt, answer = render(processor, row)
    end_of_turn = answer.rpartition(row.steps)[2].strip()
    spans = []
    for i in turns:
        begin = _rendered(processor, messages[:i], asks=True)
        if not prompt.startswith(begin):
            whole = _rendered(processor, chat_messages(row, row.steps))
            begin = _rendered(processor, messages[:i]) + _header(whole, _rendered(processor, messages), row.steps)
        turn = _rendered(processor, messages[: i + 1]).rstrip()
        if not (begin and prompt.startswith(begin) and prompt.startswith(turn) and turn.endswith(end_of_turn)):
            raise UserError(
                f"{row.where}: the chat template of this model renders turn {i + 1} otherwise where others follow; "
                "LEAP cannot tell which tokens to supervise. Leave supervise: all out"
            )
        spans.append((len(begin), len(turn)))
    return spans


def refuse_endless(processor: Any, row: PlanningRow, stops: Sequence[int]) -> None:
    """UserError if a model that learned to end a turn as its chat template does would be asked to go on: generation
    ends at the tokens `stops` alone."""
    end, tokenizer = render(processor, row)[1].rpartition(row.steps)[2].strip(), processor.tokenizer
    if tokenizer.convert_tokens_to_ids(end) not in stops:
        names = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(list(stops))))
        raise UserError(
            f"the chat template of this model ends a turn with {end!r}, and generation stops at {names} only: no plan "
            "would ever end. Add that token's id to eos_token_id in the model's generation_config.json"
        )


def _header(whole: str, bare: str, steps: str) -> str:
    """What the template writes in front of an answer, behind the `bare` conversation. Some write something else than
    they ask for an answer by (LLaVA-OneVision a blank more): the prompt is then as it is for generation."""
    return whole.removeprefix(bare).partition(steps)[0]


def _rendered(processor: Any, messages: list[dict], *, asks: bool = False) -> str:
    return _all_rendered(processor, [messages], asks=asks)[0] if messages else ""


def _all_rendered(processor: Any, conversations: list[list[dict]], *, asks: bool = False) -> list[str]:
    """What the template makes of each conversation, together: what it takes to call it is most of the time."""
    with within(TEMPLATE_S, "the chat template"):
        return processor.apply_chat_template(conversations, tokenize=False, add_generation_prompt=asks)


@functools.lru_cache(maxsize=64)  # the tokens of a tokenizer are a list that it makes anew each time
def _is_special(tokenizer: Any, text: str) -> bool:
    return any(token.special and str(token) == text for token in tokenizer.added_tokens_decoder.values())
