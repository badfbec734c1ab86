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
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.files import is_disk_full
from leap.text import printable

T = TypeVar("T")


def knob(
    default: Any,
    help: str,
    *,
    flags: tuple[str, ...] = (),
    choices: tuple | None = None,
    check: str = "",
    free: bool = False,
    repeated: bool = False,
    positional: bool = False,
) -> Any:
    """A dataclass field that can be set by flag or recipe.

    `help` says what it is, with its unit; `flags` are other names (with their dashes) that mean the same;
    `choices` lists the only values allowed; `check` is a bound such as "> 0" or ">= 0"; a `free` knob says where or how
    something runs, not what it computes, and may change between kill and resume. A list as default needs no factory.
    A `repeated` list takes one value a flag, given as often as there are values; a `positional` knob is a word of the
    command line without a flag, which may stand anywhere beside flags that take one value.
    """
    metadata = {"help": help, "flags": flags, "choices": choices, "check": check, "free": free}
    metadata |= {"repeated": repeated, "positional": positional}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


# What a place on the disk can be wrong for: not ours, another kind of thing, or a name that cannot be.
_OF_PLACES = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise UserError(f"{message}. See: {self.prog} --help")


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
    flag_values = vars(_parser(cls, hints, description, recipe, preset).parse_args(argv))

    root = WorkspaceConfig.from_environment().root
    values = {field.name: _anchored(_default_of(field), hints[field.name], root) for field in dataclasses.fields(cls)}
    files = [preset.with_stem(flag_values.pop("preset"))] if preset is not None else []
    if config := flag_values.pop("config", None):
        files.append(config)
    for file in files:
        values |= _read_recipe(file, cls, hints, root)
    for name, value in flag_values.items():
        values[name] = _anchored(value, hints[name], Path.cwd())
    for field in dataclasses.fields(cls):
        _check_bounds(field, values[field.name])
    return cls(**values)


def _parser(
    cls: type, hints: dict[str, Any], description: str, recipe: Path | None, preset: Path | None
) -> argparse.ArgumentParser:
    """A parser with a flag a knob, whose values hold only what the command line says."""
    purpose, _, rest = description.strip().partition("\n")
    parser = _Parser(
        description=purpose,
        epilog=rest.strip(),
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if preset is not None:
        names = sorted(path.stem for path in preset.parent.glob("*.yaml"))
        text = f"ready recipe in {_short(preset.parent)} (default: {preset.stem})"
        parser.add_argument("--preset", choices=names, default=preset.stem, help=text)
    if recipe is not None or preset is not None:
        text = "recipe with any of the knobs below" + (f" (default: {_short(recipe)})" if recipe else "")
        parser.add_argument("--config", type=Path, default=recipe, metavar="YAML", help=text)
    for field in dataclasses.fields(cls):
        _add_flag(parser, field, hints[field.name])
    return parser


def _default_of(field: dataclasses.Field) -> Any:
    return field.default_factory() if field.default is dataclasses.MISSING else field.default


def run(main: Callable[[], int | None]) -> typing.NoReturn:
    """Run a script's main: a UserError is one line on stderr and status 2, Ctrl-C is status 130."""
    # Workers that spin for work make small CPU models several times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        status = main()
    except UserError as error:
        print(f"error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
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
    return {name: _plain_value(value) for name, value in dataclasses.asdict(knobs).items()}


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


def _add_flag(parser: argparse.ArgumentParser, field: dataclasses.Field, hint: Any) -> None:
    kind, optional, is_list = _unwrapped(hint)
    names = [f"--{field.name}", f"--{field.name.replace('_', '-')}", *field.metadata["flags"]]
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
        names = list(dict.fromkeys(names))
    else:
        options |= {
            "type": _reader(kind, optional),
            "choices": field.metadata["choices"],
            "metavar": None if field.metadata["choices"] else kind.__name__.upper(),
        }
        if field.metadata["repeated"]:
            options["action"] = "append"
        elif is_list:
            options["nargs"] = "+"
    parser.add_argument(*dict.fromkeys(names), **options)


def _reader(kind: type, optional: bool) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if optional and text.lower() in ("none", "null", *(() if kind in (str, Path) else ("auto",))):
            return None
        return kind(text)

    read.__name__ = kind.__name__
    return read


def _read_recipe(path: Path, cls: type, hints: dict[str, Any], root: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        raise UserError(f"recipe not found: {path}. Ready recipes are in configs/")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must map knobs to values, found {type(content).__name__}")
    unknown = sorted(set(content) - set(hints))
    if unknown:
        raise UserError(f"{path}: unknown key {unknown[0]!r}; known keys: {', '.join(hints)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    return {name: _from_yaml(path, fields[name], hints[name], value, root) for name, value in content.items()}


def _from_yaml(path: Path, field: dataclasses.Field, hint: Any, value: Any, root: Path) -> Any:
    kind, optional, is_list = _unwrapped(hint)
    if value is None and optional:
        return None
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


def _anchored(value: Any, hint: Any, base: Path) -> Any:
    kind, _, is_list = _unwrapped(hint)
    if kind is not Path or value is None:
        return value
    if is_list:
        return [_anchored(item, Path, base) for item in value]
    return Path(os.path.normpath(base / Path(value).expanduser()))


def _check_bounds(field: dataclasses.Field, value: Any) -> None:
    bound = field.metadata["check"]
    if not bound or value is None:
        return
    sign, limit = bound.split()
    if not (value > float(limit) if sign == ">" else value >= float(limit)):
        raise UserError(f"{field.name} must be {bound}, found {value}")
