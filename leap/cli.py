"""Command lines: a dataclass of knobs becomes flags, a YAML recipe fills it, errors become one line.

Command line beats YAML beats default, decided in `parse_knobs` alone. Imports nothing heavy, so that
every script answers --help at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from configs.config import REPOSITORY, WorkspaceConfig, runnable
from configs.errors import UserError, did_you_mean
from configs.flags import ELSEWHERE, OTHER_NAMES, OTHER_VALUES, PLACES, WITHOUT_EFFECT
from leap.files import is_disk_full
from leap.text import markdown_table, printable

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def knob(
    default: Any,
    help: str,
    *,
    flags: tuple[str, ...] = (),
    choices: tuple | None = None,
    check: str = "",
    free: bool = False,
    words: bool = False,
    repeated: bool = False,
    positional: bool = False,
    several: tuple[Callable[[list[str]], Any], Callable[[Any], Any]] | None = None,
) -> Any:
    """A dataclass field that can be set by flag or recipe.

    `help` says what it is, with its unit; `flags` are other names (with their dashes) that mean the same;
    `choices` lists the only values allowed; `check` is a bound such as "> 0" or ">= 0"; a `free` knob says where or how
    something runs, not what it computes, and may change between kill and resume; `words` of a list may hold commas,
    which else part them. A list as default needs no factory. A `repeated` list takes one value a flag, given as often
    as there are values; a `positional` knob is a word of the command line without a flag, which may stand anywhere
    beside flags that take one value. `several` of a path lets it be several words, which the first function makes a
    value of, and the second words again.
    """
    metadata = {"help": help, "flags": flags, "choices": choices, "check": check, "free": free, "words": words}
    metadata |= {"repeated": repeated, "positional": positional, "several": several}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


# What a place on the disk can be wrong for: not ours, another kind of thing, or a name that cannot be.
_OF_PLACES = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


_GROUPS = ("files and folders", "what is done", "where and how it runs")  # headings of --help


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        message = re.sub(r"^argument (--[\w-]+)/[^:\s]+:", r"argument \1:", message)  # not by all its other names
        near = ""
        if match := re.match(r"unrecognized arguments: (--[\w-]+)", message):
            near = did_you_mean(match[1], self._option_string_actions)
        elif match := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            near = did_you_mean(match[1], re.findall(r"[\w.-]+", match[2]))
        raise UserError(f"{message}.{near} See: {self.prog} --help")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Shows each flag by its first name alone."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse._HelpAction) or not action.option_strings:
            return super()._format_action_invocation(action)
        if isinstance(action, argparse.BooleanOptionalAction):
            return ", ".join(action.option_strings[:2])
        values = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{action.option_strings[0]} {values}".rstrip()


class _Words(argparse.Action):
    """A list whose words may also stand in one, with commas between them."""

    def __init__(self, *arguments: Any, read: Callable[[str], Any], allowed: Sequence[Any] | None, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._read, self.allowed = read, allowed

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        words = [word.strip() for value in values for word in value.split(",") if word.strip()]
        items = []
        for word in words:
            try:
                items.append(self._read(word))
            except ValueError:
                raise argparse.ArgumentError(self, f"invalid {self._read.__name__} value: {word!r}") from None
            if self.allowed and items[-1] not in self.allowed:
                choices = ", ".join(map(repr, self.allowed))
                raise argparse.ArgumentError(self, f"invalid choice: {word!r} (choose from {choices})")
        setattr(namespace, self.dest, items)


class _Value(argparse.Action):
    """A value in other words than the knob has."""

    def __init__(self, *arguments: Any, values: Mapping[str, Any], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._values = values

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, self._values[values])


class _RetiredFlag(argparse.Action):
    """A flag of the original: says what takes its place, and goes on or does not."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, words: str, goes_on: bool) -> None:
        super().__init__(option_strings, dest, nargs="*", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        self._words, self._goes_on = words, goes_on

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if not self._goes_on:
            raise UserError(f"{option_string} is not here. Use instead: {self._words}")
        print(f"note: {option_string} changes nothing here: {self._words}", file=sys.stderr)


class _Markdown(argparse.Action):
    """Prints the flags as docs/cli.md has them."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        print(_flag_table(parser))
        parser.exit()


def parse_knobs(
    cls: type[T], argv: list[str] | None, description: str, recipe: Path | None = None, preset: Path | None = None
) -> T:
    """Build `cls` from its defaults, then a preset, then the YAML recipe, then the command line.

    `recipe` is the default of --config, `preset` the YAML that --preset takes by default out of its folder; without
    them the script has no such flag (with a preset, --config is optional). A relative path is relative to the current
    directory on the command line, to the workspace root in YAML and defaults.
    Raises UserError for an unknown key or flag, a wrong type, or a value out of bounds.
    """
    hints = typing.get_type_hints(cls)
    parser = _parser(cls, hints, description, recipe, preset)
    if "_ARGCOMPLETE" in os.environ:
        _complete(parser)
    flag_values = vars(parser.parse_args(argv))

    root = WorkspaceConfig.from_environment().root
    fields = {field.name: field for field in dataclasses.fields(cls)}
    values = {field.name: _anchored(_default_of(field), hints[field.name], root) for field in dataclasses.fields(cls)}
    files = [preset.with_stem(flag_values.pop("preset"))] if preset is not None else []
    if config := flag_values.pop("config", None):
        files.append(config)
    for file in files:
        values |= _read_recipe(file, cls, hints, root)
    for name, value in flag_values.items():
        values[name] = _read_words(fields[name], value, Path.cwd()) or _anchored(value, hints[name], Path.cwd())
    for field in dataclasses.fields(cls):
        _check_bounds(field, values[field.name])
    return cls(**values)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that completes a command line: flags, each by its first name, and choices. Ends the process."""
    import argcomplete

    for action in parser._actions:
        is_switch = isinstance(action, argparse.BooleanOptionalAction)
        action.option_strings = action.option_strings[: 2 if is_switch else 1]
        if isinstance(action, _Words) and action.allowed:
            setattr(action, "completer", argcomplete.ChoicesCompleter(dict.fromkeys(map(str, action.allowed), "")))  # noqa: B010
    argcomplete.autocomplete(parser)


def _parser(
    cls: type, hints: dict[str, Any], description: str, recipe: Path | None, preset: Path | None
) -> argparse.ArgumentParser:
    """A parser with a flag a knob, whose values hold only what the command line says."""
    lines = runnable(description).strip().splitlines()
    examples = [line for line in lines if line.startswith("    ")]
    parser = _Parser(
        description="\n".join(line for line in lines if line not in examples).replace("\n\n\n", "\n\n"),
        epilog="\n".join(["examples:", *examples]) if examples else None,
        usage="%(prog)s [flags]",
        allow_abbrev=False,
        formatter_class=_Help,
    )
    parser.add_argument("--help_markdown", action=_Markdown, nargs=0, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    if preset is not None:
        names = sorted(path.stem for path in preset.parent.glob("*.yaml"))
        text = f"ready recipe in {_short(preset.parent)} (default: {preset.stem})"
        spellings = _spellings(["preset", *OTHER_NAMES["preset"]])
        parser.add_argument(*spellings, choices=names, default=preset.stem, help=text)
    if recipe is not None or preset is not None:
        text = "recipe with any of the knobs below" + (f" (default: {_short(recipe)})" if recipe else "")
        parser.add_argument("--config", type=Path, default=recipe, metavar="YAML", help=text)
    names_of = flag_names(cls, hints)
    for title in _GROUPS:
        group = parser.add_argument_group(title)
        for field in dataclasses.fields(cls):
            if _group_of(field, hints[field.name]) == title:
                _add_flag(group, field, hints[field.name], names_of[field.name])
    _add_old_flags(parser, names_of)
    return parser


def flag_names(cls: type, hints: dict[str, Any]) -> dict[str, list[str]]:
    """The names of each knob of `cls`: first the one that is shown, then those that work besides. A name that is
    another knob's own is not among them."""
    every_field = {field.name for field in dataclasses.fields(cls)}
    names_of: dict[str, list[str]] = {}
    taken: set[str] = set()
    for field in dataclasses.fields(cls):
        is_place = _unwrapped(hints[field.name])[0] is Path
        places = next((names for names in PLACES if is_place and field.name in names), (field.name,))
        flags = [flag.lstrip("-").replace("-", "_") for flag in field.metadata["flags"]]
        # A knob may go by the name of another place: what a run starts from is a base here, a checkpoint there.
        first = next((flag for flag in flags if any(flag == other[0] for other in PLACES)), places[0])
        names = dict.fromkeys([first, places[0], field.name, *flags, *places, *OTHER_NAMES.get(field.name, ())])
        names_of[field.name] = [name for name in names if name not in (every_field - {field.name}) | taken]
        taken |= set(names_of[field.name])
    return names_of


def _spellings(names: Sequence[str]) -> list[str]:
    """Names as flags, with underscores and with dashes."""
    return list(dict.fromkeys(f"--{form}" for name in names for form in (name, name.replace("_", "-"))))


def _group_of(field: dataclasses.Field, hint: Any) -> str:
    """The heading of a knob in --help."""
    if _unwrapped(hint)[0] is Path:
        return _GROUPS[0]
    return _GROUPS[2 if field.metadata["free"] else 1]


def _add_old_flags(parser: argparse.ArgumentParser, names_of: Mapping[str, Sequence[str]]) -> None:
    """What configs/flags.py knows of flags that no knob of this script has."""
    taken = {name for names in names_of.values() for name in names}
    for flag, (name, values) in OTHER_VALUES.items():
        if name in names_of and flag not in taken:
            options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
            parser.add_argument(*_spellings([flag]), action=_Value, choices=tuple(values), values=values, **options)
    for table, goes_on in ((WITHOUT_EFFECT, True), (ELSEWHERE, False)):
        for flag, (name, words) in table.items():
            if name in names_of and flag not in taken:
                parser.add_argument(*_spellings([flag]), action=_RetiredFlag, dest=flag, words=words, goes_on=goes_on)


def _flag_table(parser: argparse.ArgumentParser) -> str:
    """Markdown: a row a flag, with its other names, values and help."""
    rows = [["flag", "other names", "value", "what it is"]]
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and action.dest != "help":
            names = list(dict.fromkeys(name.replace("-", "_") for name in (s[2:] for s in action.option_strings)))
            is_switch = isinstance(action, argparse.BooleanOptionalAction)
            others = [f"`--{name}`" for name in names[1:] if not (is_switch and name.startswith("no_"))]
            value = "" if is_switch else " ".join(action.choices or [action.metavar or action.dest.upper()])
            text = (action.help or "").replace("%%", "%").replace("|", "\\|")
            flag = f"`--{names[0]}`" if names else f"`{action.dest.upper()}`"  # a word without a flag
            rows.append([flag, " ".join(others), value, text])
    return markdown_table(rows)


def _default_of(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def run(main: Callable[[], int | None]) -> typing.NoReturn:
    """Run a script's main: a UserError is one line on stderr and status 2, Ctrl-C is status 130."""
    # Workers that spin for work make small CPU models several times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        status = main()
    except UserError as error:
        print(f"error: {printable(' '.join(runnable(str(error)).split()))}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it was", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except Exception as error:
        problem = _of_the_disk(error)
        if problem is None:
            raise
        print(f"error: {printable(problem)}", file=sys.stderr)
        status = 1
    sys.exit(status or 0)


def _of_the_disk(error: Exception) -> str | None:
    """What to say of an error that is the disk's (full, read-only, not ours, a file in a folder's place), else None."""
    reason = str(error).splitlines()[0] if str(error) else ""
    if is_disk_full(error):
        return f"no space left on the disk ({reason}); free some and run the same command again"
    if isinstance(error, OSError) and error.errno in _OF_PLACES:
        return f"{error.strerror}: {error.filename}" if error.filename else reason
    return None


def as_plain(knobs: Any) -> dict[str, Any]:
    """The knobs as JSON and YAML can hold them: paths, also those in lists, become text."""
    return {field.name: _plain_knob(field, getattr(knobs, field.name)) for field in dataclasses.fields(knobs)}


def as_words(knobs: Any) -> list[str]:
    """The command line that sets these knobs, wherever it is given: those alone that are not at their defaults."""
    hints = typing.get_type_hints(type(knobs))
    root, names_of = WorkspaceConfig.from_environment().root, flag_names(type(knobs), hints)
    words: list[str] = []
    for field in dataclasses.fields(knobs):
        value, flag = _plain_knob(field, getattr(knobs, field.name)), names_of[field.name][0]
        if getattr(knobs, field.name) == _anchored(_default_of(field), hints[field.name], root):
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            words += [f"--{flag}", *map(str, value)]
        else:
            words.append(f"--{flag}={'none' if value is None else value}")
    return words


def _plain_knob(field: dataclasses.Field, value: Any) -> Any:
    several = field.metadata.get("several")
    return several[1](value) if several else _plain_value(value)


def _plain_value(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(_plain_value, value))
    return str(value) if isinstance(value, Path) else value


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path(__file__).resolve().parent.parent))
    except ValueError:
        return str(path)


def _unwrapped(hint: Any) -> tuple[Any, bool, bool]:
    """A type hint as (plain type, may be None, is a list)."""
    optional = False
    if isinstance(hint, types.UnionType):
        optional = type(None) in hint.__args__
        hint = next(arg for arg in hint.__args__ if arg is not type(None))
    if typing.get_origin(hint) is list:
        return typing.get_args(hint)[0], optional, True
    return hint, optional, False


def _add_flag(parser: argparse._ActionsContainer, field: dataclasses.Field, hint: Any, names: Sequence[str]) -> None:
    kind, optional, is_list = _unwrapped(hint)
    default = _default_of(field)
    default_text = " ".join(map(str, default)) if is_list and default else default
    text = field.metadata["help"].replace("%", "%%")
    if default_text not in (None, [], ""):
        text += f" (default: {default_text})"
    if field.metadata["positional"]:
        parser.add_argument(field.name, nargs="?", type=kind, default=argparse.SUPPRESS, help=text)
        return
    options: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS, "help": text}
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif is_list and kind in (str, int) and not field.metadata["words"] and not field.metadata["repeated"]:
        choices = field.metadata["choices"]
        metavar = "{" + ",".join(choices) + "}" if choices else kind.__name__.upper()
        read = _reader(kind, optional)
        options |= {"action": _Words, "read": read, "allowed": choices, "nargs": "+", "metavar": metavar}
    else:
        options |= {
            "type": _reader(kind, optional),
            "choices": field.metadata["choices"],
            "metavar": None if field.metadata["choices"] else kind.__name__.upper(),
        }
        if field.metadata["repeated"]:
            options["action"] = "append"
        elif is_list or field.metadata["several"]:
            options["nargs"] = "+"
    parser.add_argument(*_spellings(names), **options)


def _reader(kind: type, optional: bool) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if optional and text.lower() in ("none", "null", *(() if kind in (str, Path) else ("auto",))):
            return None
        return kind(text)

    read.__name__ = kind.__name__
    return read


def _read_recipe(path: Path, cls: type, hints: dict[str, Any], root: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file() and (REPOSITORY / path).is_file():
        path = REPOSITORY / path  # a ready recipe, named from another folder or without a checkout
    if not path.is_file():
        raise UserError(f"recipe not found: {path}. Ready recipes are in {REPOSITORY / 'configs'}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must map knobs to values, found {type(content).__name__}")
    knob_of = {name: knob_name for knob_name, names in flag_names(cls, hints).items() for name in names}
    unknown = sorted(set(content) - set(knob_of))
    if unknown:
        near = did_you_mean(unknown[0], knob_of)
        raise UserError(f"{path}: unknown key {unknown[0]!r};{near} known keys: {', '.join(hints)}")
    content = {knob_of[name]: value for name, value in content.items()}
    fields = {field.name: field for field in dataclasses.fields(cls)}
    return {name: _from_yaml(path, fields[name], hints[name], value, root) for name, value in content.items()}


def _from_yaml(path: Path, field: dataclasses.Field, hint: Any, value: Any, root: Path) -> Any:
    kind, optional, is_list = _unwrapped(hint)
    if value is None and optional:
        return None
    if field.metadata["several"] and isinstance(value, list):
        return _read_words(field, [_yaml_item(path, field, kind, item) for item in value], root)
    if is_list and not isinstance(value, list):
        raise UserError(f"{path}: {field.name} must be a list, found {value!r}")
    items = [_yaml_item(path, field, kind, item) for item in (value if is_list else [value])]
    return _anchored(items if is_list else items[0], hint, root)


def _yaml_item(path: Path, field: dataclasses.Field, kind: type, item: Any) -> Any:
    """One value of a recipe as its knob has it; UserError if it is of another type or no choice of the knob."""
    if kind is float and isinstance(item, (int, str)) and not isinstance(item, bool):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 2e-4 as text
            item = float(item)
    yaml_type = str if kind is Path else kind
    # For Python true is a number, too.
    if not isinstance(item, yaml_type) or (kind is not bool and isinstance(item, bool)):
        raise UserError(f"{path}: {field.name} must be {kind.__name__}, found {item!r}")
    if field.metadata["choices"] and item not in field.metadata["choices"]:
        raise UserError(f"{path}: {field.name} is {item!r}; choose from {', '.join(field.metadata['choices'])}")
    return kind(item)


def _read_words(field: dataclasses.Field, words: Any, base: Path) -> Any:
    """What a knob that may be several words makes of them; None for another knob."""
    if not field.metadata["several"]:
        return None
    return field.metadata["several"][0]([str(_anchored(word, Path, base)) for word in words])


def _anchored(value: Any, hint: Any, base: Path) -> Any:
    kind, _, is_list = _unwrapped(hint)
    if kind is not Path or value is None:
        return value
    if is_list:
        return [_anchored(item, Path, base) for item in value]
    if str(value).startswith("hf:/"):  # of the Hub, no place on this disk
        return Path(value)
    return Path(os.path.normpath(base / Path(value).expanduser()))


def _check_bounds(field: dataclasses.Field, value: Any) -> None:
    bound = field.metadata["check"]
    if not bound or value is None:
        return
    sign, limit = bound.split()
    if not (value > float(limit) if sign == ">" else value >= float(limit)):
        raise UserError(f"{field.name} must be {bound}, found {value}")
