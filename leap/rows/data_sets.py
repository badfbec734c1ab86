"""Rows of Hugging Face `datasets`: a folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote, or a
repository of the Hub. leap/rows/places.py says how they are named.

Pictures in a column or an item, {"bytes": ..., "path": ...} as datasets.Image keeps them, become files named by their
content, hidden beside the data: .<name>.pictures/<hash>. A file that is there already is not written again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.errors import UserError
from leap.files import sha256_file, sha256_json
from leap.rows.places import is_of_hub, name_of, places_beside, split_of
from leap.text import first_line

BATCH = 100  # rows in memory, with their pictures
MEDIA_KEYS = ("image", "images", "video", "videos")  # where bytes alone are a picture or a video
_EXAMPLES = [f"{'*/' * depth}example*/output/operation_sequence.json" for depth in range(3)]
_ADVICE_OF_HUB = "Check the name, the connection and your access"
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


def is_data_set(data: Path) -> bool:
    """Whether a source is no single file."""
    return is_of_hub(data) or split_of(data)[0].is_dir()


def require_data_set(data: Path, what: str) -> None:
    """UserError for a folder that is no data set, or a name that is none of the Hub; nothing is loaded or asked for.
    `what` says what it is for, as in "training file"."""
    folder, _ = split_of(data)
    if is_of_hub(data):
        if len(folder.parts) not in (3, 4):
            raise UserError(f"{name_of(data)}: a data set of the Hub is named hf://owner/name or hf://owner/name#split")
    elif any(next(folder.glob(pattern), None) for pattern in _EXAMPLES):
        raise UserError(
            f"{folder} holds examples of a benchmark, not rows. Make rows of those that are not tested on: "
            f"python scripts/utils/make_grounding_rows.py --data_path {folder}"
        )
    elif not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        raise UserError(
            f"{what} must be a file, or a data set as save_to_disk of the package datasets writes it: {folder} is a "
            "folder, and none of these. Name a file in it (.jsonl, .jsonl.gz, .parquet)"
        )


def count_rows(data: Path) -> int:
    return len(_opened(data))


def content_sha256(data: Path) -> str:
    """Hash of the content of a source, a file or a data set."""
    if not is_data_set(data):
        return sha256_file(data)
    return sha256_json([sha256_file(file) for file in files_of(data)])


def contents_sha256(sources: Sequence[Path]) -> str:
    """One hash of the content of several sources, as the manifest of a checkpoint has it."""
    return sha256_json(list(map(content_sha256, sources)))


def version_sha256(data: Path) -> str:
    """Hash of what tells versions of a source apart without reading it: sizes of files, a commit of the Hub. UserError
    if it is not there."""
    if not is_of_hub(data):
        return sha256_json([[file.name, file.stat().st_size] for file in files_of(data)])
    from huggingface_hub import HfApi

    try:
        return sha256_json(HfApi().dataset_info("/".join(split_of(data)[0].parts[1:3])).sha)
    except unreadable() as error:
        raise UserError(f"{name_of(data)}: the Hub does not show it ({first_line(error)}). {_ADVICE_OF_HUB}") from error


def files_of(data: Path) -> list[Path]:
    """The files that hold the rows of a source."""
    return [Path(file["filename"]) for file in _opened(data).cache_files] if is_data_set(data) else [data]


def data_set_lines(data: Path, media: MediaFolder) -> Iterator[bytes]:
    """The rows as JSON, pictures as the paths of files. UserError where one cannot be read or said in JSON."""
    for number, record in enumerate(_records(data), 1):
        yield json_line(record, media, f"{name_of(data)}:{number}")


def _records(data: Path) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        for table in _opened(data).with_format("arrow").iter(BATCH):
            for record in table.to_pylist():
                number += 1
                yield record
    except unreadable() as error:
        reason = first_line(error)
        raise UserError(f"{name_of(data)}:{number + 1}: cannot be read ({reason}). Fetch or save it anew") from error


def iterable_data_set(data: Path) -> Any:
    """The datasets.IterableDataset of a source, of the Hub without a copy on this disk; pictures stay encoded."""
    data_set = _opened(data, streamed=True)
    if not is_of_hub(data):
        data_set = data_set.to_iterable_dataset()
    return data_set.decode(False) if data_set.features else data_set


def unreadable() -> tuple[type[Exception], ...]:
    """What is raised where a data set cannot be read."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    return OSError, ValueError, KeyError, DatasetsError, pa.ArrowException


def _opened(data: Path, *, streamed: bool = False) -> Any:
    """The datasets.Dataset of a source; of the Hub an IterableDataset where it is `streamed`. UserError where there is
    none."""
    from datasets import load_from_disk

    folder, split = split_of(data)
    try:
        data_set = _of_hub(folder, streamed=streamed) if is_of_hub(data) else load_from_disk(folder)
    except unreadable() as error:
        advice = _ADVICE_OF_HUB if is_of_hub(data) else "Save or fetch it anew"
        raise UserError(f"{name_of(data)}: no data set can be read there ({first_line(error)}). {advice}") from error
    if not isinstance(data_set, dict):
        if split is not None:
            raise UserError(f"{name_of(data)}: there are no splits; name {name_of(folder)}")
        return data_set
    if split is None and len(data_set) == 1:
        return next(iter(data_set.values()))
    if split not in data_set:
        names = ", ".join(data_set)
        raise UserError(
            f"{name_of(data)}: the splits are {names}; name one as {name_of(folder)}#{next(iter(data_set), 'train')}"
        )
    return data_set[split]


@functools.cache  # one version a run, asked for once
def _of_hub(repository: Path, *, streamed: bool) -> Any:
    from datasets import load_dataset

    return load_dataset("/".join(repository.parts[1:3]), *repository.parts[3:4], streaming=streamed)


class MediaFolder:
    """Where pictures and videos that stand in rows themselves become files: hidden beside the data, or in the folder
    that `folder` is set to."""

    def __init__(self, data: Path) -> None:
        self._data = data

    @functools.cached_property
    def folder(self) -> Path:
        """UserError if none of the places can be written."""
        problems = []
        for place in places_beside(self._data):
            folder = place / f".{self._data.name}.pictures"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if os.access(folder, os.W_OK):
                    return folder
                problems.append(f"{folder}: not ours to write")
            except OSError as error:
                problems.append(f"{folder}: {error.strerror or error}")
        raise UserError(
            f"the pictures of {name_of(self._data)} cannot be written ({'; '.join(problems)}). HF_HOME names another "
            "folder"
        )

    def path_of(self, content: bytes, name: str | None) -> str:
        """The file of a picture, once it is there. `name` is what its file was called."""
        digest = hashlib.sha256(content).hexdigest()
        suffix = Path(name or "").suffix.lower()
        path = self.folder / digest[:2] / (digest[2:34] + (suffix if _SUFFIX.fullmatch(suffix) else ""))
        if not path.is_file() or path.stat().st_size != len(content):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}")
            part.write_bytes(content)  # not synced, as a million would take hours: a size that is wrong is written anew
            part.replace(path)
        return str(path)


def json_line(record: dict[str, Any], media: MediaFolder, where: str) -> bytes:
    """A row of a table as a line of JSON, without the keys that are null, as Arrow fills them up. UserError that begins
    with `where` for bytes that are no picture's."""

    def plain(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            if value.keys() == {"bytes", "path"}:
                return value["path"] if value["bytes"] is None else media.path_of(value["bytes"], value["path"])
            return {name: plain(item, name) for name, item in value.items() if item is not None}
        if isinstance(value, list):
            return [plain(item, key) for item in value]
        if isinstance(value, bytes) and key in MEDIA_KEYS:
            return media.path_of(value, None)
        return value

    def refuse(value: object) -> Any:
        if isinstance(value, bytes):
            raise UserError(f"{where}: the row holds bytes outside of {', '.join(MEDIA_KEYS)}; leave that column out")
        return str(value)  # a time or a decimal number

    return json.dumps(plain(record, ""), default=refuse).encode()
