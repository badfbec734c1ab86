#!/usr/bin/env python3
"""Publish a checkpoint or a set of planning rows on the Hugging Face Hub; without --push, only say what would be done.

    python scripts/utils/push_to_hub.py --checkpoint output --repo_id me/my-planner
    python scripts/utils/push_to_hub.py --checkpoint output --repo_id me/my-planner --private --push
    python scripts/utils/push_to_hub.py --dataset data/my_rows.jsonl --repo_id me/my-rows

Lists what would go with its size, what stays here, and the card. The token is the one of `hf auth login` or HF_TOKEN,
the address is huggingface.co or HF_ENDPOINT. A pushed file replaces the one of its name; others in the repository stay.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.downloads.access import checked_repo_id
from leap.models.checkpoints import CARD, read_manifest
from leap.planners.candidates import chosen_checkpoint
from leap.progress import say
from leap.publish.dataset_card import dataset_card
from leap.publish.model_card import base_name, model_card
from leap.publish.upload import Upload, checkpoint_upload, dataset_files, dataset_upload, push


@dataclass(frozen=True)
class Options:
    checkpoint: Path | None = knob(None, "checkpoint to publish; of a run's folder its best or last")
    dataset: Path | None = knob(None, "planning rows to publish: a JSONL file, or a folder with some")
    repo_id: str = knob("", "repository on the Hub, owner/name")
    private: bool = knob(False, "only you and whom you allow may see it; counts when the repository is made")
    push: bool = knob(False, "do it; without this nothing is contacted")

    with_run_state: bool = knob(False, "the optimiser's and the run's state too, so that others can train on")
    base_id: str | None = knob(
        None, "the base model on the Hub, for the card (default: known for Qwen3-VL-2B-Instruct)"
    )
    trained_on: list[str] = knob([], "the training data on the Hub, for the card")
    license: str | None = knob(None, "licence of the data set, as in cc-by-nc-sa-4.0", flags=("--licence",))
    card: Path | None = knob(None, "Markdown file to publish as README.md in place of the card written for you")


def main() -> None:
    options = parse_knobs(Options, None, __doc__)
    if (options.checkpoint is None) == (options.dataset is None):
        raise UserError("name what to publish: either --checkpoint, as in output/checkpoint-200, or --dataset")
    if not options.repo_id:
        raise UserError("name the repository with --repo_id, as in me/my-planner")

    checked_repo_id(options.repo_id)
    workspace = WorkspaceConfig.from_environment()
    if options.checkpoint:
        options = replace(options, checkpoint=chosen_checkpoint(options.checkpoint, workspace))
    upload = prepare(options, workspace)
    describe(upload, options)
    if options.push:
        say(f"pushed: {push(upload, options.repo_id, options.private)}")
        return
    say(f"{CARD} as it would be:\n\n{upload.files[CARD]}")
    say(f"Nothing was contacted. To do it: {shlex.join(['python', *sys.argv, '--push'])}")


def prepare(options: Options, workspace: WorkspaceConfig) -> Upload:
    """What would go, with its card."""
    if options.checkpoint:
        upload = checkpoint_upload(options.checkpoint, workspace, options.base_id, options.with_run_state)
        card = model_card(options.checkpoint, workspace, options.repo_id, options.base_id, options.trained_on)
    else:
        workspace.require(options.dataset, "data set")
        upload = dataset_upload(options.dataset)
        card = dataset_card(dataset_files(options.dataset), options.repo_id, options.license)
    if options.card:
        card = workspace.require_file(options.card, "card").read_text(encoding="utf-8")
    upload.files[CARD] = card
    return upload


def describe(upload: Upload, options: Options) -> None:
    """Where it would go, and what."""
    from huggingface_hub import HfApi

    who = "private" if options.private else "public, unless the owner's default is private or it is there already"
    say(f"{upload.repo_type} {options.repo_id} at {HfApi().endpoint} ({who}):")
    say("\n".join(upload.lines()))
    manifest = read_manifest(options.checkpoint) if options.checkpoint else None
    if manifest and "/" not in base_name(manifest, options.base_id):
        say("the base model is known here by its folder's name only; --base_id owner/name links it on the Hub")


if __name__ == "__main__":
    run(main)
