"""What a model's folder may ask of this machine: layers, and seconds for its chat template and its patterns.

A template may loop and a regular expression explode; both run in Python's own interpreter, which a timer can interrupt.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from leap.text import first_line

MOST_LAYERS = 2_000  # of a model; the deepest public ones have fewer than 200
TEMPLATE_S = 10.0  # for a prompt of one line, which takes a millisecond
PATTERN_S = 20.0  # for the names of all layers


@contextlib.contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """Interrupt the block after so many seconds: ValueError names `what`. Only in the main thread, on systems with
    timers; elsewhere the block runs on."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(*_: object) -> None:
        raise ValueError(f"{what} takes longer than {seconds:g} s")

    earlier = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def layers_problem(config: Any) -> str | None:
    """Why a config.json, or a part of it, describes no model that can be built, or None."""
    if isinstance(config, dict):
        for name, value in config.items():
            layers = name in ("num_hidden_layers", "n_layer", "num_layers", "depth")
            if layers and (not isinstance(value, int) or not 0 <= value <= MOST_LAYERS):
                return f"{name} is {value!r:.40}, and {MOST_LAYERS:,} layers are the most"
            if problem := layers_problem(value):
                return problem
    return None


def template_problem(processor: Any) -> str | None:
    """Why the chat template of a processor cannot be used on the plainest prompt, or None."""
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a"}]}]
    try:
        with within(TEMPLATE_S, "the chat template"):
            processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # the template is a program: it raises whatever its author, or Jinja, thinks of
        return first_line(error)
    return None


def adapter_patterns(config: dict[str, Any]) -> list[str]:
    """The regular expressions over names of layers in an adapter_config.json, as PEFT completes them."""
    patterns = [config[key] for key in ("target_modules", "exclude_modules") if isinstance(config.get(key), str)]
    for key in ("rank_pattern", "alpha_pattern"):
        patterns += [rf"(.*\.)?({layer})$" for layer in config.get(key) or ()]
    for key, form in (("layers_pattern", r"(?:^|.*?\.)%s\.(?P<idx>\d+)\."), ("modules_to_save", r"(^|.*\.)%s($|\..*)")):
        layers = config.get(key) or ()
        patterns += [form % layer for layer in ([layers] if isinstance(layers, str) else layers)]
    return patterns


def pattern_problem(patterns: Iterable[str], names: Iterable[str]) -> str | None:
    """Why one of the regular expressions over the names of layers cannot be used, or None."""
    names = list(names)
    try:
        with within(PATTERN_S, "the pattern of its layers"):
            for expression in map(re.compile, patterns):
                for name in names:
                    expression.match(name)
                    expression.fullmatch(name)
    except (ValueError, re.error, RecursionError, OverflowError) as error:
        return str(error) or type(error).__name__
    return None
