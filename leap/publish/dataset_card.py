"""Data set cards: the README.md that says what a set of planning rows holds and under which licence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from configs.errors import UserError
from leap.files import sha256_file
from leap.publish.model_card import card_text
from leap.rows.chat import image_items, task_name_of
from leap.rows.records import PlanningRow, iter_rows
from leap.text import markdown_table

AGIBOT_LICENCE = "cc-by-nc-sa-4.0"


def dataset_card(files: Sequence[Path], repo_id: str, licence: str | None = None) -> str:
    """The card of planning rows in the JSONL `files`: counts, how to use them, one row, and the licence.

    `licence` is an id of the Hub such as `apache-2.0`. Without one, pictures that are named as AgiBot World's are
    (`327-648642.png`) bring AgiBot World's, and else none is stated. UserError for a line that is no planning row.
    """
    from huggingface_hub import DatasetCardData

    counts, total, agibot = [], 0, False
    example: PlanningRow | None = None
    for path in files:
        rows, tasks, episodes, pictures = 0, set(), set(), set()
        for row in iter_rows(path):
            example = example or row
            rows += 1
            tasks.add(_task(row))
            episodes.add(row.episode_id and (row.task_id, row.episode_id))
            pictures.update(image_items(row))
        total += rows
        agibot = agibot or any(map(_is_agibot, pictures))
        sizes = [len(items - {None}) for items in (tasks, episodes, pictures)]
        numbers = [f"{rows:,}", *(f"{count:,}" if count else "-" for count in sizes)]
        counts.append([f"`{path.name}`", *numbers, f"`{sha256_file(path)}`"])
    if example is None:
        raise UserError(f"no planning rows in {', '.join(map(str, files))}")
    why = ""
    if licence is None and agibot:
        licence, why = AGIBOT_LICENCE, " (the pictures are named as those of AgiBot World are)"
    front = DatasetCardData(
        license=licence,
        language=["en"],
        task_categories=["image-text-to-text"],
        size_categories=[_size_category(total)],
        tags=["robotics", "task-planning", "leap"],
    )
    record = {"messages": example.messages, "target": {"steps": example.steps}}
    first = f"data/{files[0].name}"
    parts = [
        f"# {repo_id.rpartition('/')[2]}",
        "Planning rows for LEAP (Logical Embodied Action Planning): pictures of a scene and a task, and the steps that "
        "answer it.",
        markdown_table([["file", "rows", "tasks", "episodes", "pictures", "SHA-256"], *counts]),
        f"## Use\n\n```bash\nhf download {repo_id} --repo-type dataset --local-dir data\n"
        f"python scripts/training/validate_data.py --rows {first}\n"
        f"bash scripts/training/run-training.sh --rows {first}\n```\n\n"
        "Pictures are found relative to the JSONL file; unpack an archive of them beside it first.",
        f"## One row\n\n````json\n{json.dumps(record, indent=2, ensure_ascii=False)}\n````",
        f"## Licence\n\n{licence or 'None is stated'}{why}. Rows or pictures derived from AgiBot World are under "
        "CC BY-NC-SA 4.0: name the source, no commercial use, share alike.",
        "## Limits\n\nThe numbers count what is in the files. Whether a plan is right for its picture was not checked.",
    ]
    return card_text(front.to_yaml(), parts)


def _task(row: PlanningRow) -> str | None:
    return row.task_name or row.task_id or task_name_of(row)


def _is_agibot(picture: str) -> bool:
    task, _, episode = Path(picture).stem.partition("-")
    return task.isdigit() and episode.isdigit()


def _size_category(rows: int) -> str:
    bounds = (("n<1K", 1_000), ("1K<n<10K", 10_000), ("10K<n<100K", 100_000), ("100K<n<1M", 1_000_000))
    return next((name for name, bound in bounds if rows < bound), "1M<n<10M")
