#!/usr/bin/env python3
"""Write planning rows in the format of another trainer: TRL, LLaMA-Factory (ShareGPT) or ms-swift.

    python scripts/utils/export_rows.py --rows data/train.jsonl --to trl
    python scripts/utils/export_rows.py --rows data/train.jsonl data/val.jsonl --to sharegpt --relative

Writes <name>_<format>.jsonl beside each file (or to --output_dir), and says how the other trainer reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.files import write_jsonl
from leap.progress import say
from leap.rows.exchange import FORMATS, exported, files_beside
from leap.rows.records import iter_rows, no_rows
from leap.text import plural

_READING = {
    "trl": 'load_dataset("json", data_files="{path}", split="train").cast_column("images", datasets.List(Image()))',
    "sharegpt": 'in dataset_info.json: "{path.stem}": {{"file_name": "{path.name}", "formatting": "sharegpt", '
    '"columns": {{"messages": "conversations", "system": "system", "images": "images"}}}}',
    "swift": "swift sft --dataset {path} ...",
}


@dataclass(frozen=True)
class Options:
    rows: list[Path] = knob([], "planning files to write anew")
    to: str = knob("trl", "format to write", choices=tuple(FORMATS))
    output_dir: Path | None = knob(None, "folder to write to (default: the file's own)")
    relative: bool = knob(False, "paths of pictures relative to the written file, not absolute")
    image_root: Path | None = knob(None, "folder that image paths are relative to, if not beside the JSONL file")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    if not options.rows:
        raise UserError("name the planning files with --rows, as in --rows data/train.jsonl")
    workspace = WorkspaceConfig.from_environment()
    for file in options.rows:
        workspace.require_file(file, "planning file")
        path = (options.output_dir or file.parent) / f"{file.stem}_{options.to}.jsonl"
        say(f"{path}: {plural(write(file, path, options, workspace.root), 'row')}")
        say(f"  {_READING[options.to].format(path=path)}")


def write(file: Path, path: Path, options: Options, workspace: Path) -> int:
    """How many rows were written."""
    folder = path.parent if options.relative else None
    records = (
        exported(row, options.to, files_beside(row, folder, options.image_root, workspace)) for row in iter_rows(file)
    )
    return write_jsonl(path, records, nothing=no_rows(file))


if __name__ == "__main__":
    run(main)
