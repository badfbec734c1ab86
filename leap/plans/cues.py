"""What the words in front of a plan say about it: an example, a draft, the final plan, or one step of several."""

from __future__ import annotations

import re

EXAMPLE, DRAFT, UNMARKED, FINAL = range(4)  # rising finality

_MOST_WORDS = 400  # characters in front of a plan that may say something about it

# The prompt goes on in the answer: a model without an end of turn asks itself the next question.
_NEXT_QUESTION = re.compile(
    r"\binput picture\b|\blanguage instruction:|<\|im_start\|>|^\s*(?:human|user|question)\s*:"
    r"|\u8f93\u5165\u56fe\u7247|\u8bed\u8a00\u6307\u4ee4|^\s*\u7528\u6237\s*[:\uff1a]",
    re.IGNORECASE | re.MULTILINE,
)
# "in the required format", "as in the example": these announce the plan itself. In Chinese: "in ... form", "form as
# follows".
_NO_EXAMPLE = re.compile(
    r"\b(?:in|using|following|with|as)\b[^.:\n]*\bformat\b|\bformatted\b|\([^)\n]*\bformat\)"
    r"|\b(?:as|like|unlike|following|from|per|on|to)\s+(?:in\s+)?(?:the|this|that|your)\s+(?:\w+\s+)?examples?\b"
    r"|(?:\u6309|\u4ee5|\u7528|\u7b26\u5408|\u9075\u5faa)[^\u3002\n]*\u683c\u5f0f|\u683c\u5f0f(?:\u7684|\u8f93\u51fa|\u5982\u4e0b)",
    re.IGNORECASE,
)
# Chinese: example (four words), for example (two), template, format.
_EXAMPLE = re.compile(
    r"\b(?:examples?|e\.g|for instance|sample|template|schema|placeholders?|illustrat\w+|syntax|format)\b"
    r"|\u793a\u4f8b|\u4f8b\u5b50|\u6837\u4f8b|\u8303\u4f8b|\u4f8b\u5982|\u6bd4\u5982|\u6a21\u677f|\u683c\u5f0f",
    re.IGNORECASE,
)
# Tags of an answer count as such words. Chinese: final, correct (three words), revised, actually.
_FINAL = re.compile(
    r"\b(?:final|correct|corrected|correction|revised|updated|fixed|improved|actually|wait)\b"
    r"|<answer\b|begin_of_box|\\boxed"
    r"|\u6700\u7ec8|\u6b63\u786e|\u66f4\u6b63|\u4fee\u6b63|\u4fee\u6539\u540e|\u5b9e\u9645\u4e0a",
    re.IGNORECASE,
)
# Chinese: draft (two words), first, perhaps, alternative (two), wrong, do not.
_DRAFT = re.compile(
    r"\b(?:draft|rough|initial|first (?:attempt|idea|try|guess|thought|pass|version)|maybe|perhaps|could be|might be"
    r"|option|alternatives?|alternatively|another (?:way|option|possib\w+)|instead of|rather than|do not|don't|avoid"
    r"|(?:wrong|incorrect|bad|invalid)\s+(?:plan|answer|output|sequence|order|format))\b"
    r"|\u8349\u7a3f|\u521d\u7a3f|\u521d\u6b65|\u4e5f\u8bb8|\u5907\u9009|\u53e6\u4e00\u79cd|\u9519\u8bef|\u4e0d\u8981",
    re.IGNORECASE,
)
_FENCE = re.compile(r"`{3,}[\w-]*")
_SENTENCE_END = re.compile(r"[.!?]\s|[\u3002\uff01\uff1f]")
_DECORATION = " \t\r\n`*_#>(\"':,;-.\u3002\uff1a\uff0c\uff1b\uff08"

# "Step 2: Put it down" and the like in front of a step, with the Chinese forms of "step 2", "then", "next", "last".
_STEP_LABEL = re.compile(
    r"(?:step\s*[0-9]+|[0-9]+\s*(?:[.):\u3001]|$)|(?:and\s+)?then\b|next\b|finally\b|second(?:ly)?\b|third(?:ly)?\b"
    r"|\u7b2c\s*[0-9\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341]+\s*\u6b65"
    r"|\u6b65\u9aa4\s*[0-9\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341]+"
    r"|\u63a5\u7740|\u7136\u540e|\u6700\u540e|\u518d)",
    re.IGNORECASE,
)
_TRAILING_COMMENT = re.compile(r"^[ \t,;]*(?:#|//)[^\n]*")
_LONGEST_LABEL = 300


def finality_of(words: str, *, after_a_plan: bool = False) -> int:
    """EXAMPLE, DRAFT, UNMARKED or FINAL, by the sentence that ends with `words`, all that stands between a plan and the
    plan before it (`after_a_plan`) or the beginning of the answer."""
    if after_a_plan and _NEXT_QUESTION.search(words):
        return EXAMPLE
    announcement = _last_sentence(words)
    if _EXAMPLE.search(_NO_EXAMPLE.sub(" ", announcement)):
        return EXAMPLE
    if _FINAL.search(announcement):
        return FINAL
    return DRAFT if _DRAFT.search(announcement) else UNMARKED


def is_step_label(words: str) -> bool:
    """Whether the words between two steps only name the second one: "Step 2: Put it down"."""
    label = without_fences(words)
    return bool(_STEP_LABEL.match(label)) and len(label) <= _LONGEST_LABEL


def announces_a_step(words: str) -> bool:
    """Whether the last line of the words in front of a plan says that it is one step of several."""
    return is_step_label(_last_line(words))


def without_fences(words: str) -> str:
    """The words between two pieces of JSON without fences, bullets and a comment behind the first piece."""
    return _FENCE.sub(" ", _TRAILING_COMMENT.sub("", words)).strip(_DECORATION)


def _last_sentence(words: str) -> str:
    return _SENTENCE_END.split(_last_line(words).replace("e.g. ", "e.g "))[-1]


def _last_line(words: str) -> str:
    lines = _FENCE.sub("\n", words[-_MOST_WORDS:]).splitlines()
    return next((line for line in reversed(lines) if line.strip(_DECORATION)), "").rstrip(_DECORATION)
