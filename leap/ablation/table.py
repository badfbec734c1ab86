"""The table of an ablation sweep: every number out of the files that trainings and evaluations left, none invented.

Out of <run>/checkpoint-<step>/leap_manifest.json: learning rate, steps, tokens, validation scores, and whether all runs
had the same budget. Out of <run>/run.json, which the trainer leaves: "trainable_parameters", "parameters", "seconds",
"peak_memory_bytes", "memory_of". Out of eva_results/<dimension>/<model>/: scores. What is not there is missing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from configs.config import DIMENSIONS
from leap.files import read_json, write_json, write_text
from leap.models.checkpoints import last_complete_checkpoint, read_manifest
from leap.plans.measures import MEASURES
from leap.plans.scoring import TOPS
from leap.statistics import Estimate, over_seeds
from leap.text import count_text, duration_text, markdown_table
from leap.vlabench.folder import summaries_of
from leap.vlabench.tables import overall

BASE = "base"
COLUMNS = (*DIMENSIONS, "macro")
_EVALUATED = {
    "last": "the last checkpoint of each training, after the same budget for all",
    "best": "the checkpoint of each training that validated best; its budget is its own",
}
_FROM_RUN = ("trainable_parameters", "parameters", "seconds", "peak_memory_bytes")
_VALIDATION = ("loss", "plan_step_f1", "grounded_total")


@dataclass(frozen=True)
class ModelRecord:
    """One trained model (or the base, without seed), as its files hold it. `numbers` and `scores` lack what they lack.

    `scores` are total scores by "<scorer> <dimension>" and "<scorer> macro", with intervals over examples.
    """

    preset: str
    seed: int | None = None
    failure: str | None = None
    checkpoint: str | None = None
    model: str | None = None  # its name in results
    numbers: dict[str, float] = field(default_factory=dict)
    scores: dict[str, Estimate] = field(default_factory=dict)
    memory_of: str | None = None  # "GPU" or "process"
    budget: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)  # of the evaluation that must be equal


@dataclass(frozen=True)
class Cell:
    """A number over the seeds that have it. `low` and `high` are a 95 % interval of the mean `over` "seeds" (Student t)
    or, of a single one, of the score over "examples"."""

    mean: float
    values: list[float]
    low: float | None = None
    high: float | None = None
    over: str | None = None


@dataclass(frozen=True)
class PresetRow:
    """A line of the table: a preset over its seeds, or the base."""

    preset: str
    seeds: list[int]
    failures: list[str]
    memory_of: list[str]
    cells: dict[str, Cell]

    def totals(self, scorer: str) -> list[Estimate | None]:
        """Total scores in the order of COLUMNS, as a figure takes them; None where one is missing."""
        cells = [self.cells.get(f"{scorer} {name}") for name in COLUMNS]
        return [Estimate(c.mean, *(c.mean if x is None else x for x in (c.low, c.high))) if c else None for c in cells]


def measure_run(folder: Path, checkpoint: Path) -> dict[str, Any]:
    """What run folder and checkpoint tell: `numbers`, `budget`, `memory_of`. UserError if a file cannot be read."""
    manifest = read_manifest(checkpoint)
    last = read_manifest(last_complete_checkpoint(folder) or checkpoint)
    assert manifest is not None, "the trainer's checkpoints have a manifest"
    assert last is not None, "the trainer's checkpoints have a manifest"
    run_json = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    numbers = {"learning_rate": last.recipe["learning_rate"], "steps": last.steps, "tokens_seen": last.tokens_seen}
    numbers |= {name: run_json[name] for name in _FROM_RUN if run_json.get(name) is not None}
    if manifest.validation.get("step") == manifest.steps:
        numbers |= {name: manifest.validation[name] for name in _VALIDATION if name in manifest.validation}
    budget = budget_of(last.recipe, last.devices) | {
        "steps": last.steps,
        "training and validation data": last.data_sha256[:12],
        "base model": last.base_weights_sha256[:12],
        "tokens seen": last.tokens_seen,
    }
    return {"numbers": numbers, "budget": budget, "memory_of": run_json.get("memory_of")}


def measure_scores(results: Path, model: str) -> dict[str, Any]:
    """What the results of a model tell: `scores` and `settings`."""
    scores: dict[str, Estimate] = {}
    for scorer in TOPS:
        means = overall(results, model, scorer)
        if means:
            scores |= {f"{scorer} {name}": terms["total_score"] for name, terms in means.dimensions.items()}
            if means.complete:
                scores[f"{scorer} macro"] = means.macro["total_score"]
    return {"scores": scores, "settings": _settings(results, model)}


def _settings(results: Path, model: str) -> dict[str, Any]:
    summaries = summaries_of(results, model)
    if not summaries:
        return {}
    settings = next(iter(summaries.values())).settings
    return {
        **{name: settings["planner"].get(name) for name in ("pixel_budget", "dtype", "decoding")},
        "prompt": settings["prompt"],
        "examples": {dimension: summary.provenance["data_sha256"] for dimension, summary in summaries.items()},
    }


def budget_of(recipe: Mapping[str, Any], devices: int = 1) -> dict[str, Any]:
    """What a recipe spends and sees, of all that a fair comparison keeps equal."""
    batches = recipe["gradient_accumulation_steps"] * devices
    packed = f"{batches} packs of {recipe['packing_tokens']} tokens" if recipe.get("packing") else None
    return {
        "steps": recipe["max_steps"],
        "rows a step": packed or recipe["per_device_train_batch_size"] * batches,
        "warm-up steps": recipe["warmup_steps"],
        "schedule": recipe["lr_scheduler_type"],
        "visual tokens a picture": f"{recipe['image_tokens_min']} to {recipe['image_tokens_max']}",
    }


def budget_warnings(budgets: Mapping[str, Mapping[str, Any]], per_seed: Mapping[str, int | None]) -> list[str]:
    """One line a part of the budget that differs between runs (by name); tokens are compared among runs of a seed,
    which see the same rows in the same order."""
    warnings = []
    for part in dict.fromkeys(key for budget in budgets.values() for key in budget):
        values = {name: budget.get(part) for name, budget in budgets.items()}
        if part != "tokens seen":
            warnings += _difference(part, values)
            continue
        for seed in dict.fromkeys(per_seed.values()):
            of_seed = {name: value for name, value in values.items() if per_seed[name] == seed}
            warnings += _difference(f"{part} with seed {seed}", of_seed)
    return [f"not the same budget: {warning}" for warning in warnings]


def _difference(what: str, values: Mapping[str, Any]) -> list[str]:
    by_value: dict[str, list[str]] = {}
    for name, value in values.items():
        by_value.setdefault(str(value), []).append(name)
    if len(by_value) < 2:
        return []
    return [f"{what}: " + "; ".join(f"{value} ({', '.join(names)})" for value, names in by_value.items())]


def all_warnings(measured: Sequence[ModelRecord]) -> list[str]:
    """What makes the rows of the table hard to compare."""
    named = {f"{m.preset}_seed{m.seed}" if m.seed is not None else m.preset: m for m in measured}
    trained = {name: m for name, m in named.items() if m.budget}
    warnings = budget_warnings({n: m.budget for n, m in trained.items()}, {n: m.seed for n, m in trained.items()})
    evaluated = {name: m.settings for name, m in named.items() if m.settings}
    for part in dict.fromkeys(key for settings in evaluated.values() for key in settings):
        if _difference(part, {name: settings.get(part) for name, settings in evaluated.items()}):
            warnings.append(f"evaluations differ in {part}: see settings.json and summary.json of each model")
    return warnings


def table_rows(measured: Sequence[ModelRecord]) -> list[PresetRow]:
    """One row a preset, in order of appearance."""
    rows = []
    for preset in dict.fromkeys(m.preset for m in measured):
        of_preset = [m for m in measured if m.preset == preset]
        names = dict.fromkeys(name for m in of_preset for name in (*m.numbers, *m.scores))
        rows.append(
            PresetRow(
                preset,
                [m.seed for m in of_preset if m.seed is not None],
                [f"seed {m.seed}" if m.seed is not None else m.preset for m in of_preset if m.failure],
                sorted({m.memory_of for m in of_preset if m.memory_of}),
                {name: _cell(name, of_preset) for name in names},
            )
        )
    return rows


def _cell(name: str, measured: Sequence[ModelRecord]) -> Cell:
    estimates = [m.scores[name] for m in measured if name in m.scores]
    values = [e.mean for e in estimates] or [float(m.numbers[name]) for m in measured if name in m.numbers]
    if len(values) > 1:
        estimate = over_seeds(values)
        return Cell(estimate.mean, values, estimate.low, estimate.high, "seeds")
    if estimates:
        return Cell(values[0], values, estimates[0].low, estimates[0].high, "examples")
    return Cell(statistics.fmean(values), values)


def as_markdown(rows: Sequence[PresetRow], which: str, warnings: Sequence[str]) -> str:
    """Three tables, one row a preset each (training, official totals, grounded totals), and what to know about them."""
    head = ["preset", "seeds", *(title for title, _ in _TRAINING)]
    trained = [row for row in rows if row.preset != BASE]
    parts = [markdown_table([head, *([_title(r), _seeds(r), *(show(r) for _, show in _TRAINING)] for r in trained)])]
    for scorer in TOPS:
        head = [MEASURES[f"{scorer}.total_score"].label, *COLUMNS]
        lines = [[_title(row), *(_cell_text(row, f"{scorer} {name}", "{:.1f}") for name in COLUMNS)] for row in rows]
        parts.append(markdown_table([head, *lines]))
    over = {cell.over for row in rows for cell in row.cells.values()}
    notes = [f"Evaluated is {_EVALUATED[which]}. A missing value is shown as -."]
    if "seeds" in over:
        notes.append(
            "(low to high): 95 % interval of the mean over seeds, Student t; it contains how trainings differ."
        )
    if "examples" in over:
        notes.append(
            "(low to high)*: one model only; 95 % interval over examples, blind to what another training would change."
        )
    notes += [f"warning: {warning}" for warning in warnings]
    return "\n\n".join([*parts, *notes]) + "\n"


def as_json(
    measured: Sequence[ModelRecord], rows: Sequence[PresetRow], which: str, warnings: Sequence[str]
) -> dict[str, Any]:
    """All numbers: `rows` over seeds, `runs` one by one."""
    return {
        "evaluated": which,
        "warnings": list(warnings),
        "rows": [asdict(row) for row in rows],
        "runs": [{"asked" if k == "settings" else k: v for k, v in asdict(m).items()} for m in measured],
    }


def write_table(measured: Sequence[ModelRecord], which: str, folder: Path) -> tuple[str, list[Path]]:
    """Write the table as Markdown and JSON, and the figure; returns the Markdown and what was written."""
    rows, warnings = table_rows(measured), all_warnings(measured)
    table = as_markdown(rows, which, warnings)
    paths = [folder / "ablation_table.md", folder / "ablation_table.json"]
    write_text(paths[0], table)
    write_json(paths[1], as_json(measured, rows, which, warnings))
    return table, [*paths, *_draw(rows, folder)]


def _draw(rows: Sequence[PresetRow], folder: Path) -> list[Path]:
    from leap.plots.style import save
    from leap.plots.training import ablation

    estimates = {row.preset: row.totals("grounded") for row in rows}
    estimates = {name: values for name, values in estimates.items() if any(values)}
    if not estimates:
        return []
    sizes = {row.preset: row.cells["trainable_parameters"].mean for row in rows if "trainable_parameters" in row.cells}
    return save(ablation(estimates, sizes, BASE, MEASURES["grounded.total_score"]), folder, "ablation")


def _title(row: PresetRow) -> str:
    if not row.failures:
        return row.preset
    everything = len(row.failures) == max(1, len(row.seeds))
    return f"{row.preset}: failed" + ("" if everything else f" ({', '.join(row.failures)})")


def _seeds(row: PresetRow) -> str:
    return " ".join(map(str, row.seeds)) or "-"


def _cell_text(row: PresetRow, name: str, text: str) -> str:
    cell = row.cells.get(name)
    if cell is None:
        return "-"
    if cell.low is None or cell.high is None:
        nothing = " (no interval)" if cell.over else ""
        return text.format(cell.mean) + nothing + _of_seeds(row, cell)
    mark = "*" if cell.over == "examples" else ""
    return f"{text.format(cell.mean)} ({text.format(cell.low)} to {text.format(cell.high)}){mark}{_of_seeds(row, cell)}"


def _of_seeds(row: PresetRow, cell: Cell) -> str:
    """Says so where not all seeds have the number."""
    return f" [{len(cell.values)} of {len(row.seeds)} seeds]" if len(cell.values) < len(row.seeds) else ""


def _mean(name: str, show: Callable[[float], str]) -> Callable[[PresetRow], str]:
    return lambda row: show(row.cells[name].mean) + _of_seeds(row, row.cells[name]) if name in row.cells else "-"


def _trainable(row: PresetRow) -> str:
    trainable, everything = row.cells.get("trainable_parameters"), row.cells.get("parameters")
    if trainable is None:
        return "-"
    share = f" ({trainable.mean / everything.mean:.2%})" if everything else ""
    return count_text(trainable.mean) + share + _of_seeds(row, trainable)


def _memory(row: PresetRow) -> str:
    cell = row.cells.get("peak_memory_bytes")
    if cell is None:
        return "-"
    return " ".join([f"{max(cell.values) / 1e9:.2f} GB", *row.memory_of]) + _of_seeds(row, cell)


def _validation(key: str, text: str) -> tuple[str, Callable[[PresetRow], str]]:
    return f"{MEASURES[key].name} (validation)", lambda row: _cell_text(row, key, text)


_TRAINING: tuple[tuple[str, Callable[[PresetRow], str]], ...] = (
    ("learning rate", _mean("learning_rate", "{:.3g}".format)),
    ("trainable", _trainable),
    ("steps", _mean("steps", "{:,.0f}".format)),
    ("tokens seen", _mean("tokens_seen", count_text)),
    ("training time", _mean("seconds", duration_text)),
    ("peak memory", _memory),
    _validation("loss", "{:.4f}"),
    _validation("plan_step_f1", "{:.3f}"),
    _validation("grounded_total", "{:.1f}"),
)
