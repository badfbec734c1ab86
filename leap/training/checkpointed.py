"""Hugging Face's Trainer with LEAP's checkpoints: one counts once it is whole, its optimiser state can be read by any
number of devices, and old ones go by the recipe. What planning rows and rollouts train with stands on it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from transformers import ProcessorMixin, Trainer

from configs.errors import UserError
from leap.models.checkpoints import (
    MANIFEST,
    SAVING,
    Manifest,
    begin_saving,
    best_checkpoint,
    drop_run_state,
    find_checkpoints,
    remove,
    step_of,
    write_manifest,
)
from leap.models.loading import has_other_names, is_out_of_memory, restore_weights
from leap.plots.training import loss_curve
from leap.text import first_line
from leap.training.adapters import restore_adapter
from leap.training.meter import Meter
from leap.training.parts import parameter_groups
from leap.training.recipes import LoraRecipe, TrainingRecipe
from leap.training.resources import DiskNeed, peak_memory_bytes

_OPTIMIZER, _SCHEDULER = "optimizer.pt", "scheduler.pt"


class CheckpointedTrainer(Trainer):
    """A Trainer whose checkpoints are complete only with their manifest."""

    # The Trainer's own types leave open what a run of ours always has.
    model: Any
    processing_class: ProcessorMixin
    lr_scheduler: torch.optim.lr_scheduler.LambdaLR

    def __init__(
        self,
        *,
        recipe: TrainingRecipe,
        manifest: Manifest,
        meter: Meter,
        disk: DiskNeed | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.recipe, self.manifest, self.meter, self.disk = recipe, manifest, meter, disk
        self.stop_requested = False  # on this device, by a signal; `stop_agreed` is what all devices know of it
        self.stop_agreed = False
        self.out_of_time = False  # by the recipe's max_seconds
        self.findings: dict[str, Any] = {}  # what the run's log shows at its end, for run.json

    def curve(self, records: Sequence[Mapping[str, Any]]) -> tuple[str, Figure]:
        """The figure of the run, by the lines of its train.jsonl, and the name of its file."""
        return "loss", loss_curve(records)

    def agree_to_stop(self) -> None:
        """Let all devices know whether one of them was asked to stop."""
        self.stop_agreed = self.stop_requested
        if self.args.world_size > 1:
            request = torch.tensor(float(self.stop_requested), device=self.args.device)
            self.stop_agreed = bool(self.accelerator.reduce(request, reduction="sum"))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with self.meter.paused():
            self._save_whole(model, trial)

    def _save_whole(self, model: Any, trial: Any) -> None:
        folder = self.recipe.output_dir / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            if self.disk:
                self.disk.check_one(folder)
            begin_saving(folder)
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # every device's files are there before the manifest lists them
        if self.args.should_save:
            write_manifest(folder, self._manifest_now())
            self._drop_old_checkpoints()

    def _manifest_now(self) -> Manifest:
        last = next(
            (entry for entry in reversed(self.state.log_history) if any(name.startswith("eval_") for name in entry)), {}
        )
        scores = {name.removeprefix("eval_"): value for name, value in last.items() if name.startswith("eval_")}
        return replace(
            self.manifest,
            steps=self.state.global_step,
            tokens_seen=int(self.state.num_input_tokens_seen),
            train_seconds=round(self.meter.seconds, 1),
            peak_memory_bytes=max(self.manifest.peak_memory_bytes, peak_memory_bytes()),
            validation=scores | {"step": last["step"]} if scores else {},
        )

    def _drop_old_checkpoints(self) -> None:
        """Keep as many complete checkpoints and optimiser states as the recipe says, the best one and those of every
        so many steps always, and no torn one: what it was to hold is in the one just saved."""
        run = self.recipe.output_dir
        checkpoints = find_checkpoints(run)
        torn = [folder for folder in checkpoints if (folder / SAVING).is_file()]
        complete = [folder for folder in checkpoints if (folder / MANIFEST).is_file()]
        limit, every = self.recipe.save_total_limit, self.recipe.keep_weights_every
        spared = {best_checkpoint(run, self.recipe.best_metric)}
        spared |= {folder for folder in complete if every and (step_of(folder) or 0) % every == 0}
        doomed = [folder for folder in (complete[:-limit] if limit else []) if folder not in spared]
        for folder in torn + doomed:
            remove(folder)
        for folder in complete[: -self.recipe.keep_optimizer_of_last]:
            if folder not in doomed:
                drop_run_state(folder)

    def create_optimizer(self, *arguments: Any) -> torch.optim.Optimizer:
        """AdamW with a learning rate a part, LoRA+'s, or torchao's, where the recipe asks for them; else the
        Trainer's own."""
        if self.optimizer is None:
            self.optimizer = self._optimizer_of_recipe()
        return super().create_optimizer(*arguments)

    def _optimizer_of_recipe(self) -> torch.optim.Optimizer | None:
        recipe = self.recipe
        low_memory = recipe.pure_bf16 or recipe.optim != "adamw"
        make = low_memory_adamw(recipe) if low_memory else torch.optim.AdamW
        knobs: dict[str, Any] = {"betas": (0.9, recipe.adam_beta2), "weight_decay": recipe.weight_decay}
        if not low_memory:
            knobs["fused"] = torch.cuda.is_available()
        if isinstance(recipe, LoraRecipe) and recipe.loraplus_lr_ratio is not None:
            from peft.optimizers import create_loraplus_optimizer

            ratio = recipe.loraplus_lr_ratio
            return create_loraplus_optimizer(
                self.model,
                make,  # type: ignore[arg-type]  # a function will do for the class
                lr=recipe.learning_rate,
                loraplus_lr_ratio=ratio,
                **knobs,
            )
        if not low_memory and recipe.vision_lr is None and recipe.merger_lr is None:
            return None
        decay = set(self.get_decay_parameter_names(self.model))
        return make(parameter_groups(self.model, recipe, decay), **knobs)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """The optimiser's state by parameter names, whole, whatever the devices it was spread over."""
        if self.is_deepspeed_enabled:  # its engine keeps the state in a form of its own
            super()._save_optimizer_and_scheduler(output_dir)
            return
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_optimizer_state_dict(self.model_wrapped, self._torch_optimizer(), options=options)
        if self.args.should_save:
            torch.save(state, os.path.join(output_dir, _OPTIMIZER))
            torch.save(self.lr_scheduler.state_dict(), os.path.join(output_dir, _SCHEDULER))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        with _named_damage(checkpoint):
            if self.is_deepspeed_enabled:
                super()._load_optimizer_and_scheduler(checkpoint)
            else:
                self._restore_optimizer_and_scheduler(checkpoint)

    def _restore_optimizer_and_scheduler(self, checkpoint: str) -> None:
        """Restore state, but not the knobs that torch saves with it: the recipe of this run decides those."""
        optimizer = self._torch_optimizer()
        knobs = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]
        base_rates = list(self.lr_scheduler.base_lrs)
        state = torch.load(os.path.join(checkpoint, _OPTIMIZER), map_location="cpu", weights_only=True, mmap=True)
        # What no gradient has reached has no state: LLaVA-OneVision's last norm, the tower where no row has a picture.
        trained = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        untouched = trained.keys() - state["state"].keys()
        options = StateDictOptions(full_state_dict=True, strict=untouched in (set(), trained.keys()))
        set_optimizer_state_dict(self.model_wrapped, optimizer, optim_state_dict=state, options=options)
        for name in untouched:  # torch has made one up
            optimizer.state.pop(trained[name], None)
        self.lr_scheduler.load_state_dict(torch.load(os.path.join(checkpoint, _SCHEDULER), weights_only=True))
        for group, recipe_knobs in zip(optimizer.param_groups, knobs, strict=True):
            group.update(recipe_knobs)
        self.lr_scheduler.base_lrs = base_rates

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _named_damage(checkpoint):
            super()._load_rng_state(checkpoint)

    def _torch_optimizer(self) -> torch.optim.Optimizer:
        """The torch optimiser inside Accelerate's wrapper."""
        wrapper: Any = self.optimizer
        return getattr(wrapper, "optimizer", wrapper)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            return  # sharded: `restore` has put the weights into the whole model before it was cut up
        folder = Path(resume_from_checkpoint)
        if not isinstance(self.recipe, LoraRecipe) and has_other_names(self.model, folder):
            restore_weights(self.model, folder)  # the Trainer would leave out, without a word, what it cannot place
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def restore(self, checkpoint: Path) -> None:
        """Put a checkpoint's weights into the model before it is sharded; a model that is not gets them by `train`."""
        if self.is_fsdp_enabled:
            (restore_adapter if isinstance(self.recipe, LoraRecipe) else restore_weights)(self.model, checkpoint)


def low_memory_adamw(recipe: TrainingRecipe) -> Callable[..., torch.optim.Optimizer]:
    """torchao's AdamW with 8-bit states, or with states in the weights' type; bfloat16 weights are rounded
    stochastically.

    Rounded to the nearest, most bfloat16 weights would not change at small learning rates: an update below 1/512 of a
    weight, half of bfloat16's last bit, is lost (stochastic rounding: arXiv 2010.06192).
    """
    from torchao.optim import AdamW8bit, _AdamW

    optimizer = AdamW8bit if recipe.optim == "adamw_8bit" else _AdamW
    return functools.partial(optimizer, bf16_stochastic_round=recipe.pure_bf16)


@contextlib.contextmanager
def _named_damage(checkpoint: str | None) -> Iterator[None]:
    """Make a UserError of whatever a damaged file of a run's state raises in its reader."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = first_line(error)
        raise UserError(
            f"cannot train on from {checkpoint}: the state of its optimizer, scheduler or random numbers is damaged "
            f"({reason}). Move it away, and the same command goes on from the checkpoint before it"
        ) from error
