"""Planning rows out of annotated episodes and their first frames; what cannot be one is listed with its reason.

data/agibot_all.jsonl           rows of leap/rows/records.py, by task and episode
data/agibot/metadata.jsonl      of each row: {"id", "task_id", "episode_id", "task_name", "scene", "skills", "frames",
                                "image", "image_sha256", "licence", "source"}; skills and frames are those of the
                                steps, [] where the annotation has none
data/agibot/quarantine.jsonl    {"source", "task_id", "episode_id", "reason"}
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leap.agibot.annotations import AnnotatedEpisode, RejectedEntry, annotation_files, read_annotations
from leap.agibot.frames import FramesManifest, frame_path, manifest_path, read_manifest
from leap.files import write_jsonl
from leap.progress import Progress
from leap.rows.chat import planning_prompt
from leap.rows.images import intact_bytes

_MOST_FRAMES_LATE = 30  # a second: frames may be counted from 1, or thinned out


@dataclass
class AnnotatedRows:
    """Rows with their metadata, in order, and what was left out; `unannotated` counts first frames that no usable entry
    is about."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    unannotated: int = 0

    def reasons(self) -> Counter[str]:
        """How many entries were left out for what kind of reason."""
        return Counter(entry["reason"].split(":")[0] for entry in self.quarantined)


def prepare_rows(paths: Sequence[Path], data: Path, tasks: Sequence[str] = (), workers: int = 4) -> AnnotatedRows:
    """Rows for the annotated episodes in these files and folders (of these tasks; all without any) whose picture is in
    data/images. Of two entries about an episode the first counts. UserError if there is no file to read."""
    prepared = AnnotatedRows()
    episodes: dict[tuple[str, str], AnnotatedEpisode] = {}
    files = annotation_files(paths)
    with Progress("reading annotations", len(files), "file") as progress:
        for file in files:
            for entry in read_annotations(file):
                if not tasks or entry.task_id in tasks:
                    _take(entry, episodes, prepared)
            progress.advance()
    ordered = sorted(episodes.values(), key=_order)
    pictures = _FirstFrames(data, {episode.task_id for episode in ordered})
    with ThreadPoolExecutor(workers) as pool, Progress("checking pictures", len(ordered), "picture") as progress:
        for episode, (digest, problem) in zip(ordered, pool.map(pictures.look, ordered), strict=True):
            if problem:
                _reject(prepared, RejectedEntry(episode.where, problem, episode.task_id, episode.episode_id))
            else:
                prepared.rows.append(_row(episode))
                prepared.metadata.append(_metadata(episode, digest))
            progress.advance()
    prepared.unannotated = pictures.count_others({(annotated.task_id, annotated.episode_id) for annotated in ordered})
    return prepared


def write_rows(prepared: AnnotatedRows, data: Path, output: Path) -> list[Path]:
    """Write the three files, the rows last; the paths written. The same input gives the same bytes. Without rows only
    the quarantine is written: those of earlier runs stay."""
    written = {data / "agibot" / "quarantine.jsonl": prepared.quarantined}
    if prepared.rows:
        written |= {data / "agibot" / "metadata.jsonl": prepared.metadata, output: prepared.rows}
    for path, records in written.items():
        write_jsonl(path, records)
    return list(written)


def _take(
    entry: AnnotatedEpisode | RejectedEntry, episodes: dict[tuple[str, str], AnnotatedEpisode], prepared: AnnotatedRows
) -> None:
    if isinstance(entry, RejectedEntry):
        _reject(prepared, entry)
        return
    first = episodes.setdefault((entry.task_id, entry.episode_id), entry)
    if first is not entry:
        same = (first.task_name, first.steps) == (entry.task_name, entry.steps)
        plan = "the same plan as" if same else "another plan than"
        reason = f"duplicate episode: {plan} {first.where}, which counts"
        _reject(prepared, RejectedEntry(entry.where, reason, entry.task_id, entry.episode_id))


def _reject(prepared: AnnotatedRows, rejected: RejectedEntry) -> None:
    prepared.quarantined.append(
        {
            "source": rejected.where,
            "task_id": rejected.task_id,
            "episode_id": rejected.episode_id,
            "reason": rejected.reason,
        }
    )


class _FirstFrames:
    """The first frames in place, by what the manifests say of them."""

    def __init__(self, data: Path, tasks: Iterable[str]) -> None:
        self.data = data
        self.manifests: dict[str, FramesManifest] = {}
        for task in tasks:
            path = manifest_path(data, task)
            if path.is_file():
                self.manifests[task] = read_manifest(path)
        self.refused = {
            (entry["task_id"], entry["episode_id"]): entry["reason"]
            for manifest in self.manifests.values()
            for entry in manifest.quarantined
        }

    def look(self, episode: AnnotatedEpisode) -> tuple[str, str | None]:
        """(sha256 of the episode's picture, None), or ("", why there is none). Reads what no manifest tells of."""
        path = frame_path(self.data, episode.task_id, episode.episode_id)
        refused = self.refused.get((episode.task_id, episode.episode_id))
        if refused:
            return "", f"no image taken from its archive: {refused}"
        if not path.is_file():
            return "", f"missing image: images/{path.name}"
        manifest = self.manifests.get(episode.task_id)
        frame = manifest.episodes.get(episode.episode_id) if manifest else None
        begin = min((start for start, _ in episode.frames), default=None)
        if frame and frame.number is not None and begin is not None and frame.number > begin + _MOST_FRAMES_LATE:
            return "", f"no image of its start: its first frame is {frame.number}, its first step begins at {begin}"
        if frame and path.stat().st_size == frame.bytes:
            return frame.sha256, None
        try:
            return hashlib.sha256(intact_bytes(path)).hexdigest(), None
        except ValueError as error:
            return "", f"damaged image: images/{path.name} {error}"

    def count_others(self, annotated: set[tuple[str, str]]) -> int:
        return sum(
            (task, episode) not in annotated
            for task, manifest in self.manifests.items()
            for episode in manifest.episodes
        )


def _order(episode: AnnotatedEpisode) -> tuple[int, int, str, str]:
    return int(episode.task_id), int(episode.episode_id), episode.task_id, episode.episode_id


def _image(episode: AnnotatedEpisode) -> str:
    return f"images/{episode.task_id}-{episode.episode_id}.png"


def _row(episode: AnnotatedEpisode) -> dict[str, Any]:
    content = [
        {"type": "image", "image": _image(episode)},
        {"type": "text", "text": planning_prompt(episode.task_name)},
    ]
    steps = " ".join(f"{number}) {step}" for number, step in enumerate(episode.steps, 1))
    return {
        "id": f"{episode.task_id}-{episode.episode_id}",
        "task_id": episode.task_id,
        "episode_id": episode.episode_id,
        "task_name": episode.task_name,
        "messages": [{"role": "user", "content": content}],
        "target": {"steps": steps},
    }


def _metadata(episode: AnnotatedEpisode, digest: str) -> dict[str, Any]:
    return {
        "id": f"{episode.task_id}-{episode.episode_id}",
        "task_id": episode.task_id,
        "episode_id": episode.episode_id,
        "task_name": episode.task_name,
        "scene": episode.scene,
        "skills": episode.skills,
        "frames": episode.frames,
        "image": _image(episode),
        "image_sha256": digest,
        "licence": episode.licence,
        "source": episode.where,
    }
