"""The command `leap` runs the scripts of the repository."""

import subprocess
import sys

import pytest

from leap.runs.command import SCRIPTS
from tests.conftest import REPOSITORY

SUPPORT = ("benchmark/", "quickstart.sh", "run-tests.sh", "utils/find-python.sh", "utils/launch.sh")
SUPPORT += ("utils/setup-env.sh", "utils/write_cli_docs.py")
BEHIND_LAUNCHERS = {
    "training/run-finetuning.py",
    "ablation/run-lora-finetuning.py",
    "ablation/run-ablation.py",
    "download/download_model.sh",
}


def leap(*words, **options):
    code = "from leap.runs.command import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, **options)


def test_every_script_has_a_name():
    scripts = {
        str(path.relative_to(REPOSITORY / "scripts"))
        for path in (REPOSITORY / "scripts").rglob("*")
        if path.suffix in (".py", ".sh") and path.name != "configs.py"
    }
    assert {script for script in scripts if not script.startswith(SUPPORT)} == {*SCRIPTS.values()} | BEHIND_LAUNCHERS


@pytest.mark.parametrize("name", ["evaluate", "rows check"])
def test_flags_and_status_are_the_scripts(name, tmp_path):
    done = leap(*name.split(), "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"usage: {SCRIPTS[name].split('/')[-1]}" in done.stdout
    assert leap(*name.split(), "--no_such_flag", cwd=tmp_path).returncode == 2


def test_a_launcher_of_bash_runs_from_any_folder(tmp_path):
    done = leap("train", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--learning_rate" in done.stdout


def test_without_a_command_all_are_listed():
    assert leap().returncode == 2
    done = leap("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in SCRIPTS)


def test_a_name_mistyped_gets_the_nearest():
    done = leap("evalute", "--checkpoint", "x")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: no such command: leap evalute. Did you mean evaluate? leap --help lists them"
    )


def test_the_version_is_that_of_the_package():
    assert leap("--version").stdout.strip()[0].isdigit()
