"""The Hugging Face Hub: what of a checkpoint or a data set is published, and its upload.

Nothing of this machine goes along: paths in the JSON files are cut, pickled run state stays here. The token comes from
the library's own places (`hf auth login` or HF_TOKEN) and the address is the library's default or HF_ENDPOINT.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.files import read_json
from leap.models.checkpoints import CARD, MANIFEST, is_run_state, manifest_text, read_manifest, why_incomplete
from leap.publish.model_card import base_name, portable, training_curve
from leap.rows.chat import image_items, resolve_image
from leap.rows.records import PlanningRow, iter_rows
from leap.rows.sharing import why_not_shared, why_outside
from leap.rows.videos import video_items

# Files that the libraries write paths of this machine into.
_WITH_PATHS = ("config.json", "adapter_config.json", "trainer_state.json")
# The Hub refuses a folder of more files.
_MOST_IN_A_FOLDER = 10_000


@dataclass
class Upload:
    """What goes up (name in the repository -> a file here, or the text it will hold) and what stays, with reasons."""

    repo_type: str  # "model" or "dataset"
    title: str
    files: dict[str, Path | str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def size(self, name: str) -> int:
        """Bytes of a file that goes up."""
        content = self.files[name]
        return len(content.encode("utf-8")) if isinstance(content, str) else content.stat().st_size

    def lines(self) -> list[str]:
        """What goes up with its size, a folder in one line, and what stays."""
        sizes: dict[str, list[int]] = {}
        for name in sorted(self.files):
            folder, slash, _ = name.partition("/")
            sizes.setdefault(folder + slash, []).append(self.size(name))
        return [
            *(
                f"{sum(each):>16,}  {name}" + (f" ({len(each):,} files)" if name.endswith("/") else "")
                for name, each in sizes.items()
            ),
            f"{sum(map(sum, sizes.values())):>16,}  bytes in {len(self.files):,} files",
            *(f"stays here: {name} ({reason})" for name, reason in self.left_out.items()),
        ]


def checkpoint_upload(
    folder: Path, workspace: WorkspaceConfig, base_id: str | None = None, with_run_state: bool = False
) -> Upload:
    """The files of a complete checkpoint, all but its card.

    The manifest lists the files as published, so that who downloads them can tell complete from torn. UserError if the
    checkpoint is incomplete or none of LEAP's.
    """
    problem = why_incomplete(folder, to_resume=with_run_state)
    manifest = None if problem else read_manifest(folder)
    if manifest is None:
        raise UserError(f"cannot publish {folder}: {problem or f'it has no {MANIFEST}; hf upload takes any folder'}")
    upload = Upload("model", folder.name)
    for path in sorted(folder.iterdir()):
        if path.name in (CARD, MANIFEST):
            continue
        if path.is_dir():
            upload.left_out[f"{path.name}/"] = "a folder"
        elif path.name == "training_args.bin":
            upload.left_out[path.name] = "a pickle with paths of this machine; resuming does not need it"
        elif is_run_state(path.name) and not with_run_state:
            upload.left_out[path.name] = "state of the run; --with_run_state takes it along"
        elif path.name in _WITH_PATHS:
            upload.files[path.name] = _portable_text(path, workspace.root, base_name(manifest, base_id))
        else:
            upload.files[path.name] = path
    published = replace(
        manifest,
        base_model=base_name(manifest, base_id),
        recipe=portable(manifest.recipe, workspace.root),
        files={name: upload.size(name) for name in upload.files},
    )
    upload.files[MANIFEST] = manifest_text(published)
    curve = training_curve(folder)
    if curve:
        upload.files[curve.name] = curve
    return upload


def _portable_text(path: Path, root: Path, base: str) -> str:
    content = portable(read_json(path), root)
    if "base_model_name_or_path" in content:
        content["base_model_name_or_path"] = base
    return json.dumps(content, indent=2) + "\n"


def dataset_files(path: Path) -> list[Path]:
    """The JSONL files that `path` means: itself, or those directly in the folder. UserError if there are none."""
    files = [path] if path.is_file() else sorted(path.glob("*.jsonl"))
    if not files or files[0].suffix != ".jsonl":
        raise UserError(f"{path} holds no planning rows: name a .jsonl file, or a folder with some")
    return files


def dataset_upload(path: Path) -> Upload:
    """The JSONL file `path`, or those of a folder, with the archives of pictures beside them, else with the pictures
    that their rows name. A file that is no picture, and a link that leads out of the folder, stay here.

    UserError for a row that is none, a picture that is missing or lies elsewhere, and more pictures than the Hub takes
    as single files.
    """
    files = dataset_files(path)
    folder = files[0].parent
    archives = sorted(p for p in folder.iterdir() if p.is_file() and p.name.endswith((".tar", ".tar.gz", ".tgz")))
    outside = {archive.name: reason for archive in archives if (reason := why_outside(archive, [folder]))}
    archives = [archive for archive in archives if archive.name not in outside]
    upload = Upload("dataset", path.name, {file.name: file for file in [*files, *archives]}, outside)
    pictures: dict[str, Path] = {}
    for file in files:
        for row in iter_rows(file):
            if video_items(row):
                raise UserError(f"{row.where}: videos are not taken along; hf upload takes any folder")
            for written in image_items(row):
                _refuse_outside(written, row)
                if not archives:
                    picture = _beside(written, row)
                    pictures[picture.relative_to(folder).as_posix()] = picture
    upload.left_out |= {
        name: reason for name, picture in pictures.items() if (reason := why_not_shared(picture, [folder]))
    }
    pictures = {name: picture for name, picture in pictures.items() if name not in upload.left_out}
    _refuse_crowded(pictures, folder)
    upload.files |= pictures
    parts = {PurePosixPath(name).parts[0] for name in (*upload.files, *upload.left_out)}
    for other in sorted(folder.iterdir()):
        if other.name not in parts and other.name != CARD:
            packed = other.is_dir() and archives
            upload.left_out[other.name + "/" * other.is_dir()] = (
                f"taken to be in {archives[0].name}" if packed else "no part of it"
            )
    return upload


def _refuse_crowded(pictures: Iterable[str], folder: Path) -> None:
    """UserError if more pictures lie in one folder than the Hub takes."""
    by_folder = Counter(PurePosixPath(name).parent.as_posix() for name in pictures)
    for parent, count in by_folder.items():
        if count > _MOST_IN_A_FOLDER:
            raise UserError(
                f"{count:,} pictures in {parent}/, and the Hub takes {_MOST_IN_A_FOLDER:,} files a "
                f"folder. Pack them first: tar -czf {folder}/images.tar.gz -C {folder} {parent}"
            )


def _refuse_outside(written: str, row: PlanningRow) -> None:
    path = PurePosixPath(written.removeprefix("file://"))
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"{row.where}: the picture {written} lies outside the data set; elsewhere nobody finds it. "
            "Write paths relative to the JSONL file"
        )


def _beside(written: str, row: PlanningRow) -> Path:
    """The picture in the folder of its JSONL file, where it lies in the repository too."""
    try:
        return resolve_image(written, row, image_root=row.folder, workspace=row.folder)
    except UserError as error:
        raise UserError(
            f"{row.where}: the picture {written} is not beside the JSONL file. Put it or an archive of all there"
        ) from error


def push(upload: Upload, repo_id: str, private: bool = False) -> str:
    """Create the repository if it is not there, upload, and return the address of the commit.

    An interrupted upload goes on with the same call: what is there already is not sent again. Files that are only in
    the repository stay. UserError if there is no token or the Hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import disable_progress_bars

    if get_token() is None:
        raise UserError("no token of the Hub found: run `hf auth login`, or set HF_TOKEN")
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi()
    with _one_line_errors(repo_id, api.endpoint), tempfile.TemporaryDirectory() as staged:
        for name, content in upload.files.items():
            place = Path(staged, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                place.write_text(content, encoding="utf-8")
            else:
                place.symlink_to(content.resolve())
        # None leaves the visibility to the owner's default; True is ignored by a repository that is there already.
        api.create_repo(repo_id, repo_type=upload.repo_type, private=private or None, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            repo_type=upload.repo_type,
            folder_path=staged,
            commit_message=f"Upload {upload.title}",
        )
    return commit.commit_url


@contextmanager
def _one_line_errors(repo_id: str, endpoint: str) -> Iterator[None]:
    """Turn what the Hub or the way to it can raise into a UserError."""
    # The library's HTTP package is httpx or a successor, by its version; its error classes are these in either.
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise UserError("HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it") from error
    # hf_xet, which carries large files unless HF_HUB_DISABLE_XET is set, raises Python's own errors.
    except (HTTPError, ConnectionError, TimeoutError, PermissionError, RuntimeError, ValueError) as error:
        chain = list(_causes(error))  # an upload of one file fails in a worker thread, which wraps the cause
        refusal = next((cause for cause in chain if isinstance(cause, HfHubHTTPError)), None)
        if refusal is not None:
            status = refusal.response.status_code
            advice = {
                401: "the token is not valid; run `hf auth login`, or set HF_TOKEN",
                403: f"the token may not write to {repo_id}; check the owner, and that the token has write access",
                404: f"there is no {repo_id}, or the token may not see it",
                429: "too many requests; run the same command again in five minutes",
            }.get(status, f"{refusal.server_message or 'no reason given'}; the same command goes on where it was")
            raise UserError(f"{endpoint} answered {status}: {advice}") from error
        for cause in chain:
            if isinstance(cause, HTTPError):
                raise UserError(
                    f"cannot reach {endpoint}: {cause or type(cause).__name__}. Check the network and HF_ENDPOINT; the "
                    "same command goes on where it was"
                ) from error
        raise UserError(
            f"upload to {endpoint} failed: {error}. The same command goes on where it was; with a mirror, or if it "
            "fails again, set HF_HUB_DISABLE_XET=1"
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
