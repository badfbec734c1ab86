"""A refusal of other settings names the flags that go on with what is there."""

import shlex

import pytest

from configs.config import next_line
from leap.planners.settings import continuing_flags, flags_of, other_settings
from leap.provenance import differences
from tests.conftest import assert_one_line_error, run_script

EARLIER = {
    "planner": {"weights_sha256": "a", "decoding": {"max_new_tokens": 96, "stop_at_plan": False}},
    "prompt": {"style": "builtin", "language": "en", "text_sha256": "b"},
}


def changed(**values):
    """The earlier settings with other values, by the last part of their names."""
    return {name: changed_part(part, values) if isinstance(part, dict) else part for name, part in EARLIER.items()}


def changed_part(part, values):
    return {
        name: changed_part(value, values) if isinstance(value, dict) else values.get(name, value)
        for name, value in part.items()
    }


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({"max_new_tokens": 512}, "--max_new_tokens 96"),
        ({"stop_at_plan": True, "max_new_tokens": 9}, "--max_new_tokens 96 --no-stop_at_plan"),
        ({"style": "official", "text_sha256": "c"}, "--prompt builtin"),
        ({"text_sha256": "c"}, None),  # the wording itself is another one
        ({"weights_sha256": "c", "max_new_tokens": 512}, None),
    ],
)
def test_flags_go_on_with_earlier_answers_where_they_can(values, flags):
    changes = differences(EARLIER, changed(**values))
    assert continuing_flags(EARLIER, changes) == flags
    assert ("Go on with them by" in str(other_settings("x", EARLIER, changes, "--output_dir"))) == bool(flags)


def test_the_flags_of_settings_are_those_that_are_not_usual():
    defaults = {"max_new_tokens": 96, "stop_at_plan": True, "prompt": "auto", "language": "en"}
    assert flags_of(EARLIER, defaults) == "--no-stop_at_plan --prompt builtin"
    assert flags_of({}, defaults) == ""


def test_the_flags_of_a_refusal_go_on(workspace):
    evaluate = ["evaluation/run_vlm_evaluation.py", "--base_model", workspace / "models/tiny-planner"]
    earlier = ["--prompt", "builtin", "--language", "en", "--max_new_tokens", "3", "--dimension", "Spatial"]
    assert run_script(*evaluate, *earlier, "--num_episodes", "1").returncode == 0
    refused = run_script(*evaluate, "--dimension", "M&T", "Spatial")
    assert_one_line_error(refused, "Spatial/baseline", "Go on with them by --max_new_tokens 3, or give --overwrite")
    assert not (workspace / "eva_results/M&T").exists()  # nobody was asked before the refusal
    flags = refused.stderr.partition("Go on with them by ")[2].partition(",")[0].split()
    done = run_script(*evaluate, *flags, "--dimension", "Spatial", "--num_episodes", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == next_line("python scripts/evaluation/make_report.py")


def test_the_command_after_an_evaluation_compares_with_a_base_that_is_there(workspace, tmp_path):
    evaluate = ["evaluation/run_vlm_evaluation.py", "--dimension", "Spatial", "--max_new_tokens", "2"]
    evaluate += ["--output_dir", tmp_path / "re sults", "--prompt", "builtin", "--num_episodes", "1"]
    place = f"--results '{tmp_path / 're sults'}'"
    done = run_script(*evaluate, "--planner", "constant")
    assert done.stdout.splitlines()[-1] == next_line(f"python scripts/evaluation/make_report.py {place}")
    assert run_script(*evaluate, "--base_model", workspace / "models/tiny-planner").returncode == 0
    command = run_script(*evaluate, "--planner", "constant").stdout.splitlines()[-1]
    assert command == next_line(f"python scripts/evaluation/compare_models.py baseline constant {place}")
    script, *arguments = shlex.split(command.partition("python ")[2])
    done = run_script(script.removeprefix("scripts/"), *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == next_line(f"python scripts/evaluation/make_report.py {place}")
