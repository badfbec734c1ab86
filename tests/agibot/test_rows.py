"""Frames and annotations become rows; what makes none is listed with its reason."""

import json

from leap.files import read_jsonl
from leap.rows.records import read_rows
from tests.agibot.annotated import EPISODES, SCRIPT, annotation, files_of
from tests.agibot.archives import task_archive
from tests.conftest import assert_one_line_error, run_script


def test_entries_that_make_no_row_are_listed_with_their_reasons(root, source):
    entries = [
        annotation(327, 1),
        annotation(327, 2),
        annotation(327, 2),
        annotation(327, 3, label_info={"action_config": []}),
        annotation(327, 77),
        annotation(327, 2, task_name="Other"),
        annotation(328, 4),
        annotation(327, 5),
    ]
    task_archive(source, "327", EPISODES | {"6": [0]})
    assert run_script(SCRIPT, "--source", source, "--tasks", 327, "--workers", 1).returncode == 0
    picture = root / "data" / "images" / "327-5.png"
    picture.write_bytes(picture.read_bytes()[:-10])
    notes = source / "task_327.json"
    notes.write_text(json.dumps(entries))
    done = run_script(SCRIPT, "--annotations", notes)
    assert done.returncode == 0, done.stderr
    assert [row.id for row in read_rows(root / "data" / "agibot_all.jsonl")] == ["327-1", "327-2"]
    left_out = read_jsonl(root / "data" / "agibot" / "quarantine.jsonl")
    reasons = {one["source"]: one["reason"] for one in left_out}
    assert {source.rpartition("[")[2]: reason.split(":")[0] for source, reason in reasons.items()} == {
        "2]": "duplicate episode",
        "3]": "has no steps",
        "4]": "missing image",
        "5]": "duplicate episode",
        "6]": "task id is 327 by the file's name, 328 by task_id",
        "7]": "damaged image",
    }
    assert "another plan" in reasons["source/task_327.json[5]"]
    assert "the same plan" in reasons["source/task_327.json[2]"]
    assert "9 first frames have no usable annotation" in done.stdout
    # What gives no rows takes none away.
    before = files_of(root)
    notes.write_text("[]")
    assert_one_line_error(run_script(SCRIPT, "--annotations", notes), f"no entry in {notes}")
    assert files_of(root) == before
    notes.write_text(json.dumps([annotation(327, 1, label_info={"action_config": []})]))
    assert_one_line_error(run_script(SCRIPT, "--annotations", notes), "no rows", "quarantine.jsonl")
    after = files_of(root)
    assert {name for name in before | after if before.get(name) != after.get(name)} == {"data/agibot/quarantine.jsonl"}


def test_an_episode_that_has_lost_its_first_frames_gets_no_picture_of_its_middle(root, source):
    task_archive(source, "327", {"1": [0, 300], "2": [300, 330], "3": [8 + 30]})
    assert run_script(SCRIPT, "--source", source, "--tasks", 327, "--workers", 1).returncode == 0
    config = [{"start_frame": 8, "end_frame": 218, "action_text": "Pick up the cup."}]
    config += [{"start_frame": 218, "end_frame": 400, "action_text": "Put it down."}]
    notes = source / "task_327.json"
    notes.write_text(json.dumps([annotation(327, n, label_info={"action_config": config}) for n in (1, 2, 3)]))
    assert run_script(SCRIPT, "--annotations", notes).returncode == 0
    assert [row.id for row in read_rows(root / "data" / "agibot_all.jsonl")] == ["327-1", "327-3"]
    [left_out] = read_jsonl(root / "data" / "agibot" / "quarantine.jsonl")
    assert left_out["episode_id"] == "2"
    assert left_out["reason"].endswith("its first frame is 300, its first step begins at 8")
