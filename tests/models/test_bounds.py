"""A model's folder gets so much of this machine and no more."""

import time
from types import SimpleNamespace

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from leap.models import bounds
from leap.models.bounds import adapter_patterns, layers_problem, pattern_problem, template_problem, within


def processor_of(template):
    """A processor that renders as transformers does."""
    compiled = ImmutableSandboxedEnvironment().from_string(template)
    return SimpleNamespace(apply_chat_template=lambda messages, **options: compiled.render(messages=messages))


def test_what_takes_too_long_is_interrupted():
    began = time.monotonic()
    with pytest.raises(ValueError, match="this takes longer than 0.1 s"), within(0.1, "this"):
        time.sleep(30)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "longer than"),
        ("{{ messages.nothing.at_all }}", "has no attribute"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ 1 + 'a' }}", "unsupported operand"),
        ("{{ range(999999999) }}", "too big"),
    ],
)
def test_a_template_that_cannot_be_used_has_a_reason(monkeypatch, template, words):
    monkeypatch.setattr(bounds, "TEMPLATE_S", 0.3)
    assert words in template_problem(processor_of(template))
    assert template_problem(processor_of("{{ messages[0].role }}")) is None


def test_a_pattern_that_explodes_or_is_none_has_a_reason(monkeypatch):
    monkeypatch.setattr(bounds, "PATTERN_S", 0.3)
    assert "longer than" in pattern_problem(["(a+)+b"], ["a" * 60])
    assert "unterminated" in pattern_problem(["(a"], ["a"])
    assert pattern_problem([r".*q_proj"], ["model.q_proj"]) is None


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": "(a+)+b"},
        {"exclude_modules": "(a+)+b"},
        {"rank_pattern": {"(a+)+b": 4}},
        {"alpha_pattern": {"(a+)+b": 4}},
        {"layers_pattern": "(a+)+b"},
        {"modules_to_save": ["(a+)+b"]},
    ],
)
def test_every_pattern_of_an_adapter_is_bounded(config, monkeypatch):
    monkeypatch.setattr(bounds, "PATTERN_S", 0.3)
    assert "longer than" in pattern_problem(adapter_patterns(config), ["a" * 60])


def test_lists_of_names_of_layers_are_no_patterns():
    plain = {"target_modules": ["q_proj"], "modules_to_save": None, "rank_pattern": {}, "layers_pattern": None}
    assert adapter_patterns(plain) == []


@pytest.mark.parametrize(
    "config",
    [{"num_hidden_layers": 10**9}, {"text_config": {"num_hidden_layers": "many"}}, {"vision_config": {"depth": -1}}],
)
def test_a_model_of_a_billion_layers_is_none(config):
    assert "layers are the most" in layers_problem(config)
    assert layers_problem({"num_hidden_layers": 28, "vision_config": {"depth": 24}, "architectures": ["A"]}) is None
