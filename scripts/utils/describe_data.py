#!/usr/bin/env python3
"""Say what planning files hold: tasks, plans, verbs and objects, lengths, pictures, duplicates, what they share.

    python scripts/utils/describe_data.py
    python scripts/utils/describe_data.py --rows data/train.jsonl data/test.jsonl --hash_pictures
    python scripts/utils/describe_data.py --rows data/my_rows.jsonl --base_model models/Qwen3-VL-2B-Instruct

Prints Markdown tables, all else on stderr. Writes description.json, description.md, data_description.png, .svg and
.pdf to logs/describe/<names>. Name the file trained on first. Pictures are told apart by content if
check_and_clean_images.py has looked at them or with --hash_pictures, which reads them all; else by file.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig
from leap.cli import knob, parse_knobs, run
from leap.data.planning_files import choose_planning_files, is_tested
from leap.files import write_json, write_text
from leap.progress import say


@dataclass(frozen=True)
class Options:
    files: list[Path] = knob(
        [], "planning files, the one trained on first (default: all of data/ but *_all and all_* beside a split)"
    )
    output: Path | None = knob(None, "folder to write to (default: logs/describe/<names of the files>)")
    image_root: Path | None = knob(None, "folder that image paths are relative to, if not beside the JSONL file")
    hash_pictures: bool = knob(False, "read every picture, so that equal ones are told by content")
    base_model: Path | None = knob(None, "model whose processor counts tokens", flags=("--model_path",))
    image_tokens_min: int = knob(256, "fewest visual tokens of an image, with --base_model", check="> 0")
    image_tokens_max: int = knob(768, "most visual tokens of an image, with --base_model", check="> 0")
    figure: bool = knob(True, "draw data_description.png, .svg and .pdf")
    workers: int = knob(4, "threads that read pictures, processes that count tokens", check="> 0")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    workspace = WorkspaceConfig.from_environment()
    if options.base_model:
        workspace.require(options.base_model, "model")
    with contextlib.redirect_stdout(sys.stderr):  # all but the tables
        text, written = described(options, workspace)
    say(text)
    for path in written:
        say(f"written: {path}", file=sys.stderr)


def described(options: Options, workspace: WorkspaceConfig) -> tuple[str, list[Path]]:
    """The tables as text, and all files written."""
    files, note = choose_planning_files(options.files, workspace.data, workspace)
    if note:
        say(note)
    if not options.files:
        files = sorted(files, key=is_tested)  # what is trained on comes first

    from leap.data.description import describe, description_text

    description = describe(files, options.image_root, workspace.root, options.workers if options.hash_pictures else 0)
    if options.base_model:
        count_tokens(description, files, options, workspace)
    text = description_text(description)
    folder = options.output or workspace.logs / "describe" / "_".join(file.stem for file in files)[:100]
    write_json(folder / "description.json", description)
    write_text(folder / "description.md", text)
    written = [folder / "description.json", folder / "description.md"]
    if options.figure:
        from leap.plots.data import data_description
        from leap.plots.style import save

        written += save(data_description(description), folder, "data_description")
    return text, written


def count_tokens(description: dict, files: list[Path], options: Options, workspace: WorkspaceConfig) -> None:
    """Add the tokens of each file's rows, by the lengths that training's own check computes and keeps."""
    from leap.data.description import add_token_lengths
    from leap.models.image_budget import bound_where_possible
    from leap.models.loading import load_processor
    from leap.training.lengths import PARTS
    from leap.training.preflight import check_file
    from leap.training.supervision import PlanningCollator

    processor = load_processor(options.base_model)
    bound_where_possible(processor, options.image_tokens_min, options.image_tokens_max)
    collator = PlanningCollator(processor, options.image_root, workspace.root)
    for name, file in zip(description["files"], files, strict=True):
        lengths = check_file(file, collator, max_length=2**31, workers=options.workers).lengths
        if lengths:
            add_token_lengths(description, name, {part: getattr(lengths, part).tolist() for part in PARTS})


if __name__ == "__main__":
    run(main)
