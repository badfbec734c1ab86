"""Scoring again what is there already: journals, and output.json files of VLABench and the original LEAP."""

import json
import os
import random
import subprocess
import sys
from dataclasses import asdict
from statistics import mean

import pytest

from configs.errors import UserError
from leap.files import Journal, read_json, read_jsonl, write_json
from leap.plans.reading import FormatError, fenced, read_official
from leap.plans.scoring import OFFICIAL_METRICS, ORDER_INDEPENDENT_TASKS, SCORER_VERSIONS, score_official_sequence
from leap.vlabench.folder import ResultFolder, answer_record, failure_record
from leap.vlabench.rescore import journals_in, rescore_journal, rescore_outputs
from leap.vlabench.results import write_results
from leap.vlabench.tables import overall
from tests.conftest import REPOSITORY, assert_one_line_error, run_script
from tests.vlabench.benchmark_tree import make_benchmark, pick, place

SETTINGS = {"planner": {"planner": "test"}, "prompt": {"with_cot": False}, "pictures": {}}
PROVENANCE = {"checkpoint": "output/checkpoint-7", "code_revision": "abc", "time": "then", "data_sha256": "0123"}


@pytest.fixture
def benchmark(tmp_path):
    return make_benchmark(tmp_path / "benchmark")


@pytest.fixture
def results(tmp_path):
    return tmp_path / "eva_results"


def texts_for(examples, seed=0):
    """Right, wrong and unreadable answers."""
    rng = random.Random(seed)
    for example in examples:
        plan = example.ground_truth()
        yield rng.choice(
            [
                fenced(plan),
                fenced([pick("3"), place(20)]),
                fenced(plan[::-1]),
                "no plan at all \ud800",
                f"Bare: {json.dumps(plan)}",
                "```json\n[3, 4]\n```",
            ]
        )


def evaluated(folder, examples, failures=()):
    """An evaluation's folder, as leap.vlabench.run leaves it."""
    records = [
        {"key": f"k{i}", "task": e.task, "example": e.number, "text": text, "new_tokens": 9, "stop": "end"}
        for i, (e, text) in enumerate(zip(examples, texts_for(examples), strict=True))
    ]
    with Journal(folder / "generations.jsonl") as journal:
        journal.append(records)
    write_json(folder / "settings.json", SETTINGS)
    (folder / "failures.jsonl").write_text("".join(json.dumps(failure) + "\n" for failure in failures))
    answers = dict(zip(examples, map(answer_record, records), strict=True))
    write_results(folder, answers, list(map(failure_record, failures)), 20, SETTINGS, PROVENANCE)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_scoring_again_after_no_change_gives_the_same_files(benchmark, results):
    failure = {"key": None, "task": "select_fruit_spatial", "example": 9, "kind": "machine", "reason": "out of memory"}
    examples = benchmark["Spatial"]
    folder = evaluated(results / "Spatial" / "model", examples[:19], [failure])
    before = contents(folder)
    done = rescore_journal(folder, examples)
    after = contents(folder)
    assert (done.left_out, done.changed) == (0, 0)
    summaries = [json.loads(files.pop("summary.json")) for files in (before, after)]
    assert after == before
    rescored = summaries[1]["provenance"].pop("rescored")
    assert summaries[1] == summaries[0]
    assert set(rescored) == {"time", "code_revision"}
    assert summaries[1]["examples"]["machine_failure"] == 1


def test_scores_of_an_earlier_scorer_become_those_of_the_present_one(benchmark, results):
    folder = evaluated(results / "Spatial" / "m", benchmark["Spatial"])
    summary, scores = read_json(folder / "summary.json"), read_json(folder / "grounded_score.json")
    write_json(folder / "summary.json", {key: value for key, value in summary.items() if key != "scorers"})
    assert ResultFolder(folder).scorers["grounded"] == 1
    assert rescore_journal(folder, benchmark["Spatial"]).summary.scorers == SCORER_VERSIONS
    assert (ResultFolder(folder).scorers, read_json(folder / "grounded_score.json")) == (SCORER_VERSIONS, scores)


def test_a_torn_last_line_is_no_answer(benchmark, results):
    examples = benchmark["Spatial"]
    folder = evaluated(results / "Spatial" / "model", examples)
    journal = folder / "generations.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    summary = asdict(rescore_journal(folder, examples).summary)
    assert summary["examples"]["answered"] == 19
    assert summary["provenance"]["data_sha256"] is None


def test_a_corrected_ground_truth_is_scored_by_and_told(benchmark, results):
    examples = benchmark["Spatial"]
    folder = evaluated(results / "Spatial" / "model", examples)
    write_json(examples[0].plan_file, {"skill_sequence": [pick(77), place(78)]})
    done = rescore_journal(folder, examples)
    assert done.changed == 1
    assert done.summary.provenance["data_sha256"] is None
    assert read_json(folder / "grounded_score.json")[examples[0].task]["0"]["plan_success"] == 0


def test_ground_truth_that_cannot_be_scored_is_a_bad_example_not_a_wrong_answer(benchmark, results):
    examples = benchmark["Spatial"]
    folder = evaluated(results / "Spatial" / "model", examples)
    examples[4].plan_file.write_text("{}")
    summary = asdict(rescore_journal(folder, examples).summary)
    assert (summary["examples"]["answered"], summary["examples"]["bad_example"]) == (19, 1)
    (failure,) = read_jsonl(folder / "failures.jsonl")
    assert (failure["task"], failure["example"], failure["kind"]) == ("select_book_spatial", 4, "data")
    write_json(examples[4].plan_file, {"skill_sequence": [pick(4), place(20)]})
    summary = asdict(rescore_journal(folder, examples).summary)
    assert (summary["examples"]["answered"], summary["examples"]["bad_example"]) == (20, 0)
    assert read_jsonl(folder / "failures.jsonl") == []


def test_the_last_answer_to_an_example_counts_and_unknown_examples_are_left_out(benchmark, results):
    examples = benchmark["Spatial"]
    folder = evaluated(results / "Spatial" / "model", examples)
    right = {"text": fenced(examples[0].ground_truth()), "new_tokens": 1, "stop": "end"}
    with Journal(folder / "generations.jsonl") as journal:
        journal.append(
            [{"key": "a", "task": examples[0].task, "example": 0, "text": "no", "new_tokens": 1, "stop": "end"}]
        )
        journal.append([{"key": "b", "task": examples[0].task, "example": 0, **right}])
        journal.append([{"key": "c", "task": "no_such_task", "example": 0, **right}])
    done = rescore_journal(folder, examples)
    assert (done.left_out, done.summary.examples.answered) == (1, 20)
    assert read_json(folder / "grounded_score.json")[examples[0].task]["0"]["plan_success"] == 100


def test_a_journal_that_is_being_written_is_left_alone(benchmark, results):
    folder = evaluated(results / "Spatial" / "model", benchmark["Spatial"])
    with Journal(folder / "generations.jsonl"), pytest.raises(UserError, match="being written"):
        rescore_journal(folder, benchmark["Spatial"])


def test_an_evaluation_that_was_killed_before_it_scored_is_scored(benchmark, results):
    folder = evaluated(results / "Spatial" / "model", benchmark["Spatial"])
    for name in ("summary.json", "final_score.json", "grounded_score.json", "diagnosis.json", "output.json"):
        (folder / name).unlink()
    summary = asdict(rescore_journal(folder, benchmark["Spatial"]).summary)
    assert summary["examples"]["answered"] == 20
    assert summary["provenance"]["checkpoint"] is None


def test_folders_are_found_by_model_and_dimension_or_named_as_missing(benchmark, results):
    one = evaluated(results / "Spatial" / "a", benchmark["Spatial"])
    two = evaluated(results / "Complex" / "b", benchmark["Complex"])
    assert journals_in(results, ["Spatial", "Complex"]) == [one, two]
    assert journals_in(results, ["Spatial", "Complex"], ["b"]) == [two]
    with pytest.raises(UserError, match=r"no answers of b in .*there: a\. .*run_vlm_evaluation.py"):
        journals_in(results, ["Spatial"], ["b"])


def entry_of(text):
    """What VLABench and LEAP write for a text."""
    try:
        return {"origin_output": text, "skill_sequence": read_official(text)}
    except FormatError:
        return {"origin_output": text, "format_error": "format_error"}


def write_output(path, examples, entries):
    content = {"benchmeatinfo": {"existing_num": len(examples), "already_running_time": 3.5}}
    for example, entry in zip(examples, entries, strict=True):
        content.setdefault(example.task, {})[str(example.number)] = entry
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4))
    return path


def official_means(path, examples):
    """Means as VLABench's own code computes them from the file."""
    content, scores = read_json(path), []
    for example in examples:
        entry = content[example.task][str(example.number)]
        if "format_error" in entry:
            scores.append(dict.fromkeys(OFFICIAL_METRICS, 0))
        else:
            free = example.task in ORDER_INDEPENDENT_TASKS
            scores.append(
                score_official_sequence(entry["skill_sequence"], example.ground_truth(), order_independent=free).scores
            )
    return {name: mean(score[name] for score in scores) for name in OFFICIAL_METRICS}


LEAP = "old/{dimension}/checkpoint-5000/output.json"


@pytest.mark.parametrize("dimension", ["Spatial", "Complex"])
def test_official_means_of_an_output_file_equal_those_computed_from_it(benchmark, results, tmp_path, dimension):
    examples = benchmark[dimension]
    file = tmp_path / LEAP.format(dimension=dimension)
    write_output(file, examples, map(entry_of, texts_for(examples, seed=3)))
    (done,) = rescore_outputs([file], benchmark, results)
    assert done.folder == results / dimension / "checkpoint-5000"
    means = {name: found.mean for name, found in done.summary.scores["official"].items()}
    assert means == pytest.approx(official_means(file, examples), abs=1e-9)
    assert {name: e.mean for name, e in overall(results, "checkpoint-5000", "official").micro.items()} == pytest.approx(
        means
    )
    assert read_json(done.folder / "output.json")[examples[0].task] == read_json(file)[examples[0].task]


def test_texts_are_read_again_by_the_grounded_rules(benchmark, results, tmp_path):
    examples = benchmark["Spatial"]
    file = tmp_path / LEAP.format(dimension="Spatial")
    texts = [json.dumps(e.ground_truth()) for e in examples]  # without a fence: no plan officially
    write_output(file, examples, map(entry_of, texts))
    summary = asdict(rescore_outputs([file], benchmark, results)[0].summary)
    assert summary["outcomes"] == {"official": {"format_error": 20}, "grounded": {"ok": 20}}
    assert summary["scores"]["grounded"]["plan_success"]["mean"] == 100


def test_without_a_text_the_decoded_sequence_is_scored(benchmark, results, tmp_path):
    examples = benchmark["Spatial"]
    file = tmp_path / LEAP.format(dimension="Spatial")
    entries = [{"skill_sequence": e.ground_truth()} for e in examples]
    entries[:3] = [
        {"format_error": "format_error"},
        {"skill_sequence": 7},
        {"skill_sequence": [pick("2"), place("20")]},
    ]
    write_output(file, examples, entries)
    summary = asdict(rescore_outputs([file], benchmark, results)[0].summary)
    assert summary["outcomes"]["official"] == {"format_error": 1, "score_error": 1, "ok": 18}
    assert summary["outcomes"]["grounded"] == {"format_error": 2, "ok": 18}
    assert summary["diagnosis"]["labels"]["ids_as_strings"] == 1
    assert "origin_output" not in read_json(results / "Spatial/checkpoint-5000/output.json")[examples[5].task]["5"]


def test_what_the_machine_failed_on_is_no_wrong_answer(benchmark, results, tmp_path):
    examples = benchmark["Spatial"]
    file = tmp_path / LEAP.format(dimension="Spatial")
    entries = [entry_of(fenced(e.ground_truth())) for e in examples]
    entries[:2] = [{"origin_output": "", "format_error": "inference_error"}, {}]
    write_output(file, examples, entries)
    summary = asdict(rescore_outputs([file], benchmark, results)[0].summary)
    assert (summary["examples"]["answered"], summary["examples"]["machine_failure"]) == (18, 2)
    assert summary["scores"]["official"]["total_score"]["mean"] == 80
    assert [f["example"] for f in read_jsonl(results / "Spatial/checkpoint-5000/failures.jsonl")] == [0, 1]


@pytest.mark.parametrize(
    ("path", "name", "shots", "cot", "language"),
    [
        ("save/Qwen2_VL/en/0_shot/default/output.json", "Qwen2_VL", 0, False, "en"),
        ("save/Qwen2_VL/zh/2_shot_CoT/default/output.json", "Qwen2_VL_2shot_CoT_zh", 2, True, "zh"),
        ("save/GPT_4v/en/1_shot/output.json", "GPT_4v_1shot", 1, False, "en"),
        ("results/Spatial/checkpoint-200_1shot_CoT/output.json", "checkpoint-200_1shot_CoT", 1, True, "en"),
        ("results/Spatial/Baseline/output.json", "Baseline", 0, False, "en"),
    ],
)
def test_the_folders_of_a_file_tell_model_and_settings(benchmark, results, tmp_path, path, name, shots, cot, language):
    examples = benchmark["Spatial"]
    write_output(tmp_path / path, examples, map(entry_of, texts_for(examples)))
    (done,) = rescore_outputs([tmp_path / path], benchmark, results)
    prompt = done.summary.settings["prompt"]
    assert done.folder.name == name
    assert (prompt["few_shot_num"], prompt["with_cot"], prompt["language"]) == (shots, cot, language)


def test_a_file_of_several_dimensions_is_split_by_the_benchmarks_folders(benchmark, results, tmp_path):
    examples = benchmark["Spatial"] + benchmark["Complex"]
    file = write_output(tmp_path / "x/m/en/0_shot/default/output.json", examples, map(entry_of, texts_for(examples)))
    content = read_json(file) | {"task_of_another_track": {"0": {}}}
    write_json(file, content)
    done = rescore_outputs([file], benchmark, results)
    assert [found.folder for found in done] == [results / "Spatial" / "m", results / "Complex" / "m"]
    assert sum(found.left_out for found in done) == 1
    again = rescore_outputs([file], benchmark, results)
    assert [found.summary.scores for found in again] == [found.summary.scores for found in done]


def test_nothing_that_is_there_is_written_over(benchmark, results, tmp_path):
    examples = benchmark["Spatial"]
    file = write_output(results / "Spatial/m/output.json", examples, map(entry_of, texts_for(examples)))
    with pytest.raises(UserError, match=r"lies where its results would go.*--model_name"):
        rescore_outputs([file], benchmark, results)
    evaluated(results / "Spatial" / "own", examples)
    with pytest.raises(UserError, match="holds an evaluation of its own"):
        rescore_outputs([file], benchmark, results, "own")
    other = write_output(tmp_path / "y/m/output.json", examples, map(entry_of, texts_for(examples)))
    with pytest.raises(UserError, match="both give"):
        rescore_outputs([file, other], benchmark, results, "imported")
    assert not (results / "Spatial" / "imported").exists()


@pytest.mark.parametrize("content", [[], {"task": 3}, {"select_book_spatial": {"0": "text"}}, {"unknown": {"0": {}}}])
def test_a_file_of_another_structure_is_named(benchmark, results, tmp_path, content):
    write_json(tmp_path / "m" / "output.json", content)
    with pytest.raises(UserError, match="output.json"):
        rescore_outputs([tmp_path / "m" / "output.json"], benchmark, results)


def test_the_script_scores_journals_and_files_without_torch(benchmark, results, tmp_path):
    evaluated(results / "Spatial" / "model", benchmark["Spatial"])
    file = write_output(
        tmp_path / LEAP.format(dimension="Complex"),
        benchmark["Complex"],
        map(entry_of, texts_for(benchmark["Complex"])),
    )
    code = (
        "import runpy, sys\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop: print('exit', stop.code, 'torch' in sys.modules)"
    )
    script = str(REPOSITORY / "scripts/evaluation/rescore.py")
    common = ["--results", str(results), "--data_path", str(tmp_path / "benchmark")]
    for arguments, words in (
        ([], "Spatial      model: 20 of 20"),
        ([], "(version 2)"),
        (["--outputs", str(file)], "Complex      checkpoint-5000"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.argv = {[script, *common, *arguments]!r}\n{code}"],
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        assert done.stdout.splitlines()[-1] == "exit 0 False", done.stderr
        assert words in done.stdout


def test_a_model_without_answers_is_one_line(benchmark, results, tmp_path):
    evaluated(results / "Spatial" / "model", benchmark["Spatial"])
    common = ["--results", str(results), "--data_path", str(tmp_path / "benchmark")]
    done = run_script("evaluation/rescore.py", "--models", "nobody", *common)
    assert_one_line_error(done, "no answers of nobody", "there: model")
