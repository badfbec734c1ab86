"""What models wrote for the rows of a blind review: outputs.jsonl, and the original LEAP's CSV of it.

outputs.jsonl holds one line a model and row:

    {"key": "...", "model": "checkpoint-200", "sample": 0, "id": null, "task_name": "Fold the cloth",
     "images": ["images/327-648642.png"], "folder": "/data", "prompt": "...", "reference": "1) ... 2) ...",
     "text": "1) ...", "new_tokens": 41, "stop": "end", "failure": null}

`sample` counts the rows from 0. Where a model or row failed, `text` is null and `failure` is {"kind", "reason"}. A row
that was asked again has several lines; the last one counts.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap import files
from leap.files import csv_reader, numbered_jsonl
from leap.rows.chat import first_file, image_candidates, task_name_in

OUTPUTS_FILE, CSV_FILE = "outputs.jsonl", "blind10_outputs.csv"
CSV_COLUMNS = ("model_name", "sample_idx", "image_paths", "prompt_text", "model_output", "reference_steps")

# What the original writes in place of a plan when a row failed.
_ORIGINAL_FAILURE = "<inference_error>"


@dataclass(frozen=True)
class Output:
    """What one model wrote for one row; `text` is None where it failed, with the reason in `failure`."""

    model: str
    sample: int
    images: list[str]
    folder: str
    prompt: str
    reference: str
    text: str | None
    id: str | None = None
    task_name: str | None = None
    key: str = ""
    new_tokens: int | None = None
    stop: str = ""
    failure: dict[str, str] | None = None

    def record(self) -> dict[str, Any]:
        """The line of outputs.jsonl."""
        return asdict(self)


@dataclass(frozen=True)
class Item:
    """One row of the review with the outputs of all models, failed ones among them, by model."""

    sample: int
    images: list[str]
    folder: str
    prompt: str
    reference: str
    task_name: str | None
    outputs: dict[str, Output] = field(default_factory=dict)


def read_outputs(path: Path) -> list[Output]:
    """All outputs of a JSONL or CSV file (by its ending), the last of each model and row, in order of the rows.

    UserError names the file and line of a defect, or says that there are none.
    """
    if not path.is_file():
        raise UserError(
            f"no outputs to judge: {path} is not there. Make them with: python scripts/evaluation/run_vlm_output.py"
        )
    outputs = _from_csv(path) if path.suffix.lower() == ".csv" else _from_jsonl(path)
    if not outputs:
        raise UserError(f"{path} holds no outputs. Make them with: python scripts/evaluation/run_vlm_output.py")
    return sorted(outputs, key=lambda output: output.sample)


def items_of(outputs: Iterable[Output], where: Path) -> list[Item]:
    """The outputs by row. UserError if models were shown different rows under the same number."""
    items: dict[int, Item] = {}
    for output in outputs:
        item = items.setdefault(
            output.sample,
            Item(output.sample, output.images, output.folder, output.prompt, output.reference, output.task_name),
        )
        if (item.prompt, item.reference) != (output.prompt, output.reference):
            first = next(iter(item.outputs))
            raise UserError(
                f"{where}: row {output.sample} of {output.model} is not that of {first}, so that their plans cannot be "
                "compared. Make the outputs of all models from the same rows"
            )
        item.outputs[output.model] = output
    return [items[sample] for sample in sorted(items)]


def picture_files(item: Item, image_root: Path | None, workspace: Path) -> list[Path | None]:
    """The file of each picture of a row, found as leap.rows.chat does; None for one that is missing."""
    folder = Path(item.folder)
    return [first_file(image_candidates(written, folder, image_root, workspace)) for written in item.images]


def write_csv(path: Path, outputs: Sequence[Output]) -> None:
    """Replace `path` by the original's CSV, newlines kept inside quoted fields; failed rows hold no plan and are left
    out."""
    rows = (
        [output.model, output.sample, ";".join(output.images), output.prompt, output.text, output.reference]
        for output in outputs
        if output.text is not None
    )
    files.write_csv(path, CSV_COLUMNS, rows)


def _from_jsonl(path: Path) -> list[Output]:
    outputs: dict[tuple[str, int], Output] = {}
    for number, record in numbered_jsonl(path):
        try:
            output = Output(**record)
            text_or_failure = output.failure is not None if output.text is None else isinstance(output.text, str)
        except TypeError as error:
            raise UserError(f"{path}:{number}: not an output ({error})") from None
        if not (isinstance(output.model, str) and isinstance(output.sample, int) and text_or_failure):
            raise UserError(f"{path}:{number}: an output needs a model, a sample number, and a text or a failure")
        outputs[output.model, output.sample] = output
    return list(outputs.values())


def _from_csv(path: Path) -> list[Output]:
    outputs: dict[tuple[str, int], Output] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv_reader(file)
            missing = [column for column in CSV_COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path} has no column {missing[0]}; it needs {', '.join(CSV_COLUMNS)}")
            for row in reader:
                output = _from_csv_row(row, f"{path}:{reader.line_num}", str(path.parent))
                if (output.model, output.sample) in outputs:
                    raise UserError(f"{path}:{reader.line_num}: row {output.sample} of {output.model} is there twice")
                outputs[output.model, output.sample] = output
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8: {error}") from error
    return list(outputs.values())


def _from_csv_row(row: dict[str, str | None], where: str, folder: str) -> Output:
    fields = {column: field for column in CSV_COLUMNS if (field := row[column]) is not None}
    if len(fields) < len(CSV_COLUMNS):
        raise UserError(f"{where}: fewer fields than columns; a line break outside of quotes may have cut the row")
    model, sample = fields["model_name"].strip(), fields["sample_idx"].strip()
    if not model or not sample.isdecimal():
        raise UserError(f"{where}: needs a model_name and a sample_idx from 0, found {model!r} and {sample!r}")
    text, failure = fields["model_output"], None
    if text.startswith(_ORIGINAL_FAILURE):
        failure = {"kind": "machine", "reason": text.removeprefix(_ORIGINAL_FAILURE).lstrip(": ")}
    images = [image.strip() for image in fields["image_paths"].split(";") if image.strip()]
    prompt = fields["prompt_text"]
    return Output(
        model,
        int(sample),
        images,
        folder,
        prompt,
        fields["reference_steps"],
        None if failure else text,
        task_name=task_name_in(prompt),
        failure=failure,
    )
