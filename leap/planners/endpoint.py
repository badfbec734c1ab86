"""Any OpenAI-compatible endpoint as planner: vLLM, SGLang, `transformers serve` or a service does the work.

Which weights answer cannot be seen from here: an evaluation's settings name the model and the address, or `endpoint_id`
in place of the address.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai

from configs.errors import UserError
from leap.endpoint import Dialect, Endpoint, NoAnswer, read_completion
from leap.models.answer import Answer
from leap.planners import MachineFailure, Query, QueryResult, UnreadablePicture
from leap.planners.options import AnsweringOptions
from leap.rows.images import data_url, png_data_url

# temperature 0 is greedy. `transformers serve` makes its repetition penalty 1 + frequency_penalty, whatever the
# model's own generation_config.json says; elsewhere 0 is the default.
DECODING = {"temperature": 0, "frequency_penalty": 0, "seed": 0}

# What some models and services refuse. They take the length by another name, and do without the others.
_REFUSABLE = {name: (name,) for name in ("max_tokens", "top_p", *DECODING)}

_STOPS = {"stop": "end", "eos_token": "end", None: "end", "length": "length"}


class EndpointPlanner:
    """A served model, each prompt one request, answered in any order.

    What the endpoint refuses of the parameters is left out from then on; `notes` say so, and what else a user should
    know before trusting its numbers.
    """

    def __init__(self, endpoint: Endpoint, options: AnsweringOptions) -> None:
        """At a `temperature` above 0 answers are drawn, each by the seed of its query where the endpoint heeds it."""
        self.endpoint, self.options = endpoint, options
        drawing = {"temperature": options.temperature, "top_p": options.top_p}
        self._decoding = DECODING | (drawing if options.temperature else {})
        self._dialect = Dialect(_REFUSABLE)
        unseen = (
            f"which weights {endpoint.address} serves as {endpoint.model} cannot be seen from here; --endpoint_id can "
            "name them"
        )
        self._notes = [] if options.endpoint_id else [unseen]

    @property
    def notes(self) -> list[str]:
        """With the parameters of decoding that the endpoint has refused by now."""
        refused = sorted(self._dialect.left_out - {"max_tokens"})
        if not refused:
            return self._notes
        words = f"{self.endpoint.address} refuses {', '.join(refused)}: what it does without them decides its answers"
        return [*self._notes, words]

    def identity(self) -> dict[str, Any]:
        return {
            "planner": "openai",
            "model": self.endpoint.model,
            "endpoint": self.options.endpoint_id or self.endpoint.address,
            "decoding": {**self._decoding, "max_tokens": self.options.max_new_tokens},
        }

    def batches(self, queries: Sequence[Query]) -> list[list[Query]]:
        return [[query] for query in queries]

    def answer(self, batches: Iterable[Sequence[Query]]) -> Iterator[list[QueryResult]]:
        """Each answer as soon as it is known; pictures are read when their request is about to be sent.

        UserError if the endpoint refuses key, model or address, or gives no answer to many requests in a row. Closing
        the generator, or Ctrl-C, drops what is in flight.
        """
        return self.endpoint.work((query for batch in batches for query in batch), self._ask)

    async def _ask(self, client: openai.AsyncOpenAI, query: Query) -> QueryResult:
        while True:
            left_out = self._dialect.left_out
            try:
                return query, await self.endpoint.ask(client, self._request(query, left_out), self._read)
            except NoAnswer as failure:
                if not self._dialect.adapts(failure, left_out):
                    return query, MachineFailure(str(failure))
            except MachineFailure as failure:
                return query, failure

    def _request(self, query: Query, left_out: Collection[str]) -> dict[str, Any]:
        """The parameters of a chat completion but those `left_out`: the prompt's items in their order, pictures as data
        URLs."""
        blank = iter(query.pictures() if query.blank_images else ())

        def part(item: dict) -> dict[str, Any]:
            if item["type"] == "text":
                return {"type": "text", "text": item["text"]}
            url = png_data_url(next(blank)) if query.blank_images else _picture_url(Path(item["image"]))
            return {"type": "image_url", "image_url": {"url": url}}

        turns = [{"role": turn["role"], "content": [part(item) for item in turn["content"]]} for turn in query.messages]
        drawn = {"seed": query.seed} if self._decoding["temperature"] else {}
        most = self.options.max_new_tokens
        parameters = {"max_tokens": most} | self._decoding | drawn
        parameters = {name: value for name, value in parameters.items() if name not in left_out}
        renamed = {"max_completion_tokens": most} if "max_tokens" in left_out else {}
        return {"model": self.endpoint.model, "messages": turns} | parameters | renamed

    def _read(self, body: bytes) -> Answer | MachineFailure:
        answer = read_answer(body)
        if isinstance(answer, Answer):
            return replace(answer, text=self.endpoint.redacted(answer.text))
        return MachineFailure(self.endpoint.without_key(str(answer)))


def read_answer(body: bytes) -> Answer | MachineFailure:
    """The answer in the body of a chat completion. ValueError if it is none.

    An empty answer is an answer. One that the service withheld is its failure: it comes as a MachineFailure.
    """
    completion = read_completion(body)
    if completion.refusal:
        return MachineFailure(f"the endpoint refused: {completion.refusal}")
    if completion.finish == "content_filter":
        return MachineFailure("the endpoint's content filter withheld the answer")
    if not completion.text and completion.calls_tool:
        return MachineFailure("the endpoint took the answer for a tool call; serve the model without a tool parser")
    if completion.finish not in _STOPS:
        raise ValueError(f"finish_reason {completion.finish!r}")
    return Answer(completion.text, completion.completion_tokens, _STOPS[completion.finish])


def _picture_url(path: Path) -> str:
    try:
        return data_url(path)
    except ValueError as error:
        raise UnreadablePicture(f"unreadable image: {path} {error}") from error


def open_planner(options: AnsweringOptions, folder: Path | None) -> EndpointPlanner:
    """The endpoint that --base_url or OPENAI_BASE_URL names. UserError if neither does, or no model is named."""
    endpoint = Endpoint(options, options.model, os.environ.get("OPENAI_API_KEY"))
    if not options.model:
        raise UserError("--planner openai needs --model, the name under which the endpoint serves it")
    return EndpointPlanner(endpoint, options)
