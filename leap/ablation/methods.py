"""Ways to learn on from one checkpoint, compared under one budget of seconds, by a user's own scripts.

The checkpoint itself comes first, then each method with each seed: GRPO, rejection sampling, preferences, and more
supervised training on the same rows, which is what rewards have to beat. All are evaluated alike; differences to the
start are paired tests over the same examples, corrected over all runs.

eval_results/<name>/
    methods.md      the table; its first line names runs whose reward rose while held-out plans got worse
    methods.json    all numbers
    methods.png     held-out success over reward, along each run
    done.json       what was evaluated (leap.ablation.sweep)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.config import REPOSITORY, WorkspaceConfig
from configs.errors import UserError
from leap.ablation.sweep import Sweep, SweepRun
from leap.ablation.table import ModelRecord
from leap.cli import as_plain, parse_knobs
from leap.files import read_json, read_jsonl, sha256_json, write_json, write_text
from leap.models.checkpoints import last_complete_checkpoint
from leap.statistics import Estimate, over_seeds
from leap.text import duration_text, markdown_table
from leap.training.hacking import Trend, hacking, reward_trend
from leap.training.recipes import ReinforcementLoraRecipe, with_tuning
from leap.training.resume import made_from
from leap.vlabench.compare import Difference, compare_all
from leap.vlabench.tables import Overall, overall

METHODS = ("grpo", "rft", "dpo", "sft")
START = "start"
_TITLES = {
    "grpo": "GRPO",
    "rft": "best of n, then supervised (RFT)",
    "dpo": "DPO on right and wrong plans",
    "sft": "more supervised training",
}
_SUCCESS = "plan_success"
_ASKED_FILE = "asked.json"
_DECIDED = ("method", "seed", "output_dir", "max_seconds", "model_name_or_path", "checkpoint", "base_model", "config")


def planned_methods(
    methods: Sequence[str], seeds: Sequence[int], start: Path, max_seconds: float, argv: Sequence[str], output: Path
) -> list[SweepRun]:
    """All trainings, seed by seed; `argv` are flags for each of them. UserError for a wrong one."""
    for word in argv:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name in _DECIDED[:-1]:
            raise UserError(f"{word} after --train_args contradicts the comparison, which decides it; see --help")
    runs = []
    for seed in dict.fromkeys(seeds):
        for method in dict.fromkeys(methods):
            folder = output / f"{method}_seed{seed}"
            words = [*argv, "--method", method, "--seed", str(seed), "--output_dir", str(folder)]
            words += ["--checkpoint", str(start), "--max_seconds", f"{max_seconds:g}"]
            config = REPOSITORY / "configs/training/grpo.yaml"
            recipe = with_tuning(parse_knobs(ReinforcementLoraRecipe, words, "Knobs of a training", recipe=config))
            command = ["bash", str(REPOSITORY / "scripts/training/run-rl.sh"), *words]
            runs.append(SweepRun(method, seed, recipe, command))
    return runs


class MethodSweep(Sweep):
    """A sweep whose trainings stop by the clock: what one was asked for stands beside what it made."""

    @property
    def plan(self) -> str:
        seconds = self.runs[0].recipe.max_seconds or 0.0
        return f"the start, then {len(self.runs)} trainings of {duration_text(seconds)}"

    def finished(self, planned: SweepRun) -> Path | None:
        folder = planned.recipe.output_dir
        path = folder / _ASKED_FILE
        if not path.is_file():
            return None
        if read_json(path) != _question(planned):
            raise UserError(
                f"{folder} was made otherwise. Give this comparison a name of its own with --name, or remove {folder}"
            )
        return last_complete_checkpoint(folder) if (folder / "run.json").is_file() else None

    def train(self, planned: SweepRun, log: Path, lock: int) -> str | None:
        write_json(planned.recipe.output_dir / _ASKED_FILE, _question(planned))
        return super().train(planned, log, lock)


def _question(planned: SweepRun) -> dict[str, Any]:
    """What decides what a training makes."""
    recipe = as_plain(planned.recipe)
    return {"recipe": sha256_json(recipe), "sources": asdict(made_from(planned.recipe))}


@dataclass(frozen=True)
class MethodResult:
    """One run, evaluated: means of plan success, the paired difference to the start, and how its training went."""

    method: str
    seed: int | None
    model: str
    success: Overall
    difference: Difference | None = None  # of the start there is none
    seconds: float | None = None
    trend: Trend | None = None  # of the reward
    hacking: str | None = None
    path: tuple[tuple[float, float], ...] = ()  # (reward in training, held-out plan success of 100) along the run


def results_of(records: Sequence[ModelRecord], results: Path, workspace: WorkspaceConfig) -> list[MethodResult]:
    """What was measured of every model that did not fail, the start first."""
    scored = [(record, record.model) for record in records if not record.failure and record.model]
    names = [model for _, model in scored]
    if not names or scored[0][0].seed is not None:
        raise UserError(f"the start was not evaluated, and without it nothing can be compared: {records[0].failure}")
    metric = f"grounded.{_SUCCESS}"
    comparisons = compare_all(results, names[0], names[1:], [metric]) if len(names) > 1 else []
    differences = {comparison.b: comparison.metrics[metric].micro for comparison in comparisons}
    rows = []
    for record, model in scored:
        success = overall(results, model, "grounded")
        assert success is not None, "it was evaluated"
        log = _log_of(record, workspace)
        rows.append(
            MethodResult(
                START if record.seed is None else record.preset,
                record.seed,
                model,
                success,
                differences.get(model),
                record.numbers.get("seconds"),
                reward_trend(log),
                hacking(log),
                _path_of(log),
            )
        )
    return rows


def _log_of(record: ModelRecord, workspace: WorkspaceConfig) -> list[dict]:
    """The lines of a run's train.jsonl."""
    if record.seed is None or record.checkpoint is None:
        return []
    run = Path(record.checkpoint).parent.relative_to(workspace.output)
    path = workspace.logs / run / "train.jsonl"
    return read_jsonl(path) if path.is_file() else []


def _path_of(log: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, float], ...]:
    """At each validation the reward of the completions up to it (at the start, of the first ones) and plan success."""
    rewards = {line["step"]: float(line["reward"]) for line in log if line.get("reward") is not None}
    key = "eval_grounded_plan_success"
    successes = {line["step"]: float(line[key]) for line in log if key in line}
    if not rewards:
        return ()
    first = rewards[min(rewards)]
    reached = {step: [rewards[logged] for logged in sorted(rewards) if logged <= step] for step in successes}
    return tuple((reached[step][-1] if reached[step] else first, successes[step]) for step in sorted(successes))


def methods_table(rows: Sequence[MethodResult], max_seconds: float) -> str:
    """Warnings first, then a line a run, then means over seeds where there are several."""
    dimensions = list(rows[0].success.dimensions)
    head = ["method", "seed", *dimensions, "all examples (95 %)", "over the start (95 %)", "p (Holm)", "better/worse"]
    lines = [[*_names(row), *_cells(row, dimensions)] for row in rows]
    warnings = [f"{_title(row.method)}, seed {row.seed}: {row.hacking}" for row in rows if row.hacking]
    training = [["method", "seed", "training time", "reward at first", "reward at last"]]
    for row in rows[1:]:
        rewards = (f"{row.trend.begin:.3f}", f"{row.trend.end:.3f}") if row.trend else ("-", "-")
        training.append([*_names(row), duration_text(row.seconds) if row.seconds is not None else "-", *rewards])
    parts = [
        *warnings,
        "Whole plans right on held-out examples, of 100 (grounded). Each method had "
        f"{duration_text(max_seconds)} of training, its completions included, from the same checkpoint.",
        markdown_table([head, *lines]),
        markdown_table(training),
    ]
    if means := _over_seeds(rows):
        parts.append(markdown_table([["method", "seeds", "all examples, mean over seeds (95 %, Student t)"], *means]))
    return "\n\n".join(parts) + "\n"


def _names(row: MethodResult) -> list[str]:
    return [_title(row.method), "-" if row.seed is None else str(row.seed)]


def _title(method: str) -> str:
    return _TITLES.get(method, method)


def _cells(row: MethodResult, dimensions: Sequence[str]) -> list[str]:
    means = [row.success.dimensions.get(name, {}).get(_SUCCESS) for name in dimensions]
    cells = [f"{mean.mean:.1f}" if mean else "-" for mean in means] + [row.success.micro[_SUCCESS].text()]
    if row.difference is None:
        return [*cells, "-", "-", "-"]
    d = row.difference
    return [*cells, _signed(d.difference), f"{d.p_holm:.2g}", f"{d.better}/{d.worse}"]


def _signed(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:+.1f}"
    return f"{estimate.mean:+.1f} ({estimate.low:+.1f} to {estimate.high:+.1f})"


def _over_seeds(rows: Sequence[MethodResult]) -> list[list[str]]:
    means = []
    for method in dict.fromkeys(row.method for row in rows if row.seed is not None):
        values = [row.success.micro[_SUCCESS].mean for row in rows if row.method == method]
        if len(values) > 1:
            means.append([_title(method), str(len(values)), over_seeds(values).text()])
    return means


def write_methods(rows: Sequence[MethodResult], max_seconds: float, folder: Path) -> tuple[str, list[Path]]:
    """Write table, numbers and figure; returns the table and what was written."""
    from leap.plots.style import save
    from leap.plots.training import reward_against_success

    table = methods_table(rows, max_seconds)
    paths = [folder / "methods.md", folder / "methods.json"]
    write_text(paths[0], table)
    write_json(paths[1], {"max_seconds": max_seconds, "rows": [asdict(row) for row in rows]})
    paths_by_run = {f"{_title(row.method)}, seed {row.seed}": row.path for row in rows if row.path}
    if paths_by_run:
        paths += save(reward_against_success(paths_by_run), folder, "methods")
    return table, paths
