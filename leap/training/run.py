"""A training run from recipe to last checkpoint: check, plan the batches, build the trainer, run or resume.

Rows are checked before the model loads; the same command resumes from the last complete checkpoint; what would mix two
runs is refused.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.utils.data import Dataset
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import as_plain
from leap.files import Journal, only_writer, read_json, sha256_json, write_json, write_text
from leap.models.attention import kernel_for_packs
from leap.models.checkpoints import (
    Manifest,
    best_checkpoint,
    finish_removals,
    last_complete_checkpoint,
    read_manifest,
    step_of,
)
from leap.models.families import family_in
from leap.models.generation import end_tokens
from leap.models.image_budget import bound_where_possible, pixel_budget
from leap.models.loading import generation_settings, load_processor, load_weights
from leap.plots.style import save
from leap.progress import say
from leap.provenance import code_revision, hardware, library_versions
from leap.publish.model_card import write_model_card
from leap.rows.records import PlanningRow
from leap.rows.sources import sources_in
from leap.runs.status import Status
from leap.text import size_text
from leap.training.accounting import Geometry
from leap.training.adapters import adapter_coverage, attach, load_base_in_4bit
from leap.training.arguments import LONGEST_WAIT, run_name_of, supervised_arguments
from leap.training.batching import (
    InOrder,
    PackBatches,
    RankBatches,
    RowBatches,
    describe_plan,
    plan_batches,
    total_steps,
)
from leap.training.callbacks import (
    KeepStatus,
    LeaveCard,
    RecipeIntervals,
    SaveOnTerminate,
    ShowProgress,
    StopAfter,
    TrackRecipe,
    TrainLog,
)
from leap.training.checkpointed import CheckpointedTrainer
from leap.training.compiling import compile_layers, compiler_problem
from leap.training.meter import Meter
from leap.training.packing import Packer
from leap.training.parts import freeze
from leap.training.preflight import FileCheck, check_file, joined, refuse_same_ids, refuse_tested, write_rejected
from leap.training.recipes import LoraRecipe, TrainingRecipe
from leap.training.resources import (
    DiskNeed,
    LargestStep,
    describe_memory,
    fitted_to_gpu,
    flops_counter,
    geometry_of,
    gpu_bytes,
    largest_step,
    peak_of_devices,
)
from leap.training.resume import Sources, checkpoint_to_resume, made_from, precision_of_run
from leap.training.streaming import StreamedBatches, StreamedRows
from leap.training.supervision import PlanningCollator
from leap.training.trainer import PlanningDataset, PlanningTrainer
from leap.training.turns import refuse_endless
from leap.training.watching import WatchSources

_T = TypeVar("_T")
_Recipe = TypeVar("_Recipe", bound=TrainingRecipe)
_MOST_DEFECTS = 20  # lines on the terminal
_SUMMARY_SCORES = (
    "loss",
    "reward",
    "plan_format_validity",
    "plan_step_f1",
    "grounded_total",
    "grounded_plan_success",
    "other_exact_match",
)
_WORTH_COMPILING = 500  # forward passes; compiling took 40 s on one H200, and saved 0.2 s a pass


@dataclass(frozen=True)
class _RunData:
    """The checked rows of a run, and the batches that they meet in. Streamed rows are checked as they come."""

    collator: PlanningCollator
    training: FileCheck | None
    validation: FileCheck | None
    plan: RowBatches | PackBatches | None  # of all devices together
    batches: RankBatches | StreamedBatches  # those of this device
    validation_batches: RankBatches | None

    @property
    def rows(self) -> Dataset:
        return PlanningDataset(self.training.rows) if self.training else StreamedRows(len(self.batches))

    @property
    def has_pictures(self) -> bool:
        return self.training is None or bool(self.training.lengths.visual.any())


def train(recipe: TrainingRecipe, workspace: WorkspaceConfig) -> Path:
    """Run (or resume) full fine-tuning, or LoRA for a LoraRecipe, and return the last checkpoint.

    Under torchrun or `accelerate launch` every process calls this. The recipe has passed
    leap.training.start.check_inputs. UserError for anything else that the user can mend.
    """
    with run_folder(recipe) as processes:
        return _train(precision_of_run(fit_to_device(recipe)), workspace, processes)


@contextmanager
def run_folder(recipe: TrainingRecipe) -> Iterator[PartialState]:
    """The processes of a run, while its output folder is theirs alone."""
    processes = PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)
    # Before anything is written: a second run must not change the recipe or the checkpoints of the first.
    with only_writer(recipe.output_dir) if processes.is_main_process else nullcontext():
        if processes.is_main_process:
            finish_removals(recipe.output_dir)
        yield processes
    if processes.num_processes > 1:  # a process that goes while its group's threads still run may end in an abort
        processes.wait_for_everyone()
        processes.destroy_process_group()


def _train(recipe: TrainingRecipe, workspace: WorkspaceConfig, processes: PartialState) -> Path:
    """The run, in an output folder that is ours."""
    watch = WatchSources(recipe) if processes.is_main_process else None
    sources = from_first_process(lambda: made_from(recipe), processes)
    resume = from_first_process(lambda: checkpoint_to_resume(recipe, sources, processes.num_processes), processes)

    data = (_streamed_data if recipe.streaming else _checked_data)(recipe, workspace, processes)
    steps = total_steps(recipe, len(data.batches))
    if resume and is_finished(resume, recipe, steps):
        return resume
    if warning := warm_up_warning(recipe, steps):
        say(warning)
    geometry = geometry_of(recipe.model_name_or_path)
    if data.plan and data.training:
        say(describe_plan(recipe, data.plan, processes.num_processes))
        if geometry:
            largest = largest_step(geometry, recipe, data.plan.batches(0), data.training.lengths)
            recipe = _within_memory(recipe, geometry, largest, resume)
    elif isinstance(data.batches, StreamedBatches):
        say(f"streaming: {steps:,} steps; memory is not estimated, as the lengths of the rows are not known")
        if resume:
            data.batches.restore(resume)
    family = family_in(recipe.model_name_or_path)
    recipe = _decided(recipe, steps, processes.num_processes, fast_parts=family.fast_parts)
    disk, meter = disk_and_meter(recipe, geometry, steps, processes.num_processes)

    write_recipe(recipe, processes)
    # DDP must look for parameters without a gradient where there are no pictures, or a tower always has some.
    has_pictures = data.has_pictures and family.whole_gradient
    manifest = manifest_of(recipe, data.collator.processor, sources, processes.num_processes)
    set_seed(recipe.seed)  # of a fresh adapter too; the Trainer seeds only once it has the model
    validates = data.validation is not None
    # Before the model: it sets DeepSpeed and FSDP up.
    arguments = supervised_arguments(recipe, steps, workspace, validates=validates, has_pictures=has_pictures)
    trainer = PlanningTrainer(
        model=model_to_train(recipe),
        args=arguments,
        train_dataset=data.rows,
        eval_dataset=PlanningDataset(data.validation.rows) if data.validation else None,
        data_collator=data.collator,
        processing_class=data.collator.processor,
        recipe=recipe,
        train_batches=data.batches,
        eval_batches=data.validation_batches,
        meter=meter,
        disk=disk,
        manifest=manifest,
    )
    if watch:
        watch.begin(sources.data_sha256)
        trainer.add_callback(watch)
    return run_trainer(trainer, resume, workspace)


def is_finished(resume: Path, recipe: TrainingRecipe, steps: int) -> bool:
    """Whether the checkpoint to resume is the last of the run already, which is then said."""
    manifest = read_manifest(resume)
    if (step_of(resume) or 0) >= steps:
        say(f"nothing to do: {resume} is the last of {steps} steps")
    elif manifest and recipe.max_seconds and manifest.train_seconds >= recipe.max_seconds:
        say(f"nothing to do: {resume} was reached after {manifest.train_seconds:.0f} s, of {recipe.max_seconds:g}")
    else:
        return False
    return True


def write_recipe(recipe: TrainingRecipe, processes: PartialState) -> None:
    """The resolved recipe, beside the checkpoints that it makes."""
    if processes.is_main_process:
        write_text(recipe.output_dir / "recipe.yaml", yaml.safe_dump(as_plain(recipe), sort_keys=False))


def run_trainer(trainer: CheckpointedTrainer, resume: Path | None, workspace: WorkspaceConfig) -> Path:
    """Train to the end with log, status and cards, and return the last checkpoint."""
    recipe, is_main = trainer.recipe, trainer.is_world_process_zero()
    run_name = run_name_of(recipe.output_dir, workspace)
    logs = workspace.logs / run_name
    with (
        Journal(logs / "train.jsonl" if is_main else Path(os.devnull)) as journal,
        _status(trainer, run_name, resume, logs / "status.json") as status,
    ):
        trainer.add_callback(TrainLog(journal))
        trainer.add_callback(TrackRecipe(as_plain(recipe), trainer.callback_handler.callbacks))
        trainer.add_callback(LeaveCard(workspace, trainer.meter))
        _run(trainer, resume, status)
        last = _last_checkpoint(trainer, journal)
    if is_main:
        _leave_summary(trainer, last, workspace)
    return last


def from_first_process(make: Callable[[], _T], processes: PartialState) -> _T:
    """What `make` returns on the first process, on all of them."""
    values: list[Any] = [make() if processes.is_main_process else None]
    if processes.num_processes > 1:
        broadcast_object_list(values)
    return values[0]


def _collator(recipe: TrainingRecipe, workspace: WorkspaceConfig) -> PlanningCollator:
    processor = load_processor(recipe.model_name_or_path)
    if unbound := bound_where_possible(processor, recipe.image_tokens_min, recipe.image_tokens_max):
        if recipe.overlong == "shrink":
            raise UserError(f"overlong shrink: {unbound}. Leave it out: a row that is too long is then rejected")
        say(unbound)
    packer = Packer(recipe.model_name_or_path, recipe.attn_implementation) if recipe.packing else None
    return PlanningCollator(
        processor, recipe.image_root, workspace.root, packer, recipe.video_tokens_max, recipe.supervise
    )


def _streamed_data(recipe: TrainingRecipe, workspace: WorkspaceConfig, processes: PartialState) -> _RunData:
    """Open the sources, and check the rows of the validation file. UserError where several processes train."""
    if processes.num_processes > 1:
        raise UserError("streaming trains on one device: leave it out, or start one process (NPROC=1)")
    collator = _collator(recipe, workspace)
    made_up = PlanningRow([{"role": "user", "content": [{"type": "text", "text": "Plan."}]}], "1) Go.", "", Path())
    refuse_endless(collator.processor, made_up, _end_tokens(recipe, collator))
    validation, validation_batches = None, None
    if recipe.val_file:
        validation = usable_rows(recipe.val_file, collator, recipe, recipe.max_eval_samples)
        in_order = InOrder(validation.lengths.total, recipe.per_device_eval_batch_size)
        validation_batches = RankBatches(in_order, validation.lengths.visual)
    return _RunData(collator, None, validation, None, StreamedBatches(recipe, collator), validation_batches)


def _end_tokens(recipe: TrainingRecipe, collator: PlanningCollator) -> list[int]:
    return end_tokens(generation_settings(recipe.model_name_or_path), collator.processor.tokenizer)


def _checked_data(recipe: TrainingRecipe, workspace: WorkspaceConfig, processes: PartialState) -> _RunData:
    """Check the rows of both files, and plan their batches."""
    collator = _collator(recipe, workspace)
    with processes.main_process_first():  # the others read the lengths that the first one cached
        parts = [
            usable_rows(source.path, collator, recipe, recipe.max_train_samples)
            for source in sources_in(recipe.train_file)
        ]
        training, validation = joined(parts), None
        refuse_same_ids(parts)
        if processes.is_main_process:
            refuse_tested(parts, collator, workspace.benchmark, workspace.logs)
        if recipe.val_file:
            validation = usable_rows(recipe.val_file, collator, recipe, recipe.max_eval_samples)
    refuse_endless(collator.processor, training.rows[0], _end_tokens(recipe, collator))

    def of_this_device(plan: RowBatches | PackBatches | InOrder, check: FileCheck) -> RankBatches:
        return RankBatches(plan, check.lengths.visual, processes.process_index, processes.num_processes)

    plan = plan_batches(recipe, training.lengths, processes.num_processes, [len(part.rows) for part in parts])
    validation_batches = None
    if validation:
        in_order = InOrder(validation.lengths.total, recipe.per_device_eval_batch_size)
        validation_batches = of_this_device(in_order, validation)
    return _RunData(collator, training, validation, plan, of_this_device(plan, training), validation_batches)


def _within_memory(
    recipe: TrainingRecipe, geometry: Geometry, largest: LargestStep, resume: Path | None
) -> TrainingRecipe:
    """Say what the largest step takes; the recipe as it fits the GPU. The precision stays as it is where the run goes
    on from a checkpoint; all does where the model is cut up among devices, which the estimate does not know."""
    capacity = gpu_bytes()
    sharded = os.environ.get("ACCELERATE_USE_FSDP") or os.environ.get("ACCELERATE_USE_DEEPSPEED")
    if capacity is not None and not sharded:
        precision = recipe.fit_to_gpu and resume is None
        recipe, picked = fitted_to_gpu(recipe, geometry, largest, capacity, precision=precision)
        if picked:
            say(picked)
    say(describe_memory(geometry, recipe, largest, capacity))
    return recipe


def _decided(recipe: TrainingRecipe, steps: int, devices: int, *, fast_parts: bool = True) -> TrainingRecipe:
    """The recipe with what it leaves open and memory does not decide. It follows from the run, not from what is left of
    it, so that a resumed one computes the same. Layers are compiled where that was measured: whole weights, one GPU, a
    family with `fast_parts`."""
    checkpointing, compiled = recipe.gradient_checkpointing, recipe.torch_compile
    if compiled is None:
        long = steps * recipe.gradient_accumulation_steps > _WORTH_COMPILING
        measured = devices == 1 and not getattr(recipe, "load_in_4bit", False) and not recipe.use_liger_kernel
        measured = measured and fast_parts
        compiled = long and measured and compiler_problem() is None
    return replace(
        recipe, gradient_checkpointing=True if checkpointing is None else checkpointing, torch_compile=compiled
    )


def disk_and_meter(
    recipe: TrainingRecipe, geometry: Geometry | None, steps: int, devices: int
) -> tuple[DiskNeed | None, Meter]:
    """Say what the run will take and how its speed is measured. UserError if the disk has too little for it."""
    if geometry is None:
        model_type = read_json(recipe.model_name_or_path / "config.json").get("model_type")
        say(f"no estimate of memory and disk, and no MFU: there are no formulas for {model_type}")
        return None, Meter()
    disk = DiskNeed(geometry, recipe)
    say(disk.text(steps))
    disk.check_run(steps)
    peak, about_mfu = peak_of_devices(recipe, devices)
    say(about_mfu)
    return disk, Meter(flops_counter(geometry, recipe) if peak else None, peak)


def manifest_of(recipe: TrainingRecipe, processor: Any, sources: Sources, devices: int) -> Manifest:
    """What every checkpoint of the run says of its making."""
    return Manifest(
        kind="adapter" if isinstance(recipe, LoraRecipe) else "full",
        recipe=as_plain(recipe),
        devices=devices,
        pixel_budget=pixel_budget(processor),
        chat_template_sha256=sha256_json(processor.chat_template),
        library_versions=library_versions(),
        code_revision=code_revision(),
        **asdict(sources),
    )


def _status(trainer: CheckpointedTrainer, run_name: str, resume: Path | None, path: Path) -> AbstractContextManager:
    """The status file of the run, which its first process keeps; the others have None."""
    if not trainer.is_world_process_zero():
        return nullcontext()
    manifest = trainer.manifest
    return Status(
        path,
        kind="training",
        about={"run": run_name, "tuning": manifest.kind, "base_model": manifest.base_model},
        total=trainer.args.max_steps,
        unit="step",
        done=(step_of(resume) or 0) if resume else 0,
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


def _run(trainer: CheckpointedTrainer, resume: Path | None, status: Status | None) -> None:
    """Train to the end or to SIGTERM."""
    manifest = read_manifest(resume) if resume else None
    if resume:
        say(f"resuming from {resume}")
        trainer.restore(resume)
    trainer.manifest = replace(trainer.manifest, peak_memory_bytes=manifest.peak_memory_bytes if manifest else 0)
    trainer.meter.start(manifest.train_seconds if manifest else 0.0)
    for default in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(default)
    termination = SaveOnTerminate(trainer)
    clock = [StopAfter(trainer, trainer.recipe.max_seconds)] if trainer.recipe.max_seconds else []
    progress = [ShowProgress(*clock)] if trainer.is_world_process_zero() else []
    # The status comes last: it sees what the others have asked for.
    for callback in (RecipeIntervals(), *clock, termination, *progress, *([KeepStatus(status)] if status else [])):
        trainer.add_callback(callback)
    try:
        with termination:
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except torch.OutOfMemoryError as error:
        raise _out_of_memory(trainer.recipe, error) from None


def _out_of_memory(recipe: TrainingRecipe, error: torch.OutOfMemoryError) -> UserError:
    if recipe.packing:
        knob, at_once = "packing_tokens", f"packs of {recipe.packing_tokens} tokens"
    else:
        knob, at_once = "per_device_train_batch_size", f"{recipe.per_device_train_batch_size} rows at once"
    return UserError(
        f"out of GPU memory with {at_once}: {str(error).splitlines()[0]} Lower {knob} and raise "
        "gradient_accumulation_steps by the same factor, lower image_tokens_max, or turn gradient_checkpointing on"
    )


def _last_checkpoint(trainer: CheckpointedTrainer, journal: Journal) -> Path:
    """Where a run ended, its loss curve drawn beside the checkpoints; ends the process if SIGTERM ended the run."""
    last = last_complete_checkpoint(trainer.recipe.output_dir)
    assert last is not None, "the trainer saves at the last step"
    if trainer.is_world_process_zero():
        name, figure = trainer.curve(journal.read())
        save(figure, trainer.recipe.output_dir, name)
    if (step_of(last) or 0) < trainer.args.max_steps and not trainer.out_of_time:
        say(f"stopped by SIGTERM after saving {last}; the same command continues")
        raise SystemExit(128 + signal.SIGTERM)
    return last


def _leave_summary(trainer: CheckpointedTrainer, last: Path, workspace: WorkspaceConfig) -> None:
    """run.json beside the checkpoints, a model card in the last one, and a short table on the terminal."""
    recipe, manifest = trainer.recipe, read_manifest(last)
    assert manifest is not None, "the trainer has just written it"
    parameters = list(trainer.accelerator.unwrap_model(trainer.model).parameters())
    best = best_checkpoint(recipe.output_dir, recipe.best_metric)
    summary = {
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "parameters": sum(p.numel() for p in parameters),
        "seconds": manifest.train_seconds,
        "peak_memory_bytes": manifest.peak_memory_bytes,
        "memory_of": "GPU" if torch.cuda.is_available() else "process",
        "tokens_seen": manifest.tokens_seen,
        "steps": manifest.steps,
        "devices": manifest.devices,
        "hardware": hardware(),
        "last_checkpoint": last.name,
        "best_checkpoint": best.name if best else None,
        "best_by": f"validation {recipe.best_metric}" if best else None,
        "validation": manifest.validation,
    }
    write_json(recipe.output_dir / "run.json", summary | trainer.findings)
    write_model_card(last, workspace)
    lines = {
        "steps": manifest.steps,
        "tokens seen": f"{manifest.tokens_seen:,}",
        "training time": f"{manifest.train_seconds:,.0f} s",
        f"peak memory ({summary['memory_of']})": size_text(manifest.peak_memory_bytes),
        **{
            f"validation {name}": f"{manifest.validation[name]:.4g}"
            for name in _SUMMARY_SCORES
            if name in manifest.validation
        },
        **({"best checkpoint": f"{best.name} (by validation {recipe.best_metric})"} if best else {}),
    }
    say("\n".join(f"  {name:30} {value}" for name, value in lines.items()))


def model_to_train(recipe: TrainingRecipe) -> Any:
    """The base model in float32 master weights, or frozen with a fresh adapter on it.

    Frozen weights receive no updates that bfloat16 could lose, so under bf16 they are held in it; the adapter's own
    weights stay float32 either way.
    """
    attention = kernel_for_packs(recipe.attn_implementation) if recipe.packing else recipe.attn_implementation
    if isinstance(recipe, LoraRecipe):
        if recipe.load_in_4bit:
            base = load_base_in_4bit(recipe.model_name_or_path, attention)
        else:
            base = load_weights(recipe.model_name_or_path, "bfloat16" if recipe.bf16 else "float32", attention)
        model = attach(base, recipe)
        say(str(adapter_coverage(model)))
    else:
        model = load_weights(recipe.model_name_or_path, "bfloat16" if recipe.pure_bf16 else "float32", attention)
        say(freeze(model, recipe.freeze))
    return prepared_to_train(model, recipe)


def prepared_to_train(model: Any, recipe: TrainingRecipe) -> Any:
    """The model as the recipe wants it to compute: activations recomputed, layers compiled."""
    if recipe.gradient_checkpointing:
        with warnings.catch_warnings():  # the method has a new name, which the oldest supported version lacks
            warnings.simplefilter("ignore", FutureWarning)
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if recipe.torch_compile:
        say(f"compiling {compile_layers(model)} layers in the first steps")
    return model


def fit_to_device(recipe: _Recipe) -> _Recipe:
    """The recipe without the precision that this machine does not have."""
    if isinstance(recipe, LoraRecipe) and recipe.load_in_4bit and not torch.cuda.is_available():
        raise UserError("load_in_4bit needs a CUDA GPU; leave it out to train in float32 on the CPU")
    if recipe.bf16 and not (torch.cuda.is_available() and torch.cuda.is_bf16_supported()):
        where = "this GPU has no bfloat16" if torch.cuda.is_available() else "no CUDA device"
        say(f"training in float32: {where}")
        return replace(recipe, bf16=False)
    return recipe


def warm_up_warning(recipe: TrainingRecipe, steps: int) -> str | None:
    """What to say of a warm-up that takes more than a third of a run, most of which then trains at a low rate."""
    if recipe.warmup_steps * 3 <= steps:
        return None
    return f"warning: {recipe.warmup_steps} of the {steps} steps are warm-up, over a third; --warmup_steps shortens it"


def usable_rows(
    path: Path,
    collator: PlanningCollator,
    recipe: TrainingRecipe,
    most: int | None,
    require: Callable[[PlanningRow], object] | None = None,
) -> FileCheck:
    """The checked rows of a file, or the first `most` of them; those that cannot train are written aside if they may be
    skipped, else a UserError lists them. `require` raises a UserError for a row that this kind of training cannot use.
    """
    report = check_file(
        path, collator, recipe.model_max_length, shrink=recipe.overlong == "shrink", most=most, require=require
    )
    say(report.text())
    defects = [rejected.defect for rejected in report.rejected]
    if report.rows and not any(row.weight for row in report.rows):
        raise UserError(f"{path}: every row has the weight 0, so the loss sees nothing")
    if defects and recipe.skip_bad_rows and report.rows:
        aside = recipe.output_dir / f"rejected_{path.stem}.jsonl"
        write_rejected(report, aside)
        say(f"skipping {len(defects)} rows; they are in {aside} with their reasons")
    elif defects:
        for defect in defects[1:_MOST_DEFECTS]:
            say(defect, file=sys.stderr)
        more = f" (and {len(defects) - 1} more rows of {path})" if len(defects) > 1 else ""
        raise UserError(defects[0] + more + (". No row is left to train on" if not report.rows else ""))
    return report
