#!/usr/bin/env python3
"""Fetch a model from the Hub into models/, every file verified; `bash scripts/download/download_model.sh` finds Python.

    python scripts/download/download_model.py
    python scripts/download/download_model.py EvanSirius/leap-ckpts --step 5000
    python scripts/download/download_model.py me/my-adapter --revision v1.0 --local_dir models/my-adapter

The repository may come first, without its flag. Says how many files and bytes and checks the disk before it begins; the
same command goes on with an interrupted download, at the same commit. The host is huggingface.co, HF_ENDPOINT or, with
--mirror, hf-mirror.com; a token is that of `hf auth login` or HF_TOKEN. Pickles and the state of training runs are left
out unless --all_files is given. A step's files keep their folder: models/leap-ckpts/checkpoint-5000.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from configs.config import WorkspaceConfig, next_line
from leap.cli import knob, parse_knobs, run
from leap.downloads.access import checked_repo_id, choose_host
from leap.downloads.model_files import model_selection
from leap.downloads.record import Selection
from leap.downloads.run import DownloadOptions, DownloadResult, download
from leap.progress import say


@dataclass(frozen=True)
class Options(DownloadOptions):
    repo_id: str = knob("Qwen/Qwen3-VL-2B-Instruct", "model on the Hub, owner/name; the flag may be left out")
    step: int | None = knob(None, "the checkpoint of this training step only", check=">= 0")
    local_dir: Path | None = knob(None, "folder for the files (default: models/NAME)")
    all_files: bool = knob(False, "also pickles, state of training runs and weights of other frameworks")


def main() -> int:
    words = sys.argv[1:]
    options = parse_knobs(Options, ["--repo_id", *words] if words and words[0][:1] != "-" else words, __doc__)
    choose_host(mirror=options.mirror)
    workspace = WorkspaceConfig.from_environment()
    repo_id = checked_repo_id(options.repo_id)
    folder = options.local_dir or workspace.models / repo_id.partition("/")[2]

    def select(paths: list[str]) -> Selection:
        return model_selection(paths, repo_id, options.step, all_files=options.all_files)

    result = download(repo_id, "model", folder, select, options)
    if result.failed:
        return 1
    for command in next_commands(result, workspace):
        say(next_line(command))
    return 0


def next_commands(result: DownloadResult, workspace: WorkspaceConfig) -> list[str]:
    """What one does with this model."""
    evaluate = "python scripts/evaluation/run_vlm_evaluation.py"
    if result.folder.resolve() == workspace.base_model.resolve():
        return ["bash scripts/training/run-training.sh", f"{evaluate} --dimension all"]
    folders = sorted({path.parent for path in result.folder.rglob("*.safetensors")})
    below = [path for path in folders if result.selection.takes((path / "x").relative_to(result.folder).as_posix())]
    return [f"{evaluate} --checkpoint {shlex.quote(str(path))} --dimension all" for path in below[:1]]


if __name__ == "__main__":
    run(main)
