"""How alike two actions of plans are, 0 to 1: by the action, the object and the place, the object before all.

Alike means serving the same purpose in a plan, so that the parts are multiplied: the right verb on another object does
nothing for the task. An action that is not to be done is like none that is to be done.
"""

from __future__ import annotations

from collections import Counter
from math import sqrt

from leap.judge.actions import Phrase, Place, PlanAction, is_cjk
from leap.judge.lexicon import lexicon

# What a difference leaves of the likeness. Chosen so that an object or verb that differs is below FIRM, whatever else
# is equal, and one that is said in other words, or a place that is left out, is above it: the plans they were chosen by
# are in tests/judge/reference_plans.yaml.
FIRM = 0.5
_SYNONYM = 0.95
_OTHER_VERB, _UNKNOWN_VERB = 0.25, 0.4
_NO_OBJECT, _OBJECT_UNSAID = 0.4, 0.75
_EXTRA_WORD = 0.85  # for each word besides the noun that only one of them has
_PART = 0.6  # the noun of one is a mere word of the other: "kettle" and "kettle handle"
_NO_PLACE, _OTHER_RELATION, _OPPOSITE_RELATION = 0.5, 0.9, 0.2
_OTHER_ARM = 0.85

_OPPOSITES = {
    frozenset(pair) for pair in (("from", "to"), ("over", "under"), ("on", "under"), ("in", "under"), ("behind", "in"))
}


def likeness(action: PlanAction, other: PlanAction) -> float:
    """How alike two actions are, 0 to 1; 1 of an action and itself."""
    if action == other:
        return 1.0
    if action.negated != other.negated or action.garbled or other.garbled:
        return 0.0
    arm = 1.0 if not action.arm or not other.arm or action.arm == other.arm else _OTHER_ARM
    return _verb_likeness(action.verb, other.verb) * _things_likeness(action, other) * arm


def _things_likeness(action: PlanAction, other: PlanAction) -> float:
    """How alike objects and places are. Without an object the first place is it ("go to the shelf", "approach the
    shelf"), or else it goes without saying ("place on the shelf")."""
    if bool(action.target) == bool(other.target):
        target = phrase_likeness(action.target, other.target)
        places = _place_likeness(action.places, other.places)
        return places if not action.target else target * (1 + places) / 2
    with_target, without = (action, other) if action.target else (other, action)
    if not without.places:
        return _NO_OBJECT
    target = phrase_likeness(with_target.target, without.places[0].thing)
    as_object = target * (1 + _place_likeness(with_target.places, without.places[1:])) / 2
    return max(as_object, _OBJECT_UNSAID * _place_likeness(with_target.places, without.places))


def shares_a_thing(action: PlanAction, other: PlanAction) -> bool:
    """Whether one of the two acts on what the other acts on or at."""
    pairs = [(action.things[:1], other.things), (other.things[:1], action.things)]
    return any(phrase_likeness(a, b) >= FIRM for targets, things in pairs for a in targets for b in things)


def phrase_likeness(phrase: Phrase, other: Phrase) -> float:
    """How alike two things are by their names, 0 to 1."""
    if phrase == other:
        return 1.0
    if any(map(is_cjk, (*phrase.heads, *other.heads))):
        return _character_likeness("".join(phrase.heads), "".join(other.heads))
    if lexicon().tells_apart(phrase.words, other.words):
        return 0.0
    heads = _f1(Counter(phrase.heads), Counter(other.heads))
    if not heads:
        part = set(phrase.heads) & other.words or set(other.heads) & phrase.words
        return _PART if part else 0.0
    words, others = phrase.words - set(phrase.heads), other.words - set(other.heads)
    return heads * _EXTRA_WORD ** len(words ^ others)


def _verb_likeness(verb: str, other: str) -> float:
    if verb == other:
        return 1.0
    words = lexicon()
    if words.is_same_action(verb, other):
        return _SYNONYM
    return _OTHER_VERB if verb in words.actions and other in words.actions else _UNKNOWN_VERB


def _place_likeness(places: tuple[Place, ...], others: tuple[Place, ...]) -> float:
    if not places and not others:
        return 1.0
    if not places or not others:
        return _NO_PLACE
    # Each with the best of the other side; what one side says beyond the other costs half.
    best = [max(_likeness_of_places(a, b) for b in others) for a in places]
    best_of_others = [max(_likeness_of_places(a, b) for a in places) for b in others]
    return (sum(best) + sum(best_of_others)) / (len(best) + len(best_of_others))


def _likeness_of_places(place: Place, other: Place) -> float:
    thing = phrase_likeness(place.thing, other.thing)
    if place.relation == other.relation:
        return thing
    return thing * (_OPPOSITE_RELATION if {place.relation, other.relation} in _OPPOSITES else _OTHER_RELATION)


def _character_likeness(text: str, other: str) -> float:
    """The geometric mean of the F1 of characters and of that of pairs of them: characters alone have no order."""
    alone, pairs = (
        _f1(Counter(text[i : i + n] for i in range(len(text) - n + 1)),
            Counter(other[i : i + n] for i in range(len(other) - n + 1)))
        for n in (1, 2)
    )  # fmt: skip
    return alone if min(len(text), len(other)) < 2 else sqrt(alone * pairs)


def _f1(a: Counter[str], b: Counter[str]) -> float:
    size = a.total() + b.total()
    return 2 * (a & b).total() / size if size else 0.0
