"""Every flag of every script is given once: in a real run where that is quick, else up to the first input that is not
there, or, where a script would download or measure at once, to its parser."""

import re
import shlex
import shutil
from functools import cache

import pytest

from configs.flags import PLACES
from tests.conftest import REPOSITORY, assert_one_line_error, run_script
from tests.judge.review_folder import write_review
from tests.test_architecture import SCRIPTS

_BENCH = "dataset/vlm_evaluation_v1.0"

# By script: command lines that together (with those of REFUSED) give every flag.
RUNS = {
    "utils/split_dataset.py": [
        "--rows {data}/train_50.jsonl --by task --test_fraction 0.2 --val_fraction 0.1 --blind 2 --seed 1 "
        "--image_root {data} --overwrite --output_dir {root}/split --name mine --workers 1",
        "--report_only {data}/train_50.jsonl {data}/val.jsonl",
        "--blind_from {data}/val.jsonl --blind 1 --output_dir {root}/blind_split",
    ],
    "utils/check_and_clean_images.py": [
        "--rows {split}/mine_train.jsonl {split}/mine_test.jsonl --test_files {split}/mine_test.jsonl "
        "--image_root {data} --report {root}/report.json --min_side 8 --max_pixels 1000000 --max_aspect 4 "
        "--blank_deviation 1 --near_duplicates --distance 1 --colour_distance 1 --drop_near_duplicates --workers 1 "
        "--benchmark {benchmark}",
        "--data_dir {split} --image_root {data} --no-near_duplicates --orphans --report {root}/orphans.json",
        "--data_dir {broken} --delete --workers 1",
        "--data_dir {broken} --undo",
    ],
    "utils/describe_data.py": [
        "--rows {data}/val.jsonl --output {root}/described --image_root {data} --hash_pictures --figure --workers 1 "
        "--base_model {models}/tiny-planner --image_tokens_min 4 --image_tokens_max 64",
    ],
    "utils/build_hf_dataset.py": [
        "--data_path {benchmark} --dimension Spatial --output_dir {root}/hf --prompt builtin --language zh --with_cot"
    ],
    "utils/export_rows.py": ["--rows {data}/val.jsonl --to swift --relative --image_root {data} --output_dir {root}"],
    "utils/import_rows.py": [
        "--conversations {root}/val_swift.jsonl --image_root {root} --output {root}/imported.jsonl"
    ],
    "utils/make_grounding_rows.py": [
        "--data_path {benchmark} --benchmark {root}/none --output {root}/grounding.jsonl --count 4 --listing_share 1 "
        "--find_share 1 --plan_share 1 --seed 1 --prompt builtin --language zh --copy_pictures --overwrite",
    ],
    "utils/verify_dataset.py": [
        "--data_path {benchmark} --dimension Spatial --expected none --hash --json {root}/verified.json --workers 1 "
        "--tries 1 --first_pause_s 0.1 --longest_wait_s 0.1 --no-mirror --no-fix",
    ],
    "evaluation/rescore.py": [
        "--models constant --dimension Spatial --results {results} --data_path {benchmark} "
        "--jobs 1 --gpus_per_job 0 --cpus_per_job 1 --memory_per_job 0",
        "--outputs {results}/Spatial/constant/output.json --output_dir {root}/rescored --model_name other --with_cot "
        "--dimension Spatial --data_path {benchmark}",
    ],
    "evaluation/export_scores.py": ["--results {results} --models constant --dimension Spatial --output_dir {root}"],
    "evaluation/compare_models.py": ["--models constant copy --metric total_score --results {results} --relative"],
    "evaluation/draw_evaluation_results.py": [
        "--results {results} --models constant copy --base constant --published --relative --output_dir {root}/figures",
    ],
    "evaluation/make_report.py": [
        "--results {results} --data_path {benchmark} --models constant --output {root}/page.html --title Mine "
        "--review_dir {review} --image_root {review_data} --max_megabytes 30 --images_folder",
    ],
    "evaluation/analyze_output_results.py": [
        "--review_dir {review} --outputs {review}/outputs.jsonl --image_root {review_data} --models baseline "
        "checkpoint-200 --max_items 2 --base baseline --judge reference --protocol rubric --repeats 1 --pair_repeats 1 "
        "--seed 1",
        "--review_dir {review} --judge llm --judge_model some --base_url http://127.0.0.1:9/v1 --temperature 0.5 "
        "--reply_tokens 100 --plan_characters 100 --max_asks 1 --dry_run --budget 1 --prices {prices} --concurrency 1 "
        "--request_timeout_s 1 --backoff_s 0.1 --max_retries 0",
    ],
    "evaluation/draw_blind10_scores.py": ["--review_dir {review} --output_dir {root}/blind"],
    "evaluation/make_rating_sheet.py": [
        "--review_dir {review} --outputs {review}/outputs.jsonl --models baseline --seed 1 --max_items 2 "
        "--image_root {review_data} --output {root}/sheet.html",
    ],
    "utils/monitor_evaluation.py": [
        "--interval 0.1 --once --all --results {results} --logs_dir {root}",
        "--json",
    ],
    "utils/push_to_hub.py": [
        "--dataset {data}/val.jsonl --repo_id me/rows --private --license mit --no-push",
    ],
    "utils/task_runner.py": [
        "--commands true --logs {root}/true.log --gpus 0 --tasks_per_gpu 1 --concurrency 1 --jobs 1 --gpus_per_job 0 "
        "--cpus_per_job 1 --memory_per_job 0",
    ],
    "utils/write_cli_docs.py": ["--output {root}/cli.md"],
    "utils/make_demo.py": ["--rows 8 --val_rows 4 --examples_per_task 1 --seed 1"],
    "utils/make_reward_demo.py": ["--rows 8 --val_rows 4 --examples_per_task 1 --seed 1"],
}
# Command lines that end with a word about an input.
REFUSED = {
    "evaluation/analyze_output_results.py": ["--review_dir {review} --human {root}/no.csv --human_key {root}/no.json"],
    "evaluation/rescore.py": ["--results {results} --data_path {benchmark} --ray 127.0.0.1:1"],
    "utils/task_runner.py": ["--commands true --ray 127.0.0.1:1"],
    "utils/merge_adapter.py": ["--checkpoint {root}/none --base_model {models}/tiny --output_dir {root}/m"],
    "utils/push_to_hub.py": [
        "--checkpoint {models}/tiny-planner --repo_id a/b --with_run_state --base_id a/b --trained_on c/d --card x.md",
    ],
}
# Scripts that end where an input is not there, with what keeps them from asking the network; a flag at a time.
STARTED = {
    "ablation/run-ablation.py": "",
    "ablation/run-lora-finetuning.py": "",
    "ablation/run-methods.py": "",
    "evaluation/run_vlm_evaluation.py": "",
    "evaluation/run_vlm_output.py": "",
    "evaluation/chat.py": "",
    "evaluation/plan.py": "",
    "evaluation/serve.py": "",
    "training/run-finetuning.py": "",
    "training/run-reinforcement.py": "",
    "training/validate_data.py": "",
    "utils/distill_reasoning.py": "",
    "utils/prepare_love_agibot.py": "--source nowhere",
}
_VALUES = {"INT": "2", "FLOAT": "0.5", "PATH": "no/where", "STR": "x", "YAML": "no/where.yaml"}


def scripts():
    return [str(path.relative_to(REPOSITORY / "scripts")) for path in SCRIPTS]


@cache
def flags_of(script):
    """{name: what its help shows for a value} of a script's flags, in their first spelling."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "1000")
        text = run_script(script, "--help").stdout
    lines = re.findall(r"^  (?:-h, )?--([\w-]+)((?: [A-Z\[{][^\s,]*)*)", text, re.MULTILINE)
    return {name: value.split()[0] if value else "" for name, value in lines if name != "help"}


def given(flag, value):
    if not value:
        return f"--{flag}"
    return f"--{flag} {_VALUES.get(value) or value.strip('{}').split(',')[0]}"


def ended_well(done, command):
    """In good order, or with one line that says what is wrong."""
    assert done.returncode in (0, 1, 2), (command, done)
    assert "Traceback" not in done.stderr, (command, done.stderr)
    if done.returncode == 2:
        assert done.stderr.splitlines()[-1].startswith("error: "), (command, done.stderr)


@pytest.fixture
def places(workspace, tmp_path):
    """What command lines name: inputs, results of two models and a review."""
    root = tmp_path / "out"
    (root / "broken" / "images").mkdir(parents=True)
    lines = (workspace / "data" / "val.jsonl").read_text().splitlines(keepends=True)
    (root / "broken" / "rows.jsonl").write_text(lines[0])
    for name in re.findall(r"images/[\w.-]+", lines[0]):
        (root / "broken" / name).write_bytes(b"broken")
    (root / "prices.yaml").write_text("some: {input: 1, output: 2}\n")
    review = write_review(tmp_path / "review")
    results = workspace / "eva_results"
    done = run_script("evaluation/run_vlm_evaluation.py", "--planner", "constant", "--dimension", "Spatial")
    assert done.returncode == 0, done.stderr
    shutil.copytree(results / "Spatial" / "constant", results / "Spatial" / "copy")
    return {
        "root": root,
        "split": root / "split",
        "broken": root / "broken",
        "data": workspace / "data",
        "models": workspace / "models",
        "benchmark": workspace / _BENCH,
        "results": results,
        "review": review.folder,
        "review_data": review.data,
        "prices": root / "prices.yaml",
    }


def test_every_script_has_its_flags_given_here():
    parsed = [name for name in scripts() if name.startswith(("benchmark/", "download/"))]
    assert sorted([*(RUNS | REFUSED), *STARTED, *parsed]) == scripts()
    for script in RUNS | REFUSED:
        commands = RUNS.get(script, []) + REFUSED.get(script, [])
        words = {re.sub("^--(no-)?", "", word).replace("-", "_") for line in commands for word in line.split()}
        assert {name.replace("-", "_") for name in flags_of(script)} <= words, script


@pytest.mark.slow
def test_the_table_of_flags_is_what_the_scripts_make(tmp_path):
    done = run_script("utils/write_cli_docs.py", "--output", tmp_path / "cli.md")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cli.md").read_text() == (REPOSITORY / "docs/cli.md").read_text(), (
        "make it anew: python scripts/utils/write_cli_docs.py"
    )


def test_no_script_shows_an_old_name_for_what_has_one_name():
    old_names = {name for names in PLACES for name in names[1:]}
    shown = {script: old_names & flags_of(script).keys() for script in scripts()}
    assert {script: names for script, names in shown.items() if names} == {}


@pytest.mark.slow
def test_every_flag_works_in_a_run(places, monkeypatch):
    for script, commands in RUNS.items():
        if script == "utils/make_demo.py":
            monkeypatch.setenv("LEAP_WORKSPACE", str(places["root"] / "demo"))
        for command in commands:
            words = [word.format_map(places) for word in shlex.split(command)]
            done = run_script(script, *words)
            assert done.returncode == 0, (script, command, done)
    for script, commands in REFUSED.items():
        for command in commands:
            assert_one_line_error(run_script(script, *(word.format_map(places) for word in command.split())), "error: ")


@pytest.mark.parametrize("script", STARTED)
def test_a_script_starts_with_each_of_its_flags(space, monkeypatch, script):
    monkeypatch.chdir(REPOSITORY)
    for flag, value in flags_of(script).items():
        command = f"{given(flag, value)} {STARTED[script]}"
        ended_well(run_script(script, *command.split()), (script, command))


@pytest.mark.parametrize("script", [name for name in scripts() if name.startswith(("benchmark/", "download/"))])
def test_a_script_that_would_download_or_measure_reads_all_its_flags(space, script):
    command = " ".join(given(flag, value) for flag, value in flags_of(script).items())
    done = run_script(script, *command.split(), "--no-such-flag")
    assert done.returncode == 2
    assert "unrecognized arguments: --no-such-flag" in done.stderr
