#!/usr/bin/env python3
"""Make planning rows of conversations in the format of ShareGPT, LLaVA, TRL, ms-swift or OpenAI's chats.

    python scripts/utils/import_rows.py --conversations theirs.jsonl
    python scripts/utils/import_rows.py --conversations theirs.json --image_root pictures --output data/theirs.jsonl

The last assistant turn becomes the plan. Writes <name>_planning.jsonl beside the file, or --output.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig, next_line
from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.files import numbered_jsonl, read_json, write_jsonl
from leap.progress import say
from leap.rows.exchange import imported
from leap.text import plural


@dataclass(frozen=True)
class Options:
    conversations: Path | None = knob(None, "file of conversations: JSONL, or JSON with a list")
    image_root: Path | None = knob(None, "folder that paths of pictures are relative to (default: the file's own)")
    output: Path | None = knob(None, "planning file to write (default: <name>_planning.jsonl beside it)")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    if options.conversations is None:
        raise UserError("name the file with --conversations, as in --conversations theirs.jsonl")
    source = WorkspaceConfig.from_environment().require_file(options.conversations, "file of conversations")
    path = options.output or source.with_name(f"{source.stem}_planning.jsonl")
    if path.resolve() == source.resolve():
        raise UserError(f"{path} is the source; choose another --output")
    root = options.image_root or source.parent

    def path_of(written: str) -> str:
        """The path as it counts beside the file that is written; one that is not there stays as it is."""
        place = root / written.removeprefix("file://")
        return os.path.relpath(place, path.parent) if not Path(written).is_absolute() and place.is_file() else written

    rows = (imported(record, where, source.parent, path_of) for where, record in records(source))
    count = write_jsonl(path, rows, nothing=UserError(f"{source} holds no conversations"))
    say(f"{path}: {plural(count, 'row')}")
    say(next_line(f"python scripts/training/validate_data.py --rows {shlex.quote(str(path))}"))


def records(source: Path) -> Iterator[tuple[str, dict]]:
    """("file:line" or "file, item", object) of each conversation."""
    if source.suffix != ".json":
        yield from ((f"{source}:{number}", record) for number, record in numbered_jsonl(source))
        return
    content = read_json(source)
    if not isinstance(content, list):
        raise UserError(f"{source} holds no list of conversations")
    for number, record in enumerate(content, 1):
        if not isinstance(record, dict):
            raise UserError(f"{source}, item {number}: expected a JSON object, found {type(record).__name__}")
        yield f"{source}, item {number}", record


if __name__ == "__main__":
    run(main)
