"""Which files of a model's repository are wanted: weights as safetensors, processor and texts; no optimiser state.

Pickles can run code when they are loaded, and a training run's state is only there to train on: both are left out
unless asked for, as are weights in formats of other frameworks.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable

from configs.errors import UserError
from leap.downloads.record import Selection

_RUN_STATE = ("optimizer*", "scheduler*", "scaler*", "rng_state*", "random_states*", "global_step*", "*/global_step*/*")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_OTHER_FORMATS = ("*.bin.index.json", "*.h5", "*.msgpack", "*.ot", "*.gguf", "*.onnx*", "*.tflite", "original/*")
# A folder of one training step, as a name and as patterns of the paths in it.
_STEP_FOLDER = re.compile(r"(?:.*[-_])?(?:checkpoint|ckpt|step)[-_]?0*(\d+)")
_STEPS = tuple(f"*{word}{sign}[0-9]*/*" for word in ("checkpoint", "ckpt", "step") for sign in ("", "[-_]"))


def model_selection(paths: Iterable[str], repo_id: str, step: int | None, *, all_files: bool) -> Selection:
    """The files to fetch of a model repository that holds these paths.

    With `step` those below the folder of that training step; without, those of the repository's own model, not of its
    checkpoints. UserError if there is no such step or no model without a step, or if its weights are pickles only.
    """
    paths = list(paths)
    skip = () if all_files else (*_RUN_STATE, *_PICKLES, *_OTHER_FORMATS)
    steps = step_folders(paths)
    step_names = ", ".join(map(str, sorted(steps))) or "none"
    if step is not None:
        if step not in steps:
            raise UserError(f"{repo_id} has no folder of step {step}; steps there: {step_names}")
        selection = Selection((f"{glob.escape(steps[step])}/*",), skip)
    else:
        selection = Selection((), (*skip, *_STEPS))
        if steps and not any(map(_is_weights, filter(selection.takes, paths))):
            raise UserError(
                f"{repo_id} holds checkpoints of several steps; choose one with --step. There: {step_names}"
            )
    chosen = [path for path in paths if selection.takes(path)]
    if not all_files and not any(path.endswith(".safetensors") for path in chosen):
        plain = Selection(selection.patterns)
        others = [path for path in paths if plain.takes(path) and _is_weights(path)]
        raise UserError(
            f"{repo_id} has no weights in safetensors{', only ' + ', '.join(others[:3]) if others else ''}. "
            "--all_files fetches what there is, pickles too, which can run code when they are loaded"
        )
    return selection


def step_folders(paths: Iterable[str]) -> dict[int, str]:
    """The folder of each training step, among folders that hold weights; of several, the shortest name."""
    folders: dict[int, str] = {}
    for path in sorted(paths, key=lambda path: (len(path), path)):
        folder = path.rpartition("/")[0]
        match = _STEP_FOLDER.fullmatch(folder.rpartition("/")[2]) if folder else None
        if match and _is_weights(path):
            folders.setdefault(int(match[1]), folder)
    return folders


def _is_weights(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith(".safetensors") or (
        name.startswith(("pytorch_model", "adapter_model", "model", "consolidated")) and name.endswith((".bin", ".pth"))
    )
