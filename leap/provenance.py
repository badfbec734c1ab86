"""What made a result: library versions, code revision, hardware, time, and where the settings of two differ."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from configs.config import REPOSITORY

_LIBRARIES = ("torch", "torchvision", "transformers", "accelerate", "tokenizers", "peft", "openai", "pillow", "numpy")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide the numbers of a run; one that is not installed is left out."""
    return dict(_library_versions())


@cache  # they are read from files that are parsed as e-mails are
def _library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def code_revision(checkout: Path = REPOSITORY) -> str | None:
    """The git commit of a checkout, with "+changes" if tracked files differ from it; None where there is none."""
    try:
        commit = _git(checkout, "rev-parse", "HEAD")
        changed = _git(checkout, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def differences(earlier: Any, current: Any, name: str = "") -> list[str]:
    """Where two settings in JSON differ, each as "decoding.max_new_tokens: 256 -> 512"."""
    if isinstance(earlier, dict) and isinstance(current, dict):
        keys = sorted(earlier.keys() | current.keys())
        return [d for key in keys for d in differences(earlier.get(key), current.get(key), f"{name}.{key}".strip("."))]
    return [] if earlier == current else [f"{name}: {earlier} -> {current}"]


def _git(checkout: Path, *arguments: str) -> str:
    # Not a repository around it: an installed package may lie in the environment of another project.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(checkout.parent)}
    command = ["git", "-C", str(checkout), *arguments]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=20)
    return process.stdout.strip()


def hardware() -> dict[str, Any]:
    """Processor, cores and (if torch is loaded and sees one) GPU of this machine."""
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else None
    return {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count(), "gpu": gpu}
