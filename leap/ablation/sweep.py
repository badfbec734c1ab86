"""The ablation sweep: presets by seeds, each trained under one budget, evaluated and measured, by a user's own scripts.

Nothing is repeated that its own files show to be done: a training by the manifest of its last checkpoint, an evaluation
by eva_results/<sweep>/done.json, which holds for each model what was asked and the hashes of the summaries it led to:

    {"light_seed42-checkpoint-2000": {"asked": "<sha256>", "summaries": {"M&T": "<sha256>", ...}}}
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from configs.config import DIMENSIONS, REPOSITORY, WorkspaceConfig, dimensions_named
from configs.errors import UserError
from leap.ablation.table import BASE, ModelRecord, measure_run, measure_scores
from leap.cli import as_plain, parse_knobs
from leap.files import read_json, sha256_file, sha256_json, write_json
from leap.models.checkpoints import best_checkpoint, kind_of, last_complete_checkpoint, read_manifest, weights_sha256
from leap.models.names import BASE_NAME, result_name
from leap.progress import Progress, say
from leap.runs.child import only_one, run_logged
from leap.runs.command_queue import SECONDS_TO_SAVE
from leap.runs.jobs import JobKnobs, run_jobs
from leap.runs.workers import Failure
from leap.training.recipes import LoraRecipe, TrainingRecipe
from leap.training.resume import Sources, changes, made_from
from leap.training.start import require_inputs
from leap.vlabench.examples import find_examples
from leap.vlabench.folder import SUMMARY_FILE
from leap.vlabench.options import EvaluationOptions, name_suffix
from leap.vlabench.prompts import PromptWriter

FULL = "fullft"  # the "preset" of full fine-tuning
DEFAULT_NAME = "ablation"
# The original's script, which trained what it published; its README says 5,000. 7,000 steps of 36 rows are 1.7 passes.
DEFAULT_STEPS = 7000
_LORA = REPOSITORY / "configs/lora"

_OF_JOBS = ("list_jobs", "cluster", *(field.name for field in fields(JobKnobs)))
# Decided by the sweep itself, so not to be given to a training or an evaluation besides.
_DECIDED_BY_SWEEP = {
    "--train_args": ("config", "preset", "lora_preset", "seed", "max_steps", "output_dir", *_OF_JOBS),
    "--eval_args": (
        *_OF_JOBS,
        *("checkpoint", "model_path", "all_checkpoints", "batch_mode", "base_model", "baseline_model", "planner"),
        *("output_dir", "results", "suffix"),
    ),
}
# Of an evaluation: how and where it runs, not what comes out.
_EXECUTION_ONLY = (
    "checkpoint",
    "checkpoints_dir",
    "max_checkpoints",
    "skip_baseline",
    "base_model",
    "data_path",
    "batch_size",
    "reuse_prefix",
    "workers",
    "device",
    "output_dir",
    "retry_failed",
    "overwrite",
    *_OF_JOBS,
)


@dataclass(frozen=True)
class SweepRun:
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
    marker = ""
    for word in argv:
        if word.replace("-args", "_args") in _DECIDED_BY_SWEEP:
            marker = word.replace("-args", "_args")
        else:
            parts[marker].append(word)
    for marker, names in _DECIDED_BY_SWEEP.items():
        for word in parts[marker]:
            name = word.partition("=")[0].removeprefix("--").replace("-", "_")
            if word.startswith("--") and name in names:
                raise UserError(f"{word} after {marker} contradicts the sweep, which decides it; see --help")
    return parts[""], parts["--train_args"], parts["--eval_args"]


def planned_runs(
    presets: Sequence[str], seeds: Sequence[int], max_steps: int | None, argv: Sequence[str], output: Path
) -> list[SweepRun]:
    """All trainings, seed by seed. `argv` are flags for each of them; without `max_steps` their recipe's count.

    The warm-up, made for DEFAULT_STEPS, is shortened in proportion unless `argv` names it or a recipe. UserError for a
    flag or value that one of them does not take.
    """
    runs = []
    for seed in dict.fromkeys(seeds):
        for preset in dict.fromkeys(presets):
            words = [*argv, "--seed", str(seed), "--output_dir", str(output / f"{preset}_seed{seed}")]
            steps = max_steps or _recipe(preset, words).max_steps
            steps = steps if steps > 0 else DEFAULT_STEPS
            words += ["--max_steps", str(steps)]
            named = {word.partition("=")[0].replace("-", "_") for word in argv}
            if steps < DEFAULT_STEPS and not named & {"__warmup_steps", "__config"}:
                words += ["--warmup_steps", str(_recipe(preset, words).warmup_steps * steps // DEFAULT_STEPS)]
            runs.append(SweepRun(preset, seed, _recipe(preset, words), [*_training_script(preset), *words]))
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


def check_inputs(runs: Sequence[SweepRun], workspace: WorkspaceConfig, *, best: bool) -> None:
    """UserError if a file that the trainings read is missing, or a run's folder holds another recipe's checkpoints."""
    for recipe in (run.recipe for run in runs):
        require_inputs(recipe, workspace)
        if best and not recipe.val_file:
            raise UserError("--evaluate best needs validation scores: name validation rows with --val_file")
    for run in runs:
        finished_checkpoint(run)


def finished_checkpoint(run: SweepRun) -> Path | None:
    """The last checkpoint of a training that has done all its steps, or None. UserError if it was made otherwise."""
    last = last_complete_checkpoint(run.recipe.output_dir)
    manifest = read_manifest(last) if last else None
    if last is None or manifest is None:
        return None
    # A training turns bf16 off where there is no GPU that has it.
    differences = changes(manifest, run.recipe, _sources_of(run.recipe), besides="bf16")
    if differences and not run.recipe.allow_changes:
        raise UserError(
            f"{last} was made otherwise ({'; '.join(differences)}). Give this sweep a name of its own with --name, or "
            f"remove {run.recipe.output_dir}"
        )
    return last if manifest.steps >= run.recipe.max_steps else None


def checkpoint_to_evaluate(run: SweepRun, which: str) -> Path:
    """The last checkpoint, or the `best` by the recipe's metric. UserError if there is none."""
    folder = run.recipe.output_dir
    best = which == "best"
    checkpoint = best_checkpoint(folder, run.recipe.best_metric) if best else last_complete_checkpoint(folder)
    if checkpoint is None:
        raise UserError(f"{folder} has no {which} checkpoint to evaluate")
    return checkpoint


class Evaluations:
    """The evaluations of a sweep, all under the same settings, and which of them are done."""

    def __init__(self, argv: Sequence[str], runs: Sequence[SweepRun], workspace: WorkspaceConfig, name: str) -> None:
        """`argv` are flags for each evaluation. UserError for a wrong one, or a benchmark that is not whole."""
        self._argv, self._name = list(argv), name
        self._base = runs[0].recipe.model_name_or_path
        self._output = workspace.output
        self._options = parse_knobs(EvaluationOptions, self._argv, "Knobs of an evaluation")
        # The base sees pictures as the trained models do, not at its processor's own larger budget.
        budgets = {(run.recipe.image_tokens_min, run.recipe.image_tokens_max) for run in runs}
        self._base_flags = []
        if self._options.image_tokens_min is None and len(budgets) == 1:
            [(fewest, most)] = budgets
            self._base_flags = ["--image_tokens_min", str(fewest), "--image_tokens_max", str(most)]
        self.results = self._options.output_dir
        self.folder = self.results / name
        self.dimensions = dimensions_named(self._options.dimension)
        self._fingerprint = self._answers_depend_on(workspace)

    def _answers_depend_on(self, workspace: WorkspaceConfig) -> dict[str, Any]:
        """Settings, words and examples: what an answer depends on besides the weights."""
        o = self._options
        workspace.require(o.data_path, "benchmark")
        everything = find_examples(o.data_path, self.dimensions)
        selected = find_examples(o.data_path, self.dimensions, o.tasks, o.max_tasks, o.num_episodes)
        needed = everything if o.few_shot_num else selected  # any example may be a shot
        examples = [example for per_dimension in needed.values() for example in per_dimension]
        with Progress("checking examples", len(examples), "example") as progress:
            for example in examples:
                example.sha256()  # before hours of training, not after them
                progress.advance()
        self.dimensions = list(selected)
        pool = everything[self.dimensions[0]]
        writer = PromptWriter(workspace, o.prompt, o.language, o.few_shot_num, o.with_cot, pool=pool, seed=o.seed)
        return {
            "options": {key: value for key, value in as_plain(o).items() if key not in _EXECUTION_ONLY},
            "prompt": writer.fingerprint(),
            "examples": sha256_json([example.sha256() for example in examples]),
        }

    @property
    def base(self) -> Path:
        return self._base

    def model_name(self, folder: Path) -> str:
        """The name that a model gets in results: with the sweep's own for the base, and unless that is the default."""
        options = replace(self._options, suffix=self._suffix(folder))
        return (BASE_NAME if folder == self._base else result_name(folder, self._output)) + name_suffix(options)

    def _suffix(self, folder: Path) -> str:
        return self._name if folder == self._base or self._name != DEFAULT_NAME else ""

    def command(self, folder: Path) -> list[str]:
        suffix = self._suffix(folder)
        return [
            *(sys.executable, str(REPOSITORY / "scripts/evaluation/run_vlm_evaluation.py")),
            *("--checkpoint", str(folder), "--base_model", str(self._base)),
            *(["--suffix", suffix] if suffix else []),
            *(self._base_flags if folder == self._base else []),
            *self._argv,
        ]

    def is_done(self, folder: Path) -> bool:
        """Whether these very weights were evaluated under these settings, and nothing touched the results since."""
        return self._entries().get(self.model_name(folder)) == self._entry(folder)

    def note_done(self, folder: Path) -> None:
        write_json(self.folder / "done.json", self._entries() | {self.model_name(folder): self._entry(folder)})

    def _entries(self) -> dict[str, Any]:
        path = self.folder / "done.json"
        return read_json(path) if path.is_file() else {}

    def _entry(self, folder: Path) -> dict[str, Any]:
        weights = [weights_sha256(folder), _weights_sha256(self._base) if kind_of(folder) == "adapter" else None]
        name = self.model_name(folder)
        paths = {dimension: self.results / dimension / name / SUMMARY_FILE for dimension in self.dimensions}
        question = [weights, self._fingerprint, self._base_flags if folder == self._base else []]
        return {
            "asked": sha256_json(question),
            "summaries": {dimension: sha256_file(path) for dimension, path in paths.items() if path.is_file()},
        }


@dataclass(frozen=True)
class SweepJob:
    """A model of a sweep: the base, or what a training makes."""

    planned: SweepRun | None

    @property
    def name(self) -> str:
        return self.planned.name if self.planned else "base"


class Sweep:
    """Trains, evaluates and measures models, and nothing twice: one after another with all GPUs of this machine, or as
    jobs. What fails is part of its record; the others go on."""

    def __init__(self, runs: Sequence[SweepRun], evaluations: Evaluations, which: str, logs: Path) -> None:
        """`which` checkpoint of a training is evaluated: "last" or "best"."""
        self.runs, self.evaluations, self.which, self.logs = runs, evaluations, which, logs
        self._show = True

    @property
    def plan(self) -> str:
        """What will be done, in words."""
        return f"base model, then {len(self.runs)} trainings of {self.runs[0].recipe.max_steps} steps"

    def run(self, knobs: JobKnobs) -> list[ModelRecord]:
        """The record of the base model, then of every training."""
        jobs = [SweepJob(None), *map(SweepJob, self.runs)]
        records = {}
        with only_one(self.logs / "sweep.lock") as lock:
            say(f"== {self.plan}")
            for job, record in self._as_jobs(jobs, knobs) if knobs.as_jobs else self._in_turn(jobs, lock):
                if not record.failure:
                    self.evaluations.note_done(Path(str(record.checkpoint)))
                records[job.name] = record
        return [records[job.name] for job in jobs]

    def _in_turn(self, jobs: Sequence[SweepJob], lock: int) -> Iterator[tuple[SweepJob, ModelRecord]]:
        for number, job in enumerate(jobs):
            if number:
                say(f"== {number}/{len(self.runs)} {job.name}")
            yield job, self._record(job, lock)

    def _as_jobs(self, jobs: Sequence[SweepJob], knobs: JobKnobs) -> Iterator[tuple[SweepJob, ModelRecord]]:
        self._show = False
        for job, result in run_jobs(self.record, jobs, knobs, self.logs / f"{self.logs.name}-jobs", SECONDS_TO_SAVE):
            if isinstance(result, Failure):
                result = replace(self._begun(job), failure=result.reason)
            say(f"== {job.name}: {'failed' if result.failure else 'done'}")
            yield job, result

    def record(self, job: SweepJob) -> ModelRecord:
        """Have a model trained where it is to be, and evaluated, unless it is; by one process at a time."""
        with only_one(self.logs / f"{job.name}.lock", SECONDS_TO_SAVE) as lock:
            return self._record(job, lock)

    def _begun(self, job: SweepJob) -> ModelRecord:
        if job.planned:
            return ModelRecord(job.planned.preset, job.planned.seed)
        base = self.evaluations.base
        return ModelRecord(BASE, checkpoint=str(base), model=self.evaluations.model_name(base))

    def _record(self, job: SweepJob, lock: int) -> ModelRecord:
        record, log = self._begun(job), self.logs / f"{job.name}.log"
        if job.planned is None:
            return self._evaluated(record, self.evaluations.base, log, lock)
        try:
            if last := self.finished(job.planned):
                say(f"trained already: {last}")
            elif failure := self.train(job.planned, log, lock):
                return replace(record, failure=failure)
            checkpoint = checkpoint_to_evaluate(job.planned, self.which)
            record = replace(
                record,
                checkpoint=str(checkpoint),
                model=self.evaluations.model_name(checkpoint),
                **measure_run(job.planned.recipe.output_dir, checkpoint),
            )
            return self._evaluated(record, checkpoint, log, lock)
        except UserError as error:
            return replace(record, failure=str(error))

    def finished(self, planned: SweepRun) -> Path | None:
        """The last checkpoint of a training that is done, or None. UserError if it was made otherwise."""
        return finished_checkpoint(planned)

    def train(self, planned: SweepRun, log: Path, lock: int) -> str | None:
        """How a training failed, or None."""
        failure = self._command_failure("training", planned.command, log, lock)
        if failure or self.finished(planned):
            return failure
        return f"training ended before its last step; log: {log}"

    def _evaluated(self, record: ModelRecord, folder: Path, log: Path, lock: int) -> ModelRecord:
        if self.evaluations.is_done(folder):
            say(f"evaluated already: {record.model}")
        elif failure := self._command_failure("evaluation", self.evaluations.command(folder), log, lock):
            return replace(record, failure=failure)
        assert record.model is not None
        return replace(record, **measure_scores(self.evaluations.results, record.model))

    def _command_failure(self, what: str, command: list[str], log: Path, lock: int) -> str | None:
        """Run a command; how it failed, or None."""
        ended = run_logged(command, log, lock, show=self._show)
        return None if ended.status == 0 else f"{what} ended with {ended.text(log)}"


def check_name(name: str) -> None:
    """UserError unless a comparison of this name gets a folder of its own in output/, logs/ and eva_results/."""
    if Path(name).name != name or name in ("", "..", "figures", *DIMENSIONS):
        raise UserError(f"--name {name!r} must be the name of a folder of its own, as in ablation2")


def say_failures(records: Sequence[ModelRecord]) -> int:
    """Name what failed on stderr; the exit status."""
    failed = [record for record in records if record.failure]
    for record in failed:
        name = record.preset if record.seed is None else f"{record.preset}_seed{record.seed}"
        say(f"\n{name} failed: {record.failure}", file=sys.stderr)
    if failed:
        say("\nthe same command tries what failed again, and nothing else", file=sys.stderr)
    return 1 if failed else 0


def flags(values: Mapping[str, Any]) -> list[str]:
    """Those values that are given, as flags of a script."""
    return [word for name, value in values.items() if value is not None for word in (f"--{name}", str(value))]


def _sources_of(recipe: TrainingRecipe) -> Sources:
    """What a recipe trains from, by content; hashed once, though many runs share it."""
    return _sources(recipe.model_name_or_path, recipe.train_file, recipe.val_file, streaming=recipe.streaming)


@cache
def _sources(base: Path, train_file: Path, val_file: Path | None, *, streaming: bool) -> Sources:
    steps = 1 if streaming else -1  # streaming wants a count of them
    return made_from(
        TrainingRecipe(
            model_name_or_path=base, train_file=train_file, val_file=val_file, streaming=streaming, max_steps=steps
        )
    )


@cache
def _weights_sha256(folder: Path) -> str:
    return weights_sha256(folder)
