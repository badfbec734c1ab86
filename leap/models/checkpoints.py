"""Checkpoint folders: find them, order them, tell complete from torn, and describe them by a manifest.

A checkpoint is `output/<run>/checkpoint-<step>/` (or `output/checkpoint-<step>/`): a Hugging Face folder with its
processor and `leap_manifest.json`, which is written last and lists every file but the card with its size. While one
is being saved it holds the file `leap_saving`. A folder from elsewhere has neither and is judged by its weights' own
headers.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import read_json, sha256_file, write_text

MANIFEST = "leap_manifest.json"
SAVING = "leap_saving"
_RUN_STATE = re.compile(
    r"optimizer.*|scheduler\.pt|scaler\.pt|rng_state.*|trainer_state\.json|training_args\.bin|stream\.json"
    r"|global_step\d+/.*|latest|zero_to_\w+\.py"  # DeepSpeed's
)
STREAM_FILE = "stream.json"  # where a streamed run is in its sources
CARD = "README.md"  # may be rewritten after the checkpoint is complete, so its size says nothing
_INDEX = "model.safetensors.index.json"
_STEP = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Manifest:
    """What made a checkpoint. `devices` trained at once; `files` maps each file, but the card, to its size in bytes."""

    base_model: str
    base_weights_sha256: str
    kind: str  # "full" or "adapter"
    recipe: dict[str, Any]
    data_sha256: str
    pixel_budget: dict[str, Any]  # "shortest_edge" and "longest_edge", in pixels; else as leap.models.image_budget says
    chat_template_sha256: str
    library_versions: dict[str, str]
    devices: int = 1
    steps: int = 0
    tokens_seen: int = 0  # without padding
    train_seconds: float = 0.0  # over all resumes, without validation and saving
    peak_memory_bytes: int = 0  # of a device, or of the process where there is none
    validation: dict[str, float] = field(default_factory=dict)
    code_revision: str | None = None
    parent: str | None = None  # the checkpoint that training by rewards started from
    parent_weights_sha256: str | None = None
    files: dict[str, int] = field(default_factory=dict)


def begin_saving(folder: Path) -> None:
    """Mark `folder` as torn until `write_manifest`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SAVING).touch()
    (folder / MANIFEST).unlink(missing_ok=True)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Declare `folder` complete: list its files and write the manifest in one step."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    files = {str(path.relative_to(folder)): path.stat().st_size for path in paths}
    for name in (MANIFEST, SAVING, CARD):
        files.pop(name, None)
    write_text(folder / MANIFEST, manifest_text(replace(manifest, files=files)))
    (folder / SAVING).unlink(missing_ok=True)


def manifest_text(manifest: Manifest) -> str:
    """A manifest as it stands in its file."""
    return json.dumps(asdict(manifest), indent=2) + "\n"


def remove(folder: Path) -> None:
    """Delete a checkpoint; killed in between, it leaves nothing that looks like one."""
    doomed = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def finish_removals(run: Path) -> None:
    """Delete what a kill in the middle of `remove` left in the folder of a run."""
    for doomed in run.glob(".checkpoint-*.removed"):
        shutil.rmtree(doomed, ignore_errors=True)


def is_run_state(name: str) -> bool:
    """Whether a checkpoint's file is there only to train on from it."""
    return _RUN_STATE.fullmatch(name) is not None


def drop_run_state(folder: Path) -> None:
    """Leave a checkpoint's weights, processor and history; it can be loaded but no longer resumed from."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if is_run_state(str(path.relative_to(folder))) and path.name != "trainer_state.json":
            path.unlink()
    for path in folder.glob("global_step*"):
        shutil.rmtree(path)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a checkpoint, or None where there is none. UserError if it cannot be read."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    content = read_json(path)
    names = {field.name for field in fields(Manifest)}
    try:
        manifest = Manifest(**{key: value for key, value in content.items() if key in names})
    except (TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a LEAP manifest: {error}") from error
    if manifest.base_model and not may_be_path(manifest.base_model):
        raise UserError(f"{path} is not a LEAP manifest: base_model is no path, but {manifest.base_model!r:.80}")
    return manifest


def may_be_path(written: object) -> bool:
    """Whether a value out of a file is a text that a file system can be asked for: of 4,095 bytes, 255 a name."""
    if not isinstance(written, str):
        return False
    names = [len(part.encode(errors="replace")) for part in Path(written).parts]
    return max(names, default=0) < 256 and sum(names) + len(names) < 4096


def step_of(folder: Path) -> int | None:
    """The step in a checkpoint folder's name, or None if it is not named so."""
    match = _STEP.fullmatch(folder.name)
    return int(match.group(1)) if match else None


def why_incomplete(folder: Path, *, to_resume: bool = False) -> str | None:
    """The reason why a checkpoint cannot be loaded (`to_resume`: cannot be trained on from), or None if it can.

    The state of the optimiser and of the run may be gone from one that is only loaded.
    """
    if (folder / SAVING).is_file():
        return "saving it was interrupted"
    try:
        manifest = read_manifest(folder)
    except UserError as error:
        return str(error)
    if manifest is None:
        return f"it has no {MANIFEST}" if to_resume else why_unloadable(folder)
    for name, size in manifest.files.items():
        path = folder / name
        if name == CARD or (is_run_state(name) and not to_resume):
            continue
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, its manifest says {size}"
    return None


def merged_folder(adapter: Path) -> Path:
    """Where the full model that an adapter makes goes, unless its user says otherwise: beside it."""
    return adapter.with_name(f"{adapter.name}-merged")


def why_unloadable(folder: Path) -> str | None:
    """The reason why a Hugging Face folder cannot be loaded as a model, or None."""
    if not folder.is_dir():
        return "there is no such folder"
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        return "it has neither config.json nor adapter_config.json"
    if problem := _description_problem(folder):
        return problem
    weights = weight_files(folder)
    if not weights:
        return "it has no safetensors weights"
    for path in weights:
        problem = _safetensors_problem(path)
        if problem:
            return f"{path.name} {problem}"
    return None


def _description_problem(folder: Path) -> str | None:
    """Why the JSON files that say what is loaded cannot be read, or None."""
    for name in ("config.json", "adapter_config.json", _INDEX):
        try:
            content = read_json(folder / name) if (folder / name).is_file() else {}
        except UserError as error:
            return str(error)
        if not isinstance(content, dict):
            return f"{name} holds no JSON object"
        if name == _INDEX:
            files = content.get("weight_map", {})
            # A file of weights lies beside the index that names it.
            if not isinstance(files, dict) or not all(isinstance(f, str) and "/" not in f for f in files.values()):
                return f"{name} names no files of weights"
    return None


def kind_of(folder: Path) -> str:
    """`adapter` for a PEFT folder, else `full`."""
    return "adapter" if (folder / "adapter_config.json").is_file() else "full"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the model or adapter, in the order of their names.

    As transformers chooses them: a single file comes before an index that lies beside it.
    """
    index = folder / _INDEX
    if kind_of(folder) == "adapter":
        names = {"adapter_model.safetensors"}
    elif index.is_file() and not (folder / "model.safetensors").is_file():
        names = set(read_json(index).get("weight_map", {}).values())
    else:
        names = {"model.safetensors"}
    if len(names) > 1 or any((folder / name).is_file() for name in names):
        return [folder / name for name in sorted(names)]
    return []


def find_checkpoints(run: Path) -> list[Path]:
    """Folders `checkpoint-<step>` directly below `run`, in the order of their steps, complete or not."""
    if not run.is_dir():
        return []
    folders = [folder for folder in run.iterdir() if folder.is_dir() and step_of(folder) is not None]
    return sorted(folders, key=lambda folder: step_of(folder) or 0)


def find_all_checkpoints(output: Path) -> list[Path]:
    """The checkpoints directly in `output`, then those of each run below it, by run name and step."""
    runs = sorted(folder for folder in output.iterdir() if folder.is_dir()) if output.is_dir() else []
    return find_checkpoints(output) + [c for run in runs if step_of(run) is None for c in find_checkpoints(run)]


def last_complete_checkpoint(run: Path) -> Path | None:
    """The checkpoint to resume from: the highest step with a manifest that its files agree with."""
    for folder in reversed(find_checkpoints(run)):
        if why_incomplete(folder, to_resume=True) is None:
            return folder
    return None


def best_checkpoint(run: Path, metric: str) -> Path | None:
    """The loadable checkpoint of `run` with the best validation score that its manifest holds for its own step: the
    lowest loss, the highest of anything else; the earlier one of equals. None if none has it."""
    scored = []
    for folder in find_checkpoints(run):
        manifest = read_manifest(folder) if why_incomplete(folder) is None else None
        if manifest and metric in manifest.validation and manifest.validation.get("step") == manifest.steps:
            score = manifest.validation[metric]
            scored.append((score if metric == "loss" else -score, manifest.steps, folder))
    return min(scored)[2] if scored else None


def weights_sha256(folder: Path) -> str:
    """One hash over the contents of all weight files: the identity of the model, wherever it lies."""
    hashes = [[path.name, sha256_file(path)] for path in weight_files(folder)]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _safetensors_problem(path: Path) -> str | None:
    """What is wrong with a safetensors file by its header (format: 8-byte length, JSON with offsets, data)."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    with open(path, "rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 0 < length <= size - 8:
            return "is not a safetensors file or is cut off"
        try:
            header = json.loads(file.read(length))
            ends = (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
            whole = 8 + length + max(ends, default=0)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return "has a damaged header"
    if size != whole:
        return f"is cut off: {size} bytes of {whole}"
    return None
