"""The ablation sweep: presets by seeds, each trained under one budget and evaluated, by the scripts a user would run.

Nothing is repeated that its own files show to be done: a training by the manifest of its last checkpoint, an evaluation
by eva_results/<sweep>/done.json, which holds for each model what was asked and the hashes of the summaries it led to:

    {"light_seed42-checkpoint-2000": {"asked": "<sha256>", "summaries": {"M&T": "<sha256>", ...}}}
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from configs.config import REPOSITORY, WorkspaceConfig, dimensions_named
from configs.errors import UserError
from leap.cli import as_plain, parse_knobs
from leap.files import read_json, sha256_file, sha256_json, write_json
from leap.models.checkpoints import best_checkpoint, kind_of, last_complete_checkpoint, read_manifest, weights_sha256
from leap.models.names import BASE_NAME, result_name
from leap.progress import Progress
from leap.training.recipes import LoraRecipe, TrainingRecipe
from leap.training.resume import changes, made_from, require_inputs
from leap.vlabench.examples import find_examples
from leap.vlabench.options import EvaluationOptions, name_suffix
from leap.vlabench.prompts import PromptWriter

FULL = "fullft"  # the "preset" of full fine-tuning
DEFAULT_NAME = "ablation"
DEFAULT_STEPS = 2000
_LORA = REPOSITORY / "configs/lora"

# Decided by the sweep itself, so not to be given to a training or an evaluation besides.
_SWEEPS_OWN = {
    "--train_args": ("config", "preset", "seed", "max_steps", "output_dir"),
    "--eval_args": (
        *("checkpoint", "model_path", "all_checkpoints", "batch_mode", "base_model", "baseline_model", "planner"),
        *("output_dir", "suffix"),
    ),
}
# Of an evaluation: how and where it runs, not what comes out.
_NOT_ASKED = (
    "checkpoint",
    "base_model",
    "data_path",
    "batch_size",
    "reuse_prefix",
    "workers",
    "device",
    "output_dir",
    "retry_failed",
    "overwrite",
)


@dataclass(frozen=True)
class Run:
    """One training of a sweep: its resolved recipe, and the command that does it."""

    preset: str
    seed: int
    recipe: TrainingRecipe
    command: list[str]

    @property
    def name(self) -> str:
        return self.recipe.output_dir.name


def preset_names() -> tuple[str, ...]:
    """What a sweep can compare: the LoRA presets, and full fine-tuning."""
    return (*sorted(path.stem for path in _LORA.glob("*.yaml")), FULL)


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """A command line as (the sweep's own, what follows --train_args, what follows --eval_args)."""
    parts: dict[str, list[str]] = {"": [], "--train_args": [], "--eval_args": []}
    here = ""
    for word in argv:
        if word.replace("-args", "_args") in _SWEEPS_OWN:
            here = word.replace("-args", "_args")
        else:
            parts[here].append(word)
    for marker, names in _SWEEPS_OWN.items():
        for word in parts[marker]:
            name = word.partition("=")[0].removeprefix("--").replace("-", "_")
            if word.startswith("--") and name in names:
                raise UserError(f"{word} after {marker} contradicts the sweep, which decides it; see --help")
    return parts[""], parts["--train_args"], parts["--eval_args"]


def planned_runs(
    presets: Sequence[str], seeds: Sequence[int], max_steps: int | None, argv: Sequence[str], output: Path
) -> list[Run]:
    """All trainings, seed by seed. `argv` are flags for each of them; without `max_steps` their recipe's count.

    UserError for a flag or value that one of them does not take.
    """
    runs = []
    for seed in dict.fromkeys(seeds):
        for preset in dict.fromkeys(presets):
            given = [*argv, "--seed", str(seed), "--output_dir", str(output / f"{preset}_seed{seed}")]
            steps = max_steps or _recipe(preset, given).max_steps
            given += ["--max_steps", str(steps if steps > 0 else DEFAULT_STEPS)]
            runs.append(Run(preset, seed, _recipe(preset, given), [*_training_script(preset), *given]))
    return runs


def _training_script(preset: str) -> list[str]:
    if preset == FULL:
        return ["bash", str(REPOSITORY / "scripts/training/run-training.sh")]
    return ["bash", str(REPOSITORY / "scripts/ablation/run-lora-training.sh"), "--preset", preset]


def _recipe(preset: str, argv: Sequence[str]) -> TrainingRecipe:
    purpose = "Knobs of a training"
    try:
        if preset == FULL:
            return parse_knobs(TrainingRecipe, list(argv), purpose, recipe=REPOSITORY / "configs/training/full.yaml")
        return parse_knobs(LoraRecipe, ["--preset", preset, *argv], purpose, preset=_LORA / "standard.yaml")
    except UserError as error:
        raise UserError(f"preset {preset}: {error}") from error


def check_inputs(runs: Sequence[Run], workspace: WorkspaceConfig, best: bool) -> None:
    """UserError if a file that the trainings read is missing, or a run's folder holds another recipe's checkpoints."""
    for recipe in (run.recipe for run in runs):
        require_inputs(recipe, workspace)
        if best and not recipe.val_file:
            raise UserError("--evaluate best needs validation scores: name validation rows with --val_file")
    for run in runs:
        finished_checkpoint(run)


def finished_checkpoint(run: Run) -> Path | None:
    """The last checkpoint of a training that has done all its steps, or None. UserError if it was made otherwise."""
    last = last_complete_checkpoint(run.recipe.output_dir)
    manifest = read_manifest(last) if last else None
    if last is None or manifest is None:
        return None
    # A training turns bf16 off where there is no GPU that has it.
    found = changes(manifest, run.recipe, _sources_of(run.recipe), besides="bf16")
    if found and not run.recipe.allow_changes:
        raise UserError(
            f"{last} was made otherwise ({'; '.join(found)}). Give this sweep a name of its own with --name, or "
            f"remove {run.recipe.output_dir}"
        )
    return last if manifest.steps >= run.recipe.max_steps else None


def checkpoint_to_evaluate(run: Run, which: str) -> Path:
    """The last checkpoint, or the `best` by the recipe's metric. UserError if there is none."""
    folder = run.recipe.output_dir
    found = best_checkpoint(folder, run.recipe.best_metric) if which == "best" else last_complete_checkpoint(folder)
    if found is None:
        raise UserError(f"{folder} has no {which} checkpoint to evaluate")
    return found


class Evaluations:
    """The evaluations of a sweep, all under the same settings, and which of them are done."""

    def __init__(self, argv: Sequence[str], runs: Sequence[Run], workspace: WorkspaceConfig, name: str) -> None:
        """`argv` are flags for each evaluation. UserError for a wrong one, or a benchmark that is not whole."""
        self._argv, self._name = list(argv), name
        self._base = runs[0].recipe.model_name_or_path
        self._output = workspace.output
        self._options = parse_knobs(EvaluationOptions, self._argv, "Knobs of an evaluation")
        # The base sees pictures as the trained models do, not at its processor's own larger budget.
        budgets = {(run.recipe.image_tokens_min, run.recipe.image_tokens_max) for run in runs}
        self._of_base = []
        if self._options.image_tokens_min is None and len(budgets) == 1:
            [(fewest, most)] = budgets
            self._of_base = ["--image_tokens_min", str(fewest), "--image_tokens_max", str(most)]
        self.results = self._options.output_dir
        self.folder = self.results / name
        self.dimensions = dimensions_named(self._options.dimension)
        self._asked = self._what_is_asked(workspace)

    def _what_is_asked(self, workspace: WorkspaceConfig) -> dict[str, Any]:
        """Settings, words and examples: what an answer depends on besides the weights."""
        o = self._options
        workspace.require(o.data_path, "benchmark")
        everything = find_examples(o.data_path, self.dimensions)
        selected = find_examples(o.data_path, self.dimensions, o.tasks, o.max_tasks, o.num_episodes)
        shown = everything if o.few_shot_num else selected  # any example may be a shot
        examples = [example for found in shown.values() for example in found]
        with Progress("checking examples", len(examples), "example") as progress:
            for example in examples:
                example.sha256()  # before hours of training, not after them
                progress.advance()
        self.dimensions = list(selected)
        pool = everything[self.dimensions[0]]
        writer = PromptWriter(workspace, o.prompt, o.language, o.few_shot_num, o.with_cot, pool=pool, seed=o.seed)
        return {
            "options": {key: value for key, value in as_plain(o).items() if key not in _NOT_ASKED},
            "prompt": writer.fingerprint(),
            "examples": sha256_json([example.sha256() for example in examples]),
        }

    @property
    def base(self) -> Path:
        return self._base

    def model_name(self, folder: Path) -> str:
        """The name that a model gets in results: with the sweep's own for the base, and unless that is the default."""
        options = dataclasses.replace(self._options, suffix=self._suffix(folder))
        return (BASE_NAME if folder == self._base else result_name(folder, self._output)) + name_suffix(options)

    def _suffix(self, folder: Path) -> str:
        return self._name if folder == self._base or self._name != DEFAULT_NAME else ""

    def command(self, folder: Path) -> list[str]:
        suffix = self._suffix(folder)
        return [
            *(sys.executable, str(REPOSITORY / "scripts/evaluation/run_vlm_evaluation.py")),
            *("--checkpoint", str(folder), "--base_model", str(self._base)),
            *(["--suffix", suffix] if suffix else []),
            *(self._of_base if folder == self._base else []),
            *self._argv,
        ]

    def is_done(self, folder: Path) -> bool:
        """Whether these very weights were evaluated under these settings, and nothing touched the results since."""
        known = self._done().get(self.model_name(folder))
        return known is not None and known == self._entry(folder)

    def note_done(self, folder: Path) -> None:
        write_json(self.folder / "done.json", self._done() | {self.model_name(folder): self._entry(folder)})

    def _done(self) -> dict[str, Any]:
        path = self.folder / "done.json"
        return read_json(path) if path.is_file() else {}

    def _entry(self, folder: Path) -> dict[str, Any]:
        weights = [weights_sha256(folder), _weights_sha256(self._base) if kind_of(folder) == "adapter" else None]
        name = self.model_name(folder)
        paths = {dimension: self.results / dimension / name / "summary.json" for dimension in self.dimensions}
        asked = [weights, self._asked, self._of_base if folder == self._base else []]
        return {
            "asked": sha256_json(asked),
            "summaries": {dimension: sha256_file(path) for dimension, path in paths.items() if path.is_file()},
        }


def flags(values: Mapping[str, Any]) -> list[str]:
    """Those values that are given, as flags of a script."""
    return [word for name, value in values.items() if value is not None for word in (f"--{name}", str(value))]


def _sources_of(recipe: TrainingRecipe) -> dict[str, str]:
    """What a recipe trains from, by content; hashed once, though many runs share it."""
    return _sources(recipe.model_name_or_path, recipe.train_file, recipe.val_file)


@cache
def _sources(base: Path, train_file: Path, val_file: Path | None) -> dict[str, str]:
    return made_from(TrainingRecipe(model_name_or_path=base, train_file=train_file, val_file=val_file))


@cache
def _weights_sha256(folder: Path) -> str:
    return weights_sha256(folder)
