"""Asking what a journal does not answer yet: killed, failed, under other settings, by two processes."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from configs.errors import UserError
from leap.files import read_jsonl
from leap.planners import MachineFailure
from leap.planners.asking import as_recorded
from leap.runs.ranks import Ranks
from tests.conftest import assert_one_line_error, run_script
from tests.vlabench.scripted import COUNTS, Script, evaluate, place_of, truth


def test_a_torn_journal_is_repaired_and_the_batch_keeps_its_members(examples, folder):
    evaluate(Script(truth(examples)), examples, folder)
    journal = folder / "generations.jsonl"
    scores = (folder / "final_score.json").read_bytes()
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:1]) + lines[1][: len(lines[1]) // 2])
    again = Script(truth(examples))
    evaluate(again, examples, folder)
    assert again.asked == [[(e.task, e.number) for e in examples[i : i + 2]] for i in (0, 2)]
    assert [(r["task"], r["example"]) for r in read_jsonl(journal)] == [(e.task, e.number) for e in examples]
    assert (folder / "final_score.json").read_bytes() == scores


def test_a_failure_is_on_disk_before_the_next_batch_is_asked(examples, folder):
    def answer(query):
        if place_of(query)[0] == "select_fruit_spatial":
            raise KeyboardInterrupt
        raise MachineFailure("refused")

    with pytest.raises(KeyboardInterrupt):
        evaluate(Script(answer), examples, folder)
    assert len(read_jsonl(folder / "failures.jsonl")) == 2
    again = Script(truth(examples))
    evaluate(again, examples, folder)
    assert again.asked == [[("select_fruit_spatial", 0), ("select_fruit_spatial", 1)]]


def test_other_settings_never_mix_into_a_result(examples, folder):
    evaluate(Script(truth(examples)), examples, folder)
    with pytest.raises(UserError, match=r"other settings \(prompt.with_cot: False -> True\).*--overwrite"):
        evaluate(Script(truth(examples)), examples, folder, with_cot=True)
    with pytest.raises(UserError, match=r"planner.planner: script -> another"):
        evaluate(Script(truth(examples), "another"), examples, folder)


def test_overwrite_replaces_answers_under_other_settings_and_keeps_those_under_the_same(examples, folder):
    evaluate(Script(lambda q: "no idea"), examples, folder)
    first = Script(truth(examples), "another")
    summary = evaluate(first, examples, folder, overwrite=True)
    assert len(first.asked) == 2
    assert summary["outcomes"]["grounded"] == {"ok": 4}
    again = Script(truth(examples), "another")
    evaluate(again, examples, folder, overwrite=True)
    assert again.asked == []


def test_settings_without_answers_do_not_hold_the_folder(examples, folder):
    def broken(query):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(Script(broken), examples, folder)
    assert evaluate(Script(truth(examples), "another"), examples, folder)["examples"]["answered"] == 4


class ThreadRanks(Ranks):
    """One of two processes, as a thread."""

    barrier = Barrier(2, timeout=30)

    def wait(self):
        self.barrier.wait()


def test_two_processes_share_the_batches_and_leave_the_files_of_one(examples, folder):
    evaluate(Script(truth(examples)), examples, folder)
    shared = folder.with_name("shared")
    shared.mkdir()
    left = read_jsonl(folder / "generations.jsonl")[2:3]  # of a third process, which was killed
    (shared / "generations-rank2.jsonl").write_text("".join(json.dumps(record) + "\n" for record in left))
    shutil.copy(folder / "settings.json", shared)
    planners = [Script(truth(examples)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(evaluate, planner, examples, shared, ranks=ThreadRanks(rank, 2))
            for rank, planner in enumerate(planners)
        ]
        summary, nothing = [run.result() for run in runs]
    assert [len(planner.asked) for planner in planners] == [1, 1]
    assert nothing is None
    assert (summary["examples"], summary["provenance"]["processes"]) == (COUNTS, 2)
    assert {path.name for path in shared.iterdir()} == {path.name for path in folder.iterdir()}
    for name in ("generations.jsonl", "failures.jsonl", "settings.json", "final_score.json"):
        assert (shared / name).read_bytes() == (folder / name).read_bytes()


def test_a_line_without_a_key_is_named(workspace):
    command = ("evaluation/run_vlm_evaluation.py", "--planner", "constant", "--dimension", "Spatial")
    assert run_script(*command).returncode == 0
    journal = workspace / "eva_results" / "Spatial" / "constant" / "generations.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text(lines[0] + "\n" + '{"task": "a", "example": 0, "text": ""}\n')
    assert_one_line_error(run_script(*command), "generations.jsonl:2: a line without a key")


def test_settings_of_an_earlier_version_are_kept_unless_they_differ_in_what_it_named():
    decoding = {"do_sample": False, "max_new_tokens": 9}
    former = {"planner": {"weights_sha256": "w", "decoding": decoding}, "prompt": {"language": "en"}}
    present = {"weights_sha256": "w", "processor_sha256": "p", "decoding": decoding | {"ends_at": [2]}}
    settings = {"planner": present, "prompt": {"language": "en"}}
    assert as_recorded(former, settings) is former
    for recorded in (None, settings, former | {"prompt": {"language": "zh"}}):
        assert as_recorded(recorded, settings) is settings
    assert as_recorded(settings, settings | {"planner": present | {"processor_sha256": "q"}}) != settings
