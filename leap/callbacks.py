"""What happens during a training run besides training: intervals, preemption, log, progress."""

from __future__ import annotations

import signal
import time
from typing import Any

from transformers import TrainerCallback

from leap.files import Journal
from leap.provenance import utc_now


class RecipeIntervals(TrainerCallback):
    """Log and save as often as this run's recipe says, not as the one that wrote the checkpoint did."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.logging_steps, state.save_steps, state.eval_steps = args.logging_steps, args.save_steps, args.eval_steps


class SaveOnTerminate(TrainerCallback):
    """On SIGTERM (preemption of a cluster job) finish the step, save a checkpoint and stop."""

    received = False

    def __enter__(self) -> SaveOnTerminate:
        self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _note(self, *arguments: object) -> None:
        self.received = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.received:
            control.should_save = control.should_training_stop = True


class TrainLog(TrainerCallback):
    """Every log event as a line of logs/<run>/train.jsonl: step, epoch, time and what was logged.

    A resumed run appends; where a step occurs again, the later line counts.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tokens, self.clock = state.num_input_tokens_seen, time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        record = {"step": state.global_step, "time": utc_now(), **(logs or {})}
        if "loss" in record:  # since the last such line, validation and saving included; padding is not counted
            tokens, clock = state.num_input_tokens_seen, time.monotonic()
            record["tokens_per_second"] = (tokens - self.tokens) / (clock - self.clock)
            self.tokens, self.clock = tokens, clock
        if state.is_world_process_zero:
            self.journal.append([record])


class PlainProgress(TrainerCallback):
    """One line a log event, with the time left, for logs that are no terminal."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started, self.first_step = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        done = state.global_step - self.first_step
        left = (time.monotonic() - self.started) / max(done, 1) * (state.max_steps - state.global_step)
        shown = {k: v for k, v in (logs or {}).items() if k in ("loss", "eval_loss", "learning_rate", "grad_norm")}
        if shown:
            values = "  ".join(f"{key} {float(value):.4g}" for key, value in shown.items())
            print(f"step {state.global_step}/{state.max_steps}  {values}  {left:.0f} s left", flush=True)
