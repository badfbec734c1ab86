"""What happens during a training run besides training: intervals, preemption, log, status, progress."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm
from transformers import TrainerCallback

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.files import Journal
from leap.progress import say
from leap.provenance import utc_now
from leap.publish.model_card import write_model_card
from leap.runs.status import Status
from leap.training.meter import Meter

# What a line of progress shows, and how.
_LINE_FORMATS = {
    "loss": "{:.4g}",
    "eval_loss": "{:.4g}",
    "eval_plan_step_f1": "{:.3f}",
    "eval_grounded_total": "{:.1f}",
    "reward": "{:.3f}",
    "rewards/plan/mean": "{:.3f}",
    "eval_reward": "{:.3f}",
    "eval_grounded_plan_success": "{:.1f}",
    "frac_reward_zero_std": "{:.1%}",
    "kl": "{:.3g}",
    "entropy": "{:.3g}",
    "completions/clipped_ratio": "{:.1%}",
    "learning_rate": "{:.3g}",
    "grad_norm": "{:.3g}",
    "tokens_per_second": "{:,.0f}",
    "padding_share": "{:.1%}",
    "data_wait_share": "{:.1%}",
    "mfu": "{:.1%}",
    "completions_per_second": "{:.1f}",
    "generation_share": "{:.1%}",
}

_STATUS_COUNTS = ("loss", "eval_loss", "tokens_per_second", "epoch")


class RecipeIntervals(TrainerCallback):
    """Log and save as often as this run's recipe says, not as the one that wrote the checkpoint did; validate at the
    last step too, before it is saved."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.logging_steps, state.save_steps, state.eval_steps = args.logging_steps, args.save_steps, args.eval_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True


class StopAfter(TrainerCallback):
    """Stop when training took so many seconds by the run's meter, over all resumes."""

    def __init__(self, trainer: Any, seconds: float) -> None:
        self.trainer, self.seconds = trainer, seconds

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.meter.seconds >= self.seconds:
            self.trainer.stop_requested = self.trainer.out_of_time = True


class SaveOnTerminate(TrainerCallback):
    """On SIGTERM (preemption of a cluster job) finish the step, save a checkpoint and stop, on all devices at once; so
    where the time is up, after a last validation."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def __enter__(self) -> SaveOnTerminate:
        self._handler = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGTERM, self._handler)

    def _note(self, *arguments: object) -> None:
        self.trainer.stop_requested = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        alone = args.world_size == 1
        if self.trainer.stop_requested if alone else self.trainer.stop_agreed:
            control.should_save = control.should_training_stop = True
            if self.trainer.recipe.max_seconds:
                control.should_evaluate = args.eval_strategy != "no"


class TrainLog(TrainerCallback):
    """Every log event as a line of logs/<run>/train.jsonl: step, epoch, time and what was logged.

    A resumed run appends; where a step occurs again, the later line counts.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.journal.append([{"step": state.global_step, "time": utc_now(), **(logs or {})}])


class TrackRecipe(TrainerCallback):
    """Give TensorBoard (a text) and Weights & Biases (`leap` of the run's config) the recipe, as `as_plain` has it.

    `callbacks` are the Trainer's own, which open both and come before this one.
    """

    def __init__(self, recipe: dict[str, Any], callbacks: Sequence[TrainerCallback]) -> None:
        self.recipe, self.callbacks = recipe, callbacks

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        text = yaml.safe_dump(self.recipe, sort_keys=False).replace("\n", "\n    ")  # a code block in Markdown
        for callback in self.callbacks:
            if writer := getattr(callback, "tb_writer", None):
                writer.add_text("recipe", f"    {text}", state.global_step)
        if "wandb" in args.report_to:
            import wandb

            wandb.config.update({"leap": self.recipe}, allow_val_change=True)


class LeaveCard(TrainerCallback):
    """The model card of each checkpoint as it is saved, in place of the template that PEFT writes."""

    def __init__(self, workspace: WorkspaceConfig, meter: Meter) -> None:
        self.workspace, self.meter = workspace, meter

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            with self.meter.paused():
                try:
                    write_model_card(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.workspace)
                except UserError as error:  # of results that lie under its name; training goes on
                    say(f"no model card yet: {error}")


class KeepStatus(TrainerCallback):
    """The run's status file: step, losses, speed, and whether it trains, validates or saves.

    Added after the callbacks that ask for validating and saving, so that it sees what they asked for.
    """

    def __init__(self, status: Status) -> None:
        self.status = status

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.status.update(state.global_step, phase="training")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        phase = "validating" if control.should_evaluate else "saving" if control.should_save else "training"
        self.status.update(state.global_step, phase=phase)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.status.update()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.status.update()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.status.update(phase="saving" if control.should_save else "training")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.status.update(phase="training")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        counts: dict[str, Any] = {name: float(value) for name, value in (logs or {}).items() if name in _STATUS_COUNTS}
        self.status.update(**counts)


class ShowProgress(TrainerCallback):
    """A tqdm bar on a terminal, else one line a log event with the time left."""

    def __init__(self, clock: StopAfter | None = None) -> None:
        self.clock = clock

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started, self.first_step = time.monotonic(), state.global_step
        terminal = sys.stderr.isatty()
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step") if terminal else None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        values = {name: text.format(float(logs[name])) for name, text in _LINE_FORMATS.items() if name in logs}
        if not values:
            return
        if self.bar is not None:
            self.bar.set_postfix(values)
            return
        steps = state.global_step - self.first_step
        left = (time.monotonic() - self.started) / max(steps, 1) * (state.max_steps - state.global_step)
        if self.clock is not None:  # whichever end comes first
            left = min(left, max(0.0, self.clock.seconds - self.clock.trainer.meter.seconds))
        text = "  ".join(f"{name} {value}" for name, value in values.items())
        say(f"step {state.global_step}/{state.max_steps}  {text}  {left:.0f} s left")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.close()
