"""Which examples are one observation."""

import pytest

from leap.vlabench.sampling import dimension_estimates, origin_of, sample_of
from tests.vlabench.benchmark_tree import make_example, pick


def units_of(origins, task="t"):
    """The units of examples 0, 1, ... of one task, as sets of their numbers."""
    keys = [(task, number) for number in range(len(origins))]
    sample = sample_of({"Spatial": keys}, {"Spatial": dict(zip(keys, origins, strict=True))})
    units = {}
    for (_, (_, number)), unit in zip(sample.places, sample.units, strict=True):
        units.setdefault(unit, set()).add(number)
    return sorted(units.values(), key=min)


def test_examples_of_one_template_or_scene_are_a_unit_also_over_a_third():
    origins = [
        {"template": "a", "scene": "1"},
        {"template": "b", "scene": "1"},
        {"template": "b", "scene": "2"},
        {"template": "c", "scene": "3"},
        {},
        {},
    ]
    assert units_of(origins) == [{0, 1, 2}, {3}, {4}, {5}]


def test_what_a_whole_task_shares_is_part_of_the_task():
    assert units_of([{"template": "a", "scene": str(i)} for i in range(4)]) == [{0}, {1}, {2}, {3}]


def test_a_template_is_of_its_task_and_a_scene_of_all():
    keys = [("s", 1), ("s", 2), ("t", 1), ("t", 2)]
    templates = [{"template": name} for name in "abab"]
    sample = sample_of({"Spatial": keys}, {"Spatial": dict(zip(keys, templates, strict=True))})
    assert len(set(sample.units)) == 4
    scenes = [{"scene": name} for name in "abab"]
    sample = sample_of({"Spatial": keys}, {"Spatial": dict(zip(keys, scenes, strict=True))})
    assert (sample.units[0], sample.units[1]) == (sample.units[2], sample.units[3])


def test_words_are_one_template_but_for_case_digits_and_blanks(tmp_path):
    texts = ("Press tag 3", "press  TAG 12\n", "press the tag 3")
    examples = [make_example(tmp_path, "Spatial", "t", i, [pick(1)]) for i in range(3)]
    for example, text in zip(examples, texts, strict=True):
        example.instruction_file.write_text(text)
    first, second, third = (origin_of(example)["template"] for example in examples)
    assert first == second != third
    assert "scene" not in origin_of(examples[0])
    for example, content in zip(examples, (b"one", b"other", b"one"), strict=True):
        example.plain_image.write_bytes(content)
    first, second, third = (origin_of(example)["scene"] for example in examples)
    assert first == third != second


def test_the_order_of_examples_changes_no_bound():
    metrics = ("skill_match_score", "entity_match_score", "skill_with_entity_match_score", "exact_match_score")
    scores = {("t", i): dict.fromkeys((*metrics, "total_score"), float(i)) for i in range(12)}
    backwards = dict(reversed(list(scores.items())))
    estimates = dimension_estimates("Spatial", scores, {}, "official")
    assert estimates == dimension_estimates("Spatial", backwards, {}, "official")
    assert estimates["total_score"].mean == pytest.approx(5.5)
    assert dimension_estimates("Spatial", {}, {}, "official") == {}
