"""The steps of a plan as actions: what is done, to which object, where, and whether it is not to be done.

"Pick up the red cup from the table" is the action "pick up" on "red cup", from "table". There is no parser behind it:
the verb is the first word of a clause that is no filler and no subject, the object reaches from there to the first
preposition, and a place follows each preposition. A step has as many actions as clauses with a verb of the lexicon;
"it" is the object before. A Chinese clause is cut at the first verb of the lexicon that it holds.

Words in an order that no one would write, such as an article or a preposition in front of nothing, make an action that
is `garbled`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from leap.data.plan_words import base_form
from leap.judge.lexicon import lexicon
from leap.plans.metrics import ARTICLES, CJK, MOST_STEPS

_ASIDE = re.compile(r"\([^()]*\)")
_TOKEN = re.compile(rf"[{CJK}]+|[^\W_{CJK}]+(?:['\u2019-][^\W_{CJK}]+)*|[,;:.!?\u3001\u3002]")
_IS_CJK = re.compile(rf"[{CJK}]")
_STOPS = frozenset(",;:.!?\u3001\u3002")

# fmt: off
_JOINTS = frozenset({"and", "then", "but"})
# What says when, why or how, up to the next stop, and is no action of its own.
_ASIDES = frozenset({
    "after", "before", "because", "ensuring", "making", "once", "since", "so", "until", "when", "while",
    "without", "which", "that", "where", "if", "as",
})
# Fillers and the robot itself, in front of a verb.
_LEADS = ARTICLES | frozenset({
    "then", "next", "first", "firstly", "second", "secondly", "third", "thirdly", "finally", "lastly", "last",
    "now", "afterwards", "and", "but", "also", "again", "please", "simultaneously", "robot", "robotic",
    "robot's", "arm", "arms", "hand", "hands", "gripper", "grippers", "left", "right", "both", "it", "you",
    "we", "i", "they", "he", "she", "should", "will", "must", "shall", "can", "could", "would", "may", "might",
    "need", "needs", "has", "have", "had", "is", "are", "be", "do", "does", "did", "sure", "to", "from",
    "your", "its", "system", "agent", "manipulator", "them", "one",
})
# "Use the left arm to pick up", "start picking up": the verb that counts comes later.
_AUXILIARIES = frozenset({
    "use", "utilize", "utilise", "move", "go", "reach", "control", "command", "extend", "proceed", "begin",
    "start", "continue", "try", "make", "employ", "come", "walk", "return", "guide", "direct", "lower", "let",
    "help",
})
_PARTICLES = frozenset({
    "up", "down", "on", "off", "out", "over", "away", "back", "in", "open", "shut", "closed", "together", "go",
    "inward", "outward", "flat",
})
_RELATIONS = {
    **dict.fromkeys(("from", "off", "out"), "from"),
    **dict.fromkeys(("in", "into", "inside", "within"), "in"),
    **dict.fromkeys(("on", "onto", "upon", "atop"), "on"),
    **dict.fromkeys(("to", "toward", "towards", "at", "for"), "to"),
    **dict.fromkeys(("with", "using", "via", "by"), "with"),
    **dict.fromkeys(("above", "over"), "over"),
    **dict.fromkeys(("under", "below", "beneath", "underneath"), "under"),
    **dict.fromkeys(("behind",), "behind"),
    **dict.fromkeys(
        ("beside", "near", "next", "alongside", "against", "around", "along", "between", "across", "through", "about",
         "front", "top"), "by",
    ),
}
_DETERMINERS = ARTICLES | frozenset({
    "this", "that", "these", "those", "its", "his", "her", "their", "your", "another", "each", "all", "some",
    "any", "there", "here", "again", "both", "same", "lying", "located", "placed", "standing", "held", "folded",
    "sitting",
})
_REPEATABLE = ARTICLES | {"and", "of"}
_PRONOUNS = frozenset({"it", "them", "one", "object", "objects", "item", "items", "itself"})
_SIDES = frozenset({"left", "right", "both"})
_TOOL_VERBS = frozenset({"use", "utilize", "utilise", "employ"})
_ARM = frozenset({
    "left", "right", "both", "arm", "hand", "gripper", "robot", "robotic", "robot's", "finger", "claw",
})
# "a piece of bread" is bread, "the handle of the drawer" is the drawer's handle.
_MEASURES = frozenset({
    "piece", "slice", "pair", "half", "bit", "pile", "bunch", "kind", "lot", "top", "side", "rest", "front",
    "end", "edge", "hold", "inside", "back", "middle", "center", "centre", "surface", "number", "set", "amount",
})
# fmt: on

# Chinese: words that say nothing, and those that a place follows.
_CJK_FILLERS = re.compile(
    "\u7136\u540e|\u63a5\u7740|\u518d|\u6700\u540e|\u9996\u5148|\u5148|\u8bf7|\u5e76\u4e14|\u5e76|\u673a\u5668\u4eba"
    "|\u673a\u68b0\u81c2"
    "|(?:\u7528|\u4f7f\u7528)?[\u5de6\u53f3\u53cc][\u624b\u81c2]|\u5c0f\u5fc3\u5730?|\u8f7b\u8f7b\u5730?|\u4e86|\u4e00\u4e2a|\u90a3\u4e2a|\u8fd9\u4e2a"
)
_CJK_TARGET = re.compile("[\u628a\u5c06](?P<target>.+)$")
_CJK_PLACE = re.compile("[\u4ece\u5728\u7528](?P<place>.+)$")
_CJK_TOWARD = re.compile("[\u5230\u5728\u5165\u8fdb\u81f3\u7ed9]")
_CJK_SIDES = "\u4e0a\u91cc\u4e2d\u5185\u4e0b\u91cc\u9762"
_CJK_AT = re.compile(f"(?P<place>.+?)[{_CJK_SIDES}]\u7684(?P<target>.+)$")
_CJK_JOINTS = re.compile("\u7136\u540e|\u63a5\u7740|\u5e76\u4e14|\u5e76|\u518d")


@dataclass(frozen=True)
class Phrase:
    """What a step calls a thing: base forms without articles. `heads` are the nouns themselves, several in a list."""

    words: frozenset[str] = frozenset()
    heads: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.words)


@dataclass(frozen=True)
class Place:
    """Where, or with what: `relation` is one of "from", "in", "on", "to", "with", "over", "under", "behind", "by"."""

    relation: str
    thing: Phrase


@dataclass(frozen=True)
class PlanAction:
    """One action of a plan. `verb` is a base form with its particle ("turn on"), `arm` holds the words that say which
    arm acts."""

    verb: str
    target: Phrase = Phrase()
    places: tuple[Place, ...] = ()
    arm: frozenset[str] = frozenset()
    negated: bool = False
    garbled: bool = field(default=False, kw_only=True)

    @property
    def things(self) -> tuple[Phrase, ...]:
        """The object, then the places."""
        return (*filter(None, [self.target]), *(place.thing for place in self.places))


def is_cjk(text: str) -> bool:
    """Whether a text holds a Chinese or Japanese character."""
    return bool(_IS_CJK.search(text))


def actions_of(steps: Sequence[str]) -> list[PlanAction]:
    """The actions of a plan's steps in order, at least one of each step, MOST_STEPS at most."""
    actions: list[PlanAction] = []
    for step in steps:
        actions_of_step = list(_actions_of_step(step)) or [PlanAction(step, garbled=True)]
        for action in actions_of_step:
            actions.append(_with_antecedent(action, actions))
    return actions[:MOST_STEPS]


def _with_antecedent(action: PlanAction, earlier: Sequence[PlanAction]) -> PlanAction:
    """Put the object before in place of a pronoun."""
    antecedent = next((other.things[0] for other in reversed(earlier) if other.things), Phrase())

    def resolved(phrase: Phrase) -> Phrase:
        return antecedent if phrase.heads and _PRONOUNS.issuperset(phrase.heads) else phrase

    places = (replace(place, thing=resolved(place.thing)) for place in action.places)
    return replace(action, target=resolved(action.target), places=tuple(place for place in places if place.thing))


def _actions_of_step(step: str) -> Iterator[PlanAction]:
    text = unicodedata.normalize("NFKC", step).replace("\u2019", "'").lower()
    tokens = _TOKEN.findall(_ASIDE.sub(" ", text)) or _TOKEN.findall(text)
    if _STOPS.issuperset(tokens):
        yield PlanAction(text)
        return
    if any(map(is_cjk, tokens)):
        yield from _cjk_actions("".join(" " if token in _STOPS else token for token in tokens))
        return
    fronted: list[str] = []  # "From the shelf, pick up ..."
    for clause in _clauses(tokens):
        if _is_preposition(clause[0]):
            fronted += clause
        else:
            yield _action([*clause, *fronted])
            fronted = []
    if fronted:
        yield _action(fronted)


def _is_preposition(word: str) -> bool:
    return word in _RELATIONS and word not in ("top", "front", "next")


def _clauses(tokens: Sequence[str]) -> Iterator[list[str]]:
    """The clauses of a step, cut at stops and joints in front of a verb, without what says when or why."""
    clause: list[str] = []
    in_aside = False
    for i, token in enumerate(tokens):
        if token in _STOPS or token in _JOINTS:
            if all(word in _LEADS or _is_manner(word) for word in clause):  # "the robot then", "left hand:"
                in_aside &= token in _JOINTS
                continue
            # "the fork and the knife" is one clause, "pick up the fork and place it" are two.
            if clause and (_starts_action(tokens[i + 1 :]) or _is_preposition(clause[0])):
                yield clause
                clause = []
            elif clause and not in_aside and clause[-1] != "and" and set(tokens[i:]) - _STOPS:
                clause.append("and")
            in_aside &= token in _JOINTS
        elif token == "to" and not in_aside and _is_purpose(clause, tokens[i + 1 :]):
            yield clause
            clause = []
        elif token in _ASIDES or (token == "to" and not clause):
            in_aside = True
        elif not in_aside:
            clause.append(token)
    if clause:
        yield clause


def _starts_action(tokens: Sequence[str]) -> bool:
    """Whether the next word that is no filler is a verb of the lexicon or denies one."""
    for token in tokens:
        if _negates(token):
            return True
        if token not in _LEADS and not _is_manner(token):
            return _verb(token) in lexicon().actions or _verb(token) in _AUXILIARIES
    return False


def _is_purpose(clause: Sequence[str], tokens: Sequence[str]) -> bool:
    """Whether "to" begins a second action: "open the gripper to release it", but not "use the arm to release it"."""
    verb = next((_verb(word) for word in clause if word not in _LEADS and not _is_manner(word)), None)
    opens = len(tokens) > 1 and tokens[1] in _DETERMINERS | _PRONOUNS | _PARTICLES
    return verb is not None and verb not in _AUXILIARIES and opens and _verb(tokens[0]) in lexicon().actions


def _negates(token: str) -> bool:
    return token.endswith("n't") or base_form(token, "VERB") in lexicon().negations


def _is_manner(token: str) -> bool:
    """carefully, slowly, but not apply."""
    return token.endswith("ly") and _verb(token) not in lexicon().actions


def _verb(token: str) -> str:
    """The base form; lay is itself and not the past of lie."""
    return token if token in lexicon().actions else base_form(token, "VERB")


def _action(clause: Sequence[str]) -> PlanAction:
    words = [word for word in clause if not _is_manner(word)]
    negated, garbled, arm, lead = False, False, set(), ""
    while words:
        if _negates(words[0]):
            negated = not negated
        elif words[0] not in _LEADS or (words[0] == "hand" and not lead):
            break
        arm |= {words[0]} & _ARM
        lead, words = words[0], words[1:]
    if not words:
        return PlanAction(" ".join(clause), negated=negated, garbled=True)
    verb, rest = _verb(words[0]), _with_sides(words[1:])
    later = _later_verb(rest) if verb in _AUXILIARIES else None
    if later is not None:
        action = _action(rest[later:])
        arm |= _ARM.intersection(rest[:later])
        tool = _phrase([word for word in rest[:later] if word != "to"])
        is_tool = verb in _TOOL_VERBS and tool and not tool.words <= _ARM
        tools = (Place("with", tool),) if is_tool else ()
        arms = action.arm | (arm & _SIDES)
        return replace(action, negated=action.negated != negated, places=action.places + tools, arm=arms)
    garbled = lead in ARTICLES or rest[:1] == ["and"] or _is_garbled(rest)
    verb, rest = _with_particle(verb, rest)
    phrases = list(_phrases(rest))
    garbled |= any(map(_repeats_a_word, phrases))
    negated ^= bool(lexicon().negations.intersection(rest))
    target = _phrase([word for word in phrases[0][1] if word not in _PARTICLES])
    places = []
    for relation, phrase in phrases[1:]:
        thing = _phrase(phrase)
        if thing and thing.words <= _ARM:
            arm |= thing.words
        elif thing:
            places.append(Place(relation, thing))
    return PlanAction(verb, target, tuple(places), frozenset(arm & _SIDES), negated, garbled=garbled)


def _with_sides(words: Sequence[str]) -> list[str]:
    """ "left of the plate" as "to left of the plate", which is a place."""
    sides: list[str] = []
    for i, word in enumerate(words):
        is_place = word in ("left", "right") and words[i + 1 : i + 2] == ["of"]
        sides += ["to", word] if is_place and i and words[i - 1] not in ("the", "to") else [word]
    return sides


def _repeats_a_word(phrase: tuple[str, list[str]]) -> bool:
    words = [word for word in phrase[1] if word not in _REPEATABLE]
    return len(set(words)) < len(words)


def _later_verb(words: Sequence[str]) -> int | None:
    """Where the verb of "to pick up" or "picking up" stands."""
    for i, word in enumerate(words):
        is_led = words[i - 1] == "to" if i else word.endswith("ing")
        if is_led and _verb(word) in lexicon().actions:
            return i
    return None


def _with_particle(verb: str, rest: Sequence[str]) -> tuple[str, list[str]]:
    """The verb with its particle, "turn on", wherever this stands: "turn on the tap", "turn the tap on"."""
    for i, word in enumerate(rest):
        is_loose = i == 0 or i + 1 == len(rest) or word not in _RELATIONS or rest[i + 1] in _RELATIONS
        if word in _PARTICLES and is_loose and f"{verb} {word}" in lexicon().actions:
            return f"{verb} {word}", [*rest[:i], *rest[i + 1 :]]
    return verb, list(rest)


def _phrases(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """(relation, words): what stands in front of the first preposition, with relation "", then behind each."""
    relation, phrase = "", []
    for i, word in enumerate(words):
        is_noun = word in ("top", "front") and i > 0 and words[i - 1] in ARTICLES
        if word not in _RELATIONS or is_noun:
            phrase.append(word)
        elif phrase or not relation:
            yield relation, phrase
            relation, phrase = _RELATIONS[word], []
        elif relation != "by" and word != "top":  # "over to", "in front of"; but "next to", "on top of"
            relation = _RELATIONS[word]
    yield relation, phrase


def _is_garbled(words: Sequence[str]) -> bool:
    """Whether an article does not open a name of a thing, or nothing follows where a thing must."""
    previous = ""
    for word, follower in zip(words, [*words[1:], ""], strict=False):
        ends = not follower or follower in _RELATIONS or follower in ARTICLES or follower == "and"
        if word in ARTICLES and ((ends and follower not in ("top", "front")) or not _may_precede_article(previous)):
            return True
        previous = word
    return bool(words) and words[-1] in _RELATIONS and words[-1] not in _PARTICLES


def _may_precede_article(word: str) -> bool:
    return not word or word in _RELATIONS or word in _PARTICLES or word in ("and", "of", "both", "all", "half")


def _phrase(words: Sequence[str]) -> Phrase:
    """The thing that words name. The head is the last noun of each part of a list."""
    groups: list[list[str]] = [[]]
    for word in words:
        if word == "and":
            groups.append([])
        else:
            groups[-1].append(word)
    names = [name for group in groups if (name := _name(group))]
    things = lexicon().things
    canonical = [[things.get(word, word) for word in name] for name in names]
    return Phrase(frozenset(word for name in canonical for word in name), tuple(name[-1] for name in canonical))


def _name(words: Sequence[str]) -> list[str]:
    """Base forms, the head last: ["drawer", "handle"] for "the handle of the drawer"."""
    if "of" in words:
        joint = words.index("of")
        whole, part = _name(words[joint + 1 :]), _name(words[:joint])
        return whole if not part or part[-1] in _MEASURES else [*whole, *part]
    plain = [word for word in words if word not in _DETERMINERS]
    forms = [base_form(word.removesuffix("'s"), "NOUN") for word in plain]
    # "cup 3": the number tells it from others and is no head.
    numbers = [form for form in forms if form.isdecimal()]
    nouns = [form for form in forms if not form.isdecimal()]
    return numbers if numbers and _PRONOUNS.issuperset(nouns) else [*numbers, *nouns]


def _cjk_actions(text: str) -> Iterator[PlanAction]:
    for clause in _CJK_JOINTS.sub(" ", text).split():
        plain = _CJK_FILLERS.sub("", clause)
        if plain:
            yield _cjk_action(plain)


def _cjk_action(clause: str) -> PlanAction:
    words = lexicon()
    negated = any(is_cjk(word) and word in clause for word in words.negations)
    for word in sorted(filter(is_cjk, words.negations), key=len, reverse=True):
        clause = clause.replace(word, "")
    clause = clause.removeprefix("\u8981")
    start, verb = _first_cjk_verb(clause)
    head, tail = clause[:start], clause[start + len(verb) :]
    places: list[str] = []
    target: str | None = None
    if match := _CJK_TARGET.search(head):
        target, head = match["target"], head[: match.start()]
    if match := _CJK_PLACE.search(head):
        places.append(match["place"])
    if target is not None or _CJK_TOWARD.search(verb):
        places.append(tail)
    else:
        target, *rest = _CJK_TOWARD.split(tail, maxsplit=1)
        places += rest
    if match := _CJK_AT.match(target or ""):  # "the cucumber that is on the shelf"
        places.append(match["place"])
        target = match["target"]
    return PlanAction(
        verb,
        _cjk_phrase(target or ""),
        tuple(Place("to", thing) for place in places if (thing := _cjk_phrase(place))),
        negated=negated,
    )


def _first_cjk_verb(clause: str) -> tuple[int, str]:
    """(where it starts, the verb): the first one, the longest of those; the first two characters if there is none."""
    verbs = lexicon().actions
    for start in range(len(clause)):
        for length in (4, 3, 2, 1):
            if clause[start : start + length] in verbs:
                return start, clause[start : start + length]
    return 0, clause[:2]


def _cjk_phrase(text: str) -> Phrase:
    text = text.replace("\u7684", "").strip()
    plain = text.strip(_CJK_SIDES) or text
    return Phrase(frozenset({plain}), (plain,)) if plain else Phrase()
