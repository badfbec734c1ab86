import json
import struct

import pytest

from leap.models.checkpoints import MANIFEST as MANIFEST_NAME
from leap.models.checkpoints import (
    SAVING,
    Manifest,
    begin_saving,
    find_all_checkpoints,
    find_checkpoints,
    finish_removals,
    last_complete_checkpoint,
    read_manifest,
    remove,
    weight_files,
    weights_sha256,
    why_incomplete,
    why_unloadable,
    write_manifest,
)
from leap.models.names import result_name

MANIFEST = Manifest(
    base_model="models/base",
    base_weights_sha256="b",
    kind="full",
    recipe={"seed": 1},
    data_sha256="d",
    pixel_budget={"shortest_edge": 1},
    chat_template_sha256="c",
    library_versions={"torch": "2"},
    steps=7,
    tokens_seen=70,
)


def safetensors(size=8, cut=0) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    content = struct.pack("<Q", len(header)) + header + b"\0" * size
    return content[: len(content) - cut]


def checkpoint(folder, manifest=True, weights=None):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights if weights is not None else safetensors())
    if manifest:
        write_manifest(folder, MANIFEST)
    return folder


def test_a_manifest_is_read_as_it_was_written_with_its_files(tmp_path):
    folder = checkpoint(tmp_path / "checkpoint-7")
    read = read_manifest(folder)
    assert (read.steps, read.recipe, read.tokens_seen) == (7, {"seed": 1}, 70)
    assert set(read.files) == {"config.json", "model.safetensors"}
    assert why_incomplete(folder) is None


def test_a_file_that_is_gone_or_cut_makes_a_checkpoint_incomplete(tmp_path):
    folder = checkpoint(tmp_path / "checkpoint-7")
    (folder / "model.safetensors").write_bytes(safetensors(cut=3))
    assert "model.safetensors has" in why_incomplete(folder)
    (folder / "model.safetensors").unlink()
    assert why_incomplete(folder) == "model.safetensors is missing"


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (safetensors(), None),
        (safetensors(cut=1), "is cut off"),
        (b"", "is not a safetensors file"),
        (b"\x05\0\0\0\0\0\0\0{nope" + b"x" * 9, "damaged header"),
    ],
)
def test_a_folder_from_elsewhere_is_judged_by_its_weights_header(tmp_path, weights, reason):
    found = why_incomplete(checkpoint(tmp_path / "checkpoint-9", manifest=False, weights=weights))
    assert found is None if reason is None else reason in found


def test_a_single_file_of_weights_counts_before_an_index_beside_it_as_transformers_loads_it(tmp_path):
    folder = checkpoint(tmp_path / "model", manifest=False)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}')
    assert weight_files(folder) == [folder / "model.safetensors"]
    assert why_incomplete(folder) is None, "the shards need not be there"
    whole = weights_sha256(folder)
    (folder / "model.safetensors").write_bytes(safetensors(cut=3))
    assert "model.safetensors is cut off" in why_incomplete(folder)
    assert weights_sha256(folder) != whole
    (folder / "model.safetensors").unlink()
    assert why_incomplete(folder) == "x.safetensors is missing"


def test_a_folder_whose_saving_was_interrupted_is_incomplete_until_its_manifest_is_written(tmp_path):
    folder = checkpoint(tmp_path / "checkpoint-9")
    begin_saving(folder)
    assert why_incomplete(folder) == "saving it was interrupted"
    assert last_complete_checkpoint(tmp_path) is None
    write_manifest(folder, MANIFEST)
    assert why_incomplete(folder) is None
    assert SAVING not in read_manifest(folder).files


def test_a_checkpoint_without_optimiser_state_can_be_loaded_and_not_resumed(tmp_path):
    folder = checkpoint(tmp_path / "checkpoint-9", manifest=False)
    (folder / "optimizer.pt").write_bytes(b"state")
    write_manifest(folder, MANIFEST)
    assert last_complete_checkpoint(tmp_path) == folder
    (folder / "optimizer.pt").unlink()
    assert why_incomplete(folder) is None
    assert why_incomplete(folder, to_resume=True) == "optimizer.pt is missing"
    assert last_complete_checkpoint(tmp_path) is None


def test_a_removal_that_was_killed_is_finished_at_the_next_start(tmp_path):
    (tmp_path / ".checkpoint-9.removed").mkdir()
    (tmp_path / ".checkpoint-9.removed" / "model.safetensors").write_bytes(b"gigabytes")
    kept = checkpoint(tmp_path / "checkpoint-12")
    finish_removals(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


def test_a_removed_checkpoint_is_gone_at_once(tmp_path):
    folder = checkpoint(tmp_path / "checkpoint-9")
    (tmp_path / ".checkpoint-9.removed").mkdir()  # what an earlier removal left when it was killed
    remove(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_of_a_later_version_is_read_and_a_broken_one_is_a_reason(tmp_path):
    folder = checkpoint(tmp_path / "checkpoint-9")
    content = json.loads((folder / MANIFEST_NAME).read_text())
    (folder / MANIFEST_NAME).write_text(json.dumps(content | {"added_later": 1}))
    assert why_incomplete(folder) is None
    (folder / MANIFEST_NAME).write_text("[]")
    assert "is not a LEAP manifest" in why_incomplete(folder)


def test_steps_order_by_number_and_the_last_complete_one_is_resumed(tmp_path):
    for step in (200, 1000, 30):
        checkpoint(tmp_path / f"checkpoint-{step}")
    checkpoint(tmp_path / "checkpoint-2000", manifest=False)
    (tmp_path / "checkpoint-x").mkdir()
    assert [f.name for f in find_checkpoints(tmp_path)] == [f"checkpoint-{s}" for s in (30, 200, 1000, 2000)]
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-1000"
    assert last_complete_checkpoint(tmp_path / "nowhere") is None


def test_runs_of_their_own_folder_are_found_and_named_by_run_and_step(tmp_path):
    checkpoint(tmp_path / "checkpoint-200")
    checkpoint(tmp_path / "lora_standard" / "checkpoint-200")
    found = find_all_checkpoints(tmp_path)
    assert [result_name(f, tmp_path) for f in found] == ["checkpoint-200", "lora_standard-checkpoint-200"]


def test_the_identity_of_weights_is_their_content(tmp_path):
    a, b = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b")
    assert weights_sha256(a) == weights_sha256(b)
    (b / "model.safetensors").write_bytes(safetensors(size=12))
    assert weights_sha256(a) != weights_sha256(b)


def test_a_header_that_is_nested_too_deep_is_damaged(tmp_path):
    header = b"[" * 200_000
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert why_incomplete(tmp_path) == "model.safetensors has a damaged header"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "[]"),
        ("adapter_config.json", "[]"),
        ("model.safetensors.index.json", "[]"),
        ("model.safetensors.index.json", '{"weight_map": [1]}'),
        ("model.safetensors.index.json", '{"weight_map": {"a": ["b"]}}'),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../../etc/passwd"}}'),
    ],
)
def test_a_folder_whose_json_describes_no_model_has_a_reason(tmp_path, name, content):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text(content)
    assert name in why_unloadable(tmp_path)


def test_offsets_of_a_header_that_are_no_numbers_are_damage(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    header = b'{"a": {"data_offsets": "xx"}}'
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "damaged header" in why_unloadable(tmp_path)
