#!/usr/bin/env python3
"""Make the sheet on which people rate the plans of a blind review without knowing who wrote them.

    python scripts/evaluation/make_rating_sheet.py
    python scripts/evaluation/make_rating_sheet.py --models baseline checkpoint-200 --max_items 5
    python scripts/evaluation/make_rating_sheet.py --outputs blind10_outputs.csv --image_root data/images

Reads outputs.jsonl in eva_results/blind_10/, writes rating_sheet.html and rating_key.json there. Send raters the sheet
alone: it is one file that works offline in any browser. They send back the ratings.csv that it exports. The same seed
and outputs give the same ids, also when models are added, so that earlier ratings stay valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.progress import say


@dataclass(frozen=True)
class Options:
    review_dir: Path = knob(Path("eva_results/blind_10"), "folder of the review")
    outputs: Path | None = knob(
        None, "what the models wrote, JSONL or CSV (default: outputs.jsonl in the review's folder)"
    )
    models: list[str] = knob([], "names of the models to show; none means all")
    seed: int = knob(0, "seed of the plans' order and ids")
    max_items: int | None = knob(None, "show the first so many rows only", check="> 0")
    image_root: Path | None = knob(None, "folder below which the pictures lie, if not beside the rows")
    output: Path | None = knob(
        None, "the sheet (default: rating_sheet.html in the review's folder); the key lies beside it"
    )


def main() -> None:
    options = parse_knobs(Options, None, __doc__)

    from leap.blind.outputs import OUTPUTS_FILE, items_of, read_outputs
    from leap.judge.ratings import KEY_FILE, SHEET_FILE, write_sheet

    source = options.outputs or options.review_dir / OUTPUTS_FILE
    target = options.output or options.review_dir / SHEET_FILE
    if target.is_dir():
        raise UserError(f"--output must be a file: {target} is a folder")
    outputs = read_outputs(source)
    names = list(dict.fromkeys(output.model for output in outputs))
    unknown = [name for name in options.models if name not in names]
    if unknown:
        raise UserError(f"no outputs of {unknown[0]!r} in {source}; there: {', '.join(names)}")
    models = list(dict.fromkeys(options.models)) or names
    items = items_of(outputs, source)[: options.max_items]
    workspace = WorkspaceConfig.from_environment().root
    made = write_sheet(target, items, models, options.seed, options.image_root, workspace)
    if made.missing:
        say(f"note: {made.missing} pictures are missing or unreadable; name their folder with --image_root")
    if made.failed:
        say(f"note: {made.failed} outputs failed and hold no plan to rate")
    say(f"{target}: {made.plans} plans of {len(models)} models, {made.items} rows. Send raters this file")
    key = target.with_name(KEY_FILE)
    say(f"{key}: which model wrote which plan. Keep it from raters")
    if target.parent != options.review_dir:
        say(f"note: name the key when the ratings are read: --human ratings.csv --human_key {key}")


if __name__ == "__main__":
    run(main)
