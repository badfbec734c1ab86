"""The benchmark in Hugging Face datasets form, so that others evaluate on it with a harness of their own.

    <folder>/README.md                   the card; a configuration a dimension, and `default` with all of them
    <folder>/<dimension>/test.parquet    a row an example, in the order of task and number

Columns: dimension, task, example (its number), image and tagged_image, instruction, skill_sequence (the ground truth,
as JSON), prompt (the user turn, as JSON: items of text, and of images by the name of their column) and sha256, the
example's content hash. The configuration of the simulator is left out, as no model may see it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import replacing, write_text
from leap.models.checkpoints import CARD
from leap.publish.model_card import card_text
from leap.text import markdown_table
from leap.vlabench.examples import VERIFY_ADVICE, Example
from leap.vlabench.prompts import PromptWriter

_SPLIT = "test"
_ROWS_AT_ONCE = 32  # of two pictures each in memory

_USE = """\
## Use

```python
import json

from datasets import load_dataset
from leap.plans.scoring import ORDER_INDEPENDENT_TASKS, score_official

row = load_dataset("./{folder}", "{dimension}", split="test")[0]  # or the id on the Hub
answer = "```json\\n" + row["skill_sequence"] + "\\n```"  # a model's
truth, free_order = json.loads(row["skill_sequence"]), row["task"] in ORDER_INDEPENDENT_TASKS
print(score_official(answer, truth, order_independent=free_order).scores)
```

`integrations/lmms_eval` of LEAP is a task for lmms-eval."""


def write_benchmark(folder: Path, benchmark: Mapping[str, Sequence[Example]], writer: PromptWriter) -> dict[str, Path]:
    """Write the examples by dimension as Parquet files and their card; the files by dimension.

    UserError, before anything is written, for an example that cannot be asked or scored.
    """
    import pyarrow
    import pyarrow.parquet
    from datasets import Features, Image, Value

    for example in (example for examples in benchmark.values() for example in examples):
        if problem := example.problem():
            raise UserError(f"{problem}. {VERIFY_ADVICE}" if VERIFY_ADVICE not in problem else problem)
    texts = ("dimension", "task", "instruction", "skill_sequence", "prompt", "sha256")
    features = Features(
        {name: Value("string") for name in texts}
        | {"example": Value("int64"), "image": Image(), "tagged_image": Image()}
    )
    schema = features.arrow_schema
    files = {dimension: folder / dimension / f"{_SPLIT}.parquet" for dimension in benchmark}
    for dimension, examples in benchmark.items():
        with replacing(files[dimension]) as file, pyarrow.parquet.ParquetWriter(file, schema) as parquet:
            for rows in _batches(examples):
                parquet.write_table(pyarrow.Table.from_pylist([example_row(row, writer) for row in rows], schema))
    write_text(folder / CARD, _card(folder, benchmark, writer))
    return files


def example_row(example: Example, writer: PromptWriter) -> dict[str, Any]:
    """One row; UserError if a file of the example is missing or damaged."""
    columns = {str(example.plain_image): "image", str(example.tagged_image): "tagged_image"}
    prompt = [
        item | {"image": columns[item["image"]]} if item["type"] == "image" else item for item in writer.write(example)
    ]
    pictures = {name: {"bytes": Path(path).read_bytes(), "path": Path(path).name} for path, name in columns.items()}
    return {
        **{"dimension": example.dimension, "task": example.task, "example": example.number},
        **pictures,
        "instruction": example.instruction(),
        "skill_sequence": json.dumps(example.ground_truth()),
        "prompt": json.dumps(prompt),
        "sha256": example.sha256(),
    }


def _batches(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    return (examples[start : start + _ROWS_AT_ONCE] for start in range(0, len(examples), _ROWS_AT_ONCE))


def _card(folder: Path, benchmark: Mapping[str, Sequence[Example]], writer: PromptWriter) -> str:
    from huggingface_hub import DatasetCardData

    paths = {dimension: f"{dimension}/{_SPLIT}.parquet" for dimension in benchmark}
    configs = [{"config_name": name, "data_files": [{"split": _SPLIT, "path": path}]} for name, path in paths.items()]
    everything = {"config_name": "default", "data_files": [{"split": _SPLIT, "path": list(paths.values())}]}
    front = DatasetCardData(
        language=[writer.language],
        task_categories=["image-text-to-text"],
        tags=["robotics", "task-planning", "vlabench", "leap"],
        configs=[everything, *configs],
    )
    counts = [
        [dimension, str(len({example.task for example in examples})), f"{len(examples):,}"]
        for dimension, examples in benchmark.items()
    ]
    prompt = writer.fingerprint()
    parts = [
        "# A planning benchmark in the format of VLABench's VLM track",
        markdown_table([["dimension", "tasks", "examples"], *counts]),
        "Built by LEAP from a folder of examples. `image` is the scene, `tagged_image` the same with numbered tags, "
        "`skill_sequence` the ground truth as JSON, `prompt` the user turn as JSON (an image item names its column). "
        f"The prompts are worded {prompt['style']}, text SHA-256 `{prompt['text_sha256']}`. `sha256` is the content "
        "hash of an example.",
        _USE.format(folder=folder.name, dimension=next(iter(benchmark))),
        "## Licence\n\nThat of the benchmark it was built from; none is stated here.",
    ]
    return card_text(front.to_yaml(), parts)
