"""The scores of every example as one table, a row for each example that a model answered, for other people's tools.

Columns: model, dimension, task, example (its number), answers (how many were drawn; scores are means over them), one
for each metric, such as `official_total_score` and `grounded_plan_success` (0 to 100; empty where that scorer left
none), `labels` (error labels with ", " between), `stop` and `new_tokens` of the answer, `template` and `scene`
(examples of a task that share one are not independent: leap.vlabench.sampling), and `text`, the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import replacing, write_csv
from leap.plans.scoring import METRICS
from leap.vlabench.folder import ORIGIN_KINDS, AnswerRecord, ExampleKey, ResultFolder, models_in

CSV_FILE, PARQUET_FILE = "example_scores.csv", "example_scores.parquet"

_SCORE_COLUMNS = [f"{scorer}_{metric}" for scorer, metrics in METRICS.items() for metric in metrics]
COLUMNS = [
    *("model", "dimension", "task", "example", "answers", *_SCORE_COLUMNS),
    *("labels", "stop", "new_tokens", *ORIGIN_KINDS, "text"),
]


def example_rows(results: Path, models: Sequence[str], dimensions: Sequence[str]) -> list[dict[str, Any]]:
    """A row with all COLUMNS for each scored example of these models, or of all where none is named. UserError if a
    model has no scores."""
    present = models_in(results)
    rows: list[dict[str, Any]] = []
    for model in models or present:
        rows_of_model = [row for name in dimensions for row in _folder_rows(ResultFolder(results / name / model))]
        if models and not rows_of_model:
            raise UserError(f"no scores of {model!r} in {results}; there: {', '.join(present) or 'none'}")
        rows += rows_of_model
    if not rows:
        raise UserError(f"no scores in {results}. Make some with: python scripts/evaluation/run_vlm_evaluation.py")
    return rows


def _folder_rows(folder: ResultFolder) -> Iterator[dict[str, Any]]:
    for key in sorted(folder.official_scores.keys() | folder.grounded_scores.keys()):
        yield dict.fromkeys(COLUMNS) | _row(folder, key)


def _row(folder: ResultFolder, key: ExampleKey) -> dict[str, Any]:
    scores = {
        f"{scorer}_{metric}": float(value)
        for scorer in METRICS
        for metric, value in folder.scores(scorer).get(key, {}).items()
        if metric in METRICS[scorer]
    }
    answer = folder.answers.get(key)
    return {
        **{"model": folder.model, "dimension": folder.dimension, "task": key[0], "example": key[1]},
        **({"answers": len(folder.samples[key])} if key in folder.samples else {}),
        **scores,
        **({"labels": ", ".join(folder.labels[key])} if key in folder.labels else {}),
        **folder.origins.get(key, {}),
        **(_answer_columns(answer) if answer else {}),
    }


def _answer_columns(answer: AnswerRecord) -> dict[str, Any]:
    # A model's text may hold lone surrogates, which UTF-8 cannot carry.
    text = answer.readable_text.encode("utf-8", "backslashreplace").decode("utf-8")
    return {"stop": answer.stop, "new_tokens": answer.new_tokens, "text": text}


def write_tables(rows: Sequence[dict[str, Any]], folder: Path) -> tuple[Path, Path]:
    """Write the rows as CSV and as Parquet into `folder`; both are loaded by `datasets` and pandas."""
    import pyarrow
    import pyarrow.parquet

    kinds = dict.fromkeys(COLUMNS, pyarrow.string()) | dict.fromkeys(_SCORE_COLUMNS, pyarrow.float64())
    kinds |= dict.fromkeys(("example", "answers", "new_tokens"), pyarrow.int64())
    write_csv(folder / CSV_FILE, COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    with replacing(folder / PARQUET_FILE) as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows), pyarrow.schema(list(kinds.items()))), file)
    return folder / CSV_FILE, folder / PARQUET_FILE
