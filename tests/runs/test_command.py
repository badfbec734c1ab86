"""The command `leap` runs the scripts of the repository."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from leap.runs.command import SCRIPTS
from tests.conftest import REPOSITORY

SUPPORT = (
    "benchmark/",
    "quickstart.sh",
    "reinforce-demo.sh",
    "run-tests.sh",
    "utils/find-python.sh",
    "utils/launch.sh",
)
SUPPORT += ("utils/setup-env.sh", "utils/write_cli_docs.py")
BEHIND_LAUNCHERS = {
    "training/run-finetuning.py",
    "training/run-reinforcement.py",
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


@pytest.fixture
def typed(tmp_path):
    """What an interactive bash makes of a line in which Tab is pressed at the end."""
    argcomplete = pytest.importorskip("argcomplete")
    command = tmp_path / "bin" / "leap"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c 'from leap.runs.command import main; main()' \"$@\"\n")
    command.chmod(0o755)
    (tmp_path / "rc").write_text(argcomplete.shellcode(["leap"]) + "\nPS1='ready '; bind 'set bell-style none'\n")

    def completed(line, wanted):
        process, terminal = pty.fork()
        if process == 0:
            environment = os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}", "TERM": "dumb"}
            os.chdir(tmp_path)
            os.execvpe("bash", ["bash", "--noprofile", "--rcfile", "rc", "-i"], environment)
        try:
            read_until(terminal, "ready ")
            os.write(terminal, f"{line}\t".encode())
            return read_until(terminal, wanted)
        finally:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(terminal)

    return completed


def read_until(terminal, wanted, seconds=30):
    """What the terminal shows until it is `wanted`, or for so long."""
    shown, limit = "", time.monotonic() + seconds
    while wanted not in shown and time.monotonic() < limit:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096).decode()
    return shown


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("leap ev", "leap evaluate "),
        ("leap evaluate --dim", "leap evaluate --dimension "),
        ("leap rows ch", "leap rows check "),
        ("leap train --learn", "leap train --learning_rate "),
        ("leap lora --preset agg", "leap lora --preset aggressive "),
        ("leap download model --loc", "leap download model --local_dir "),
    ],
)
def test_tab_completes_commands_flags_and_choices(typed, line, wanted):
    assert typed(line, wanted).endswith(wanted)
