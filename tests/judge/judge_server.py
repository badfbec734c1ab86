"""A judge on the loopback: scores by the words of the plan, counts tokens, and misbehaves by turns."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from tests.endpoint_server import Endpoint, Reply

_FENCED = re.compile(r"<<(?P<nonce>[0-9a-f]{12}) PLAN (?P<name>\w+)>>\n(?P<plan>.*?)\n<<END (?P=nonce)", re.DOTALL)

_NUMBERED = re.compile(r"(?:cup|drawer) \d+")


def plans_in(body: dict) -> list[str]:
    """The fenced plans of a request."""
    text = body["messages"][1]["content"][-1]["text"]
    return [found["plan"] for found in _FENCED.finditer(text)]


def quality(plan: str, reference: str) -> int:
    """1 to 5: the more steps that name a cup, a tray or a drawer, the better; instructions count for nothing, and cups
    and drawers of another number make the worst plan."""
    if "JUDGE" in plan or set(_NUMBERED.findall(plan)) - set(_NUMBERED.findall(reference)):
        return 1
    return min(5, 1 + sum(plan.count(word) for word in ("cup", "tray", "drawer")))


def scores(n: object) -> dict:
    return dict.fromkeys(("completeness", "logical_sequence", "hallucination_redundancy", "granularity"), n)


def honest(body: dict) -> str:
    """The content of a fair reply."""
    plans, reference = plans_in(body), body["messages"][1]["content"][0]["text"]
    if len(plans) == 1:
        said = scores(quality(plans[0], reference))
        return json.dumps({"reasoning": f"It has {len(plans[0])} characters.", "scores": said})
    a, b = (quality(plan, reference) for plan in plans)
    return json.dumps({"reasoning": "Compared.", "better": "A" if a > b else "B" if b > a else "tie"})


def reply(content: str | None, body: dict, finish: str = "stop", **message: object) -> dict:
    """A chat completion with usage."""
    prompt = sum(len(json.dumps(turn)) for turn in body["messages"]) // 4
    return {
        "choices": [{"index": 0, "finish_reason": finish, "message": {"content": content, **message}}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": 7 + len(content or "") // 4},
    }


# Each fault: (what is sent, whether the endpoint counts its tokens).
FAULTS: dict[str, tuple[Callable[[dict], Reply], bool]] = {
    "429 and when": (lambda body: Reply({"error": {"message": "slow"}}, 429, {"Retry-After": "0.01"}), False),
    "429": (lambda body: Reply({"error": {"message": "slow"}}, 429), False),
    "500": (lambda body: Reply({"error": {"message": "oops"}}, 500), False),
    "html": (lambda body: Reply(b"<html><body>gateway</body></html>"), False),
    "cut": (lambda body: Reply(reply(honest(body), body), cut=True), True),
    "drop": (lambda body: Reply(drop=True), False),
    "hang": (lambda body: Reply(reply(honest(body), body), delay_s=4.0), False),
    "six": (lambda body: Reply(reply(json.dumps({"reasoning": "r", "scores": scores(6)}), body)), True),
    "text": (lambda body: Reply(reply(json.dumps({"reasoning": "r", "scores": scores("4")}), body)), True),
    "refusal": (lambda body: Reply(reply(None, body, refusal="I cannot")), True),
    "length": (lambda body: Reply(reply('{"reasoning": "it', body, finish="length")), True),
}


@dataclass
class Judge:
    """Replies for an Endpoint. `share` of the requests gets each fault, drawn by request; `tokens` are what it counted
    by the request's id."""

    endpoint: Endpoint
    share: float = 0.0
    faults: tuple[str, ...] = tuple(FAULTS)
    seed: int = 0
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)
    met: dict[str, int] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def __call__(self, number: int, body: dict) -> Reply:
        with self.lock:
            draw = random.Random(f"{self.seed} {number}").random()
            index = int(draw / self.share) if self.share else len(self.faults)
            fault = self.faults[index] if index < len(self.faults) else "none"
            self.met[fault] = self.met.get(fault, 0) + 1
            make, counted = FAULTS.get(fault, (lambda body: Reply(reply(honest(body), body)), True))
            answer = make(body)
            if counted:
                usage = answer.body["usage"]
                self.tokens[self.endpoint.headers[number]["X-Client-Request-Id"]] = tuple(usage.values())
            return answer


def fingerprint(body: dict) -> str:
    """Names what was asked, whatever the parameters."""
    return hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
