"""Names are nouns of the field with one meaning each: what CONTRIBUTING.md says of words, held by the syntax tree."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = sorted(path for folder in ("configs", "leap", "scripts") for path in (REPOSITORY / folder).glob("**/*.py"))

# Words of every sentence, which say nothing of what a value is.
ORDINARY_WORDS = {
    *("again", "asked", "at", "before", "both", "found", "given", "gone", "here", "kept", "known", "mine"),
    *("now", "of", "one", "own", "said", "seen", "shown", "there", "told", "wanted"),
}


def bound_names(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, name) of every variable, attribute, argument, function, class and caught exception that a file binds."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append((node.lineno, node.id))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append((node.lineno, node.attr))
        elif isinstance(node, ast.arg):
            names.append((node.lineno, node.arg))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or (
            isinstance(node, ast.ExceptHandler) and node.name
        ):
            names.append((node.lineno, node.name))
    return names


def ordinary_names(source: str) -> list[tuple[int, str]]:
    return [(line, name) for line, name in bound_names(ast.parse(source)) if name.lower().strip("_") in ORDINARY_WORDS]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_name_is_an_ordinary_word(path):
    assert ordinary_names(path.read_text(encoding="utf-8")) == []


def test_an_ordinary_word_is_noticed_wherever_it_is_bound():
    source = "def found(of, *, path):\n    for one in of:\n        path.known = [here for here in one]\n"
    assert sorted(ordinary_names(source)) == [(1, "found"), (1, "of"), (2, "one"), (3, "here"), (3, "known")]


def test_a_class_name_stands_for_one_thing():
    places = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            # Each script has its own Options, as the help that it prints.
            if isinstance(node, ast.ClassDef) and (node.name, path.parts[-3]) != ("Options", "scripts"):
                places[node.name.strip("_")].append(str(path.relative_to(REPOSITORY)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}
