"""Send what an evaluation came to to TensorBoard or Weights & Biases: the table, the settings, every mean.

A model is a run of its own, named as in results. Its means stand at its optimiser step (0 if it is no checkpoint), so
that the checkpoints of a training make a curve: "<scorer>/<metric>/<dimension, macro or micro>", in points.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from configs.errors import UserError
from leap.models.names import curve_and_step
from leap.plans.scoring import METRICS
from leap.statistics import Estimate
from leap.vlabench.tables import overall, results_table


def require_trackers(trackers: Collection[str]) -> None:
    """UserError if the package of one is not installed."""
    for package in trackers:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--report_to {package} needs the package {package}: pip install {package}")


def track(
    trackers: Collection[str], results: Path, models: Sequence[str], settings: Mapping[str, Any], logs: Path
) -> None:
    """Send the scores that `models` have in `results`, and the `settings` of the evaluation, which are plain values.

    TensorBoard's files go to `logs`/evaluation/<model>; those of W&B to `logs`/wandb, and from there to the server that
    its own environment variables name, or to none (WANDB_MODE=offline).
    """
    table = results_table(results, models)
    for model in models:
        means = model_means(results, model)
        step = (curve_and_step(model) or (None, 0))[1]
        if "tensorboard" in trackers:
            _write_tensorboard(logs / "evaluation" / model, means, step, table, settings)
        if "wandb" in trackers:
            _log_to_wandb(model, means, step, settings, logs)


def model_means(results: Path, model: str) -> dict[str, Estimate]:
    """Every mean of a model by its tag; a mean over dimensions only where all six are there."""
    means: dict[str, Estimate] = {}
    for scorer in METRICS:
        if scores := overall(results, model, scorer):
            scopes = {
                **scores.dimensions,
                **({"macro": scores.macro, "micro": scores.micro} if scores.complete else {}),
            }
            means |= {
                f"{scorer}/{metric}/{scope}": estimate
                for scope, metrics in scopes.items()
                for metric, estimate in metrics.items()
            }
    return means


def _write_tensorboard(
    folder: Path, means: Mapping[str, Estimate], step: int, table: str, settings: Mapping[str, Any]
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for tag, estimate in means.items():
            writer.add_scalar(tag, estimate.mean, step)
        writer.add_text("results", table, step)
        text = yaml.safe_dump(dict(settings), sort_keys=False).replace("\n", "\n    ")  # a code block in Markdown
        writer.add_text("settings", f"    {text}", step)


def _log_to_wandb(
    model: str, means: Mapping[str, Estimate], step: int, settings: Mapping[str, Any], logs: Path
) -> None:
    import wandb

    logs.mkdir(parents=True, exist_ok=True)
    project = os.environ.get("WANDB_PROJECT", "huggingface")  # where the Trainer sends the training
    rows = [[*tag.split("/"), estimate.mean, estimate.low, estimate.high] for tag, estimate in means.items()]
    table = wandb.Table(columns=["scorer", "metric", "dimension", "mean", "low", "high"], data=rows)
    config = {"leap": {**settings, "model": model}}
    with wandb.init(project=project, name=model, job_type="evaluation", config=config, dir=str(logs)) as run:
        run.log({tag: estimate.mean for tag, estimate in means.items()} | {"results": table}, step=step)
