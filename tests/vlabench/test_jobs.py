"""An evaluation as jobs: the commands that it comes to, and the very files that one process writes."""

from leap.cli import parse_knobs
from leap.files import read_json
from leap.planners.candidates import Candidate
from leap.vlabench.jobs import evaluation_jobs
from leap.vlabench.options import EvaluationOptions
from tests.conftest import run_script

SCRIPT = "evaluation/run_vlm_evaluation.py"


def test_each_model_on_each_dimension_is_a_command_with_the_settings_of_all(tmp_path):
    flags = ["--all_checkpoints", "--jobs", "4", "--gpus_per_job", "0.5", "--report_to", "wandb", "--max_tasks", "2"]
    options = parse_knobs(EvaluationOptions, [*flags, "--temperature", "0.7", "--no-stop-at-plan"], "")
    models = [Candidate(tmp_path / "a b" / "checkpoint-3", "a b-checkpoint-3"), Candidate(None, "served")]
    jobs = evaluation_jobs(options, models, ["M&T", "Spatial"], tmp_path / "logs")
    assert [job.name for job in jobs] == [
        f"{name}_T0.7/{dimension}" for _, name in models for dimension in ("M&T", "Spatial")
    ]
    for job, model in zip(jobs, (0, 0, 1, 1), strict=True):
        read = parse_knobs(EvaluationOptions, list(job.command[2:]), "")
        assert (read.max_tasks, read.temperature, read.stop_at_plan) == (2, 0.7, False)
        assert (read.all_checkpoints, read.as_jobs, read.report_to) == (False, False, [])
        assert read.checkpoint == ([] if models[model].folder is None else [models[model].folder])
        assert read.dimension == [job.name.rpartition("/")[2]]
    assert len({job.log for job in jobs}) == 4


def test_as_jobs_it_writes_what_one_process_writes(tmp_path, workspace):
    flags = ["--planner", "constant", "--dimension", "Spatial", "M&T", "--num_episodes", "2"]
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    assert run_script(SCRIPT, *flags, "--results", alone).returncode == 0
    done = run_script(SCRIPT, *flags, "--results", spread, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert_same_results(alone, spread)
    assert list((workspace / "logs").glob("evaluation-*/constant/Spatial/output.log"))


def assert_same_results(first, second):
    """All files are alike, byte for byte, but for when they were made, by which process."""
    files, others = (
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != "status.json"}
        for folder in (first, second)
    )
    assert files == others
    assert len(files) > 10
    for file in files:
        if file.name == "summary.json":
            assert _without_time(read_json(first / file)) == _without_time(read_json(second / file))
        else:
            assert (first / file).read_bytes() == (second / file).read_bytes(), file


def _without_time(summary):
    return summary | {"provenance": summary["provenance"] | {"time": None}}


def test_a_job_that_fails_is_named_with_its_log_and_the_others_are_done(tmp_path, workspace):
    flags = ["--dimension", "Spatial", "M&T", "Complex", "--planner", "constant", "--results", tmp_path]
    assert run_script(SCRIPT, *flags, "--num_episodes", "1").returncode == 0
    (tmp_path / "M&T/constant/generations.jsonl").write_text("no json\n{}\n")
    output = tmp_path / "Complex/constant/output.json"
    output.unlink()
    output.mkdir()  # a traceback's status is that of examples without an answer
    done = run_script(SCRIPT, *flags, "--num_episodes", "2", "--jobs", "1")
    assert done.returncode == 1
    [log] = (workspace / "logs").glob("evaluation-*/constant/M&T/output.log")
    assert f"constant/M&T failed: exit status 2; log: {log}; last lines:" in done.stderr
    assert "constant/Complex failed: exit status 1; log: " in done.stderr
    assert "Spatial      constant: 4 of" in done.stdout
    assert "Complex      constant:" not in done.stdout


def test_the_commands_can_be_written_to_a_file_for_others_to_run(tmp_path, workspace):
    flags = ["--planner", "constant", "--dimension", "Spatial", "M&T", "--num_episodes", "1"]
    done = run_script(SCRIPT, *flags, "--list_jobs", tmp_path / "jobs.txt")
    assert done.returncode == 0
    lines = (tmp_path / "jobs.txt").read_text().splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"env LEAP_WORKSPACE='{workspace}' ") for line in lines)
    assert not (workspace / "eva_results/Spatial/constant").exists()
