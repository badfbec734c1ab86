"""Numbers of others: read strictly, shown as what they are."""

import pytest

from configs.config import DIMENSIONS
from configs.errors import UserError
from leap.vlabench.published import PublishedScore, load_published


def test_the_list_of_this_repository_holds_what_leap_published():
    entries = {entry.model: entry for entry in load_published()}
    (total,) = entries["LEAP checkpoint-5000"].scores
    assert (total.score, total.macro, total.micro) == ("official.total_score", 28.38, None)
    assert set(total.dimensions) == set(DIMENSIONS)
    for entry in entries.values():
        assert entry.source
        assert entry.settings["decoding"] == "sampled, temperature 0.7, top-p 0.9, no seed"
        for score in entry.scores:
            if score.macro is not None:  # no slip of the pen: the mean of the dimensions, as published
                assert sum(score.dimensions.values()) / 6 == pytest.approx(score.macro, abs=0.01)


def test_the_means_by_example_agree_with_the_published_ones_by_dimension():
    entries = {entry.model: entry for entry in load_published()}
    weights = dict(zip(DIMENSIONS, (9, 8, 9, 8, 6, 5), strict=True))  # tasks of 100 examples
    by_dimension = entries["LEAP checkpoint-5000"].scores[0].dimensions
    mean = sum(weights[d] * value for d, value in by_dimension.items()) / sum(weights.values())
    micro = {score.score: score.micro for score in entries["LEAP checkpoint-5000, by example"].scores}
    skills, entities = micro["official.skill_match_score"], micro["official.entity_match_score"]
    assert 0.4 * (skills + entities) == pytest.approx(mean, abs=0.01)
    rest = micro["official.skill_with_entity_match_score"] + micro["official.exact_match_score"]
    assert 0.4 * (skills + entities) + 0.1 * rest == pytest.approx(29.48, abs=0.01)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: x", "must be a list of entries, found dict"),
        ("- 3", "entry 1: expected a mapping"),
        ("- {model: x, source: y}", "entry 1: scores is missing"),
        ("- {model: x, source: y, scores: []}", "scores must be a list"),
        ("- {model: x, source: y, scores: [{score: s, mean: 3}]}", "unknown key 'mean'; known keys: score, dimensions"),
        ("- {model: x, source: '', scores: [{score: s}]}", "source must be text"),
        (
            "- {model: x, source: y, scores: [{score: s, macro: 101}]}",
            "macro must be a number from 0 to 100, found 101",
        ),
        ("- {model: x, source: y, scores: [{score: s, dimensions: {Spacial: 3}}]}", "dimensions must map some of M&T"),
        ("- {model: x, source: y, scores: [{score: s, micro: true}]}", "micro must be a number"),
        ("- [", "not valid YAML"),
    ],
)
def test_a_malformed_entry_is_named(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words.replace("(", r"\(")) as error:
        load_published(path)
    assert "mine.yaml" in str(error.value)


def test_a_list_of_ones_own_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("- {model: x, source: a paper, scores: [{score: grounded.plan_success, dimensions: {Spatial: 3}}]}")
    (entry,) = load_published(path)
    assert entry.scores == (PublishedScore("grounded.plan_success", {"Spatial": 3}, None, None),)
    assert entry.settings == {}
    with pytest.raises(UserError, match="file not found"):
        load_published(tmp_path / "none.yaml")
