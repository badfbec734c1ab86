"""The rubric: four scales with their anchors, and the replies of a judge, checked.

The scales are those of the original LEAP; the mean of the four is computed by us, never asked for.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from leap.judge.judgements import HIGHEST, LOWEST, SCALES
from leap.plans.reading import FormatError, final_object

TITLES = {
    "completeness": "Completeness",
    "logical_sequence": "Logical sequence",
    "hallucination_redundancy": "No hallucination or redundancy",
    "granularity": "Granularity",
}
ANCHORS: dict[str, dict[int, str]] = {
    "completeness": {
        5: "every milestone of the reference is there",
        3: "small steps between are missing, the goal is still reached",
        1: "steps are missing without which the task cannot be done, such as grasping what is moved next",
    },
    "logical_sequence": {
        5: "the order respects cause and effect throughout",
        3: "some steps stand in another place, which costs effort but breaks nothing",
        1: "the order is physically impossible, such as folding what was not picked up, or goes in circles",
    },
    "hallucination_redundancy": {
        5: "concise, nothing is repeated, every object is in the scene",
        3: "one or two superfluous steps",
        1: "objects that are not there, or the same steps over and over",
    },
    "granularity": {
        5: "as detailed as the reference",
        3: "noticeably coarser or finer than the reference",
        1: "only a vague goal, or motor commands where the reference names actions",
    },
}


def _whole(value: object) -> object:
    """4.0 as 4: JSON does not tell them apart, and writers of JSON in some languages know floats only."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Score = Annotated[int, BeforeValidator(_whole), Field(ge=LOWEST, le=HIGHEST, strict=True)]
_LONGEST_REASONING = 4_000  # characters kept


class RubricScores(BaseModel):
    """Whole numbers from 1 to 5, also written as 4.0; a number in quotes is none."""

    completeness: _Score
    logical_sequence: _Score
    hallucination_redundancy: _Score
    granularity: _Score


class RubricReply(BaseModel):
    """A judge's reply on one plan. What else it says, such as a final score of its own, is ignored."""

    reasoning: str
    scores: RubricScores


class PairReply(BaseModel):
    """A judge's reply on two plans."""

    reasoning: str
    better: Literal["A", "B", "tie"]


class InvalidReply(ValueError):
    """A reply that is no valid judgement; its message says why in one line."""


def read_rubric(content: str) -> tuple[dict[str, float], str]:
    """(scores by scale, reasoning) of a reply. Raises InvalidReply."""
    reply = _read(content, RubricReply)
    return {scale: getattr(reply.scores, scale) for scale in SCALES}, _trimmed(reply.reasoning)


def read_pair(content: str) -> tuple[Literal["A", "B", "tie"], str]:
    """(the better plan, reasoning) of a reply. Raises InvalidReply."""
    reply = _read(content, PairReply)
    return reply.better, _trimmed(reply.reasoning)


def response_format(model: type[BaseModel]) -> dict[str, Any]:
    """The `response_format` of a chat completion that asks for this reply by a strict JSON schema: no default, no
    optional key, nothing additional."""
    schema = _strict(model.model_json_schema())
    return {"type": "json_schema", "json_schema": {"name": model.__name__, "strict": True, "schema": schema}}


def _read(content: str, model: type[BaseModel]) -> Any:
    """The JSON object of a reply: the last one behind what the judge thought, in a fence or among words."""
    try:
        value = final_object(content)
    except FormatError:
        raise InvalidReply(f"no JSON: {content[:80]!r}") from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the reply"
        raise InvalidReply(f"{where}: {first['msg']}, found {first['input']!r:.80}") from None


def _trimmed(reasoning: str) -> str:
    """What is kept of a reasoning: text that UTF-8 can carry, which half an emoji is not."""
    return reasoning[:_LONGEST_REASONING].encode("utf-8", "replace").decode()


def _strict(schema: dict) -> dict:
    """A pydantic schema as strict modes take it: every object closed, without titles, definitions in place."""
    definitions = schema.pop("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return walk(definitions[node["$ref"].rpartition("/")[2]])
        strict = {key: walk(value) for key, value in node.items() if key not in ("title", "description")}
        if strict.get("type") == "object":
            strict["properties"] = {name: walk(value) for name, value in node["properties"].items()}
            strict |= {"additionalProperties": False, "required": list(node["properties"])}
        return strict

    return walk(schema)
