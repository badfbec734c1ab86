"""The table of a planning file: made in one step, killed at any moment, looked at again where something changed."""

import multiprocessing
import time

import pytest
from PIL import Image

from leap.rows.arrow import open_table
from leap.training.measuring import CheckJob, checked_table
from leap.training.preflight import check_file
from leap.training.supervision import PlanningCollator
from tests.training.planning_lines import row

FORK = multiprocessing.get_context("fork")


def started_check(path, collator, answer):
    """A process that checks `path` and writes rows and tokens to the file `answer`. It is forked, with all modules
    loaded, so that a kill meets the check."""

    def check():
        checked = check_file(path, collator, 256, workers=2)
        answer.write_text(f"{len(checked.rows)} rows, {checked.lengths.total.sum()} tokens")

    process = FORK.Process(target=check)
    process.start()
    return process


def tables(folder):
    return sorted(folder.glob(".*.arrow"))


def test_lines_are_measured_as_rows_are_one_by_one(mixed, collator):
    check = check_file(mixed, collator, 256, workers=1)
    assert list(check.lengths) == [collator.length(each) for each in check.rows]


def test_a_row_that_cannot_be_measured_leaves_the_others_of_its_chunk_alone(workspace, collator, monkeypatch):
    length = PlanningCollator.lengths

    def fails(self, rows, images):
        if any("odd" in each.messages[0]["content"][0]["text"] for each in rows):
            raise ValueError("odd")
        return length(self, rows, images)

    monkeypatch.setattr(PlanningCollator, "lengths", fails)
    (workspace / "rows.jsonl").write_text("\n".join([row("a"), row("odd"), row("c")]))
    check = check_file(workspace / "rows.jsonl", collator, 256)
    assert [taken.where[-1] for taken in check.rows] == ["1", "3"]
    assert "rows.jsonl:2: the row cannot be prepared (ValueError: odd)" in check.rejected[0].defect


def test_a_table_is_written_anew_only_where_something_changed(mixed, collator):
    job = CheckJob(mixed, collator, 1)
    file = checked_table(job, None)
    inode = file.stat().st_ino
    assert checked_table(job, None) == file
    assert file.stat().st_ino == inode
    Image.new("RGB", (128, 64), "red").save(mixed.parent / "a.png")
    Image.new("RGB", (64, 64), "red").save(mixed.parent / "gone.png")
    before = open_table(file)
    assert checked_table(job, None) == file
    assert file.stat().st_ino != inode
    after = open_table(file)
    changed = [i for i in range(len(after)) if not after[i : i + 1].equals(before[i : i + 1])]
    assert changed == [3, 11], "the row whose picture changed, and the one whose picture is there now"


def test_a_picture_that_now_comes_first_is_noticed(workspace, collator):
    folder = workspace / "rows"
    folder.mkdir()
    Image.new("RGB", (64, 64), "red").save(workspace / "a.png")
    (folder / "rows.jsonl").write_text(row(image="a.png"))
    small = check_file(folder / "rows.jsonl", collator, 256).lengths[0].visual
    Image.new("RGB", (256, 64), "red").save(folder / "a.png")
    assert check_file(folder / "rows.jsonl", collator, 256).lengths[0].visual > small


def test_changed_data_makes_a_new_table_and_removes_the_old(mixed, collator):
    check_file(mixed, collator, 256, workers=1)
    (old,) = tables(mixed.parent)
    mixed.write_text(mixed.read_text() + row("h") + "\n")
    assert len(check_file(mixed, collator, 256, workers=1).rows) == 9
    (new,) = tables(mixed.parent)
    assert new != old


@pytest.mark.slow
def test_checks_that_are_killed_or_run_at_once_leave_one_whole_table(workspace, collator):
    path = workspace / "many.jsonl"
    path.write_text("\n".join(row(f"{i} " + "word " * 20) for i in range(4000)))
    answers = [workspace / name for name in ("undisturbed", "killed", "one", "other")]
    started = time.monotonic()
    started_check(path, collator, answers[0]).join()
    whole_s = time.monotonic() - started
    assert answers[0].read_text().startswith("4000 rows")
    tables(path.parent)[0].unlink()
    for share in (0.4, 0.7, 0.85, 0.95):
        process = started_check(path, collator, answers[1])
        time.sleep(share * whole_s)
        process.kill()
        process.join()
        for table in tables(path.parent):
            assert len(open_table(table)) == 4000
            table.unlink()
    at_once = [started_check(path, collator, answer) for answer in answers[2:]]
    for process in at_once:
        process.join()
    assert {answer.read_text() for answer in answers[2:]} == {answers[0].read_text()}
    assert len(tables(path.parent)) == 1
