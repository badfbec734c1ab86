"""Every command that the READMEs show exists, and takes the flags shown; what is announced as coming does not exist."""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, run_script

READMES = ("README.md", "README_zh.md")
# Shell words that belong to the machine, not to this project.
NOT_OURS = (
    "git",
    "conda",
    "pip",
    "ray",
    "source",
    "cd",
    "export",
    "sbatch",
    "vllm",
    "LEAP_WORKSPACE=output/quickstart",
)


def blocks(readme: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (REPOSITORY / readme).read_text(encoding="utf-8"), re.DOTALL)


def commands(readme: str) -> list[str]:
    """The commands of all bash blocks, continued lines joined, comments cut."""
    lines = "\n".join(blocks(readme, "bash")).replace("\\\n", " ").splitlines()
    cut = [shlex.join(shlex.split(line, comments=True)) for line in lines]
    return [line for line in cut if line]


PAGES = (
    *(*READMES, "docs/workflow.md", "docs/data.md", "docs/training.md", "docs/evaluation.md", "docs/planning.md"),
    "docs/blind-review.md",
)
SHOWN = sorted({command for page in PAGES for command in commands(page)})


@cache
def names_of(script: str) -> str:
    """The names of a script's flags, the old ones too: its help, and its part of docs/cli.md, which is made from it."""
    path = script
    if not script.endswith(".py"):
        path = next(iter(re.findall(r"scripts/[\w/-]+\.py", (REPOSITORY / script).read_text())), script)
    table = (REPOSITORY / "docs/cli.md").read_text().partition(f"## {path}\n")[2].partition("\n## ")[0]
    return (help_of(script) + table).replace("-", "_")


@cache
def help_of(script: str) -> str:
    if script.endswith(".py"):
        done = run_script(script.removeprefix("scripts/"), "--help")
        assert done.returncode == 0, done.stderr
        return done.stdout
    done = subprocess.run(
        ["bash", script, "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        env=os.environ | {"PYTHON": sys.executable},
    )
    return done.stdout


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_shown_exists_and_takes_its_flags(command):
    words = shlex.split(command)
    while "=" in words[0] and not words[0].startswith("-"):
        words = words[1:]
    if words[0] in NOT_OURS:
        return
    if words[0] == "torchrun":
        script = next(i for i, word in enumerate(words) if word.endswith(".py"))
        words = ["python", *words[script:]]
    flags = [word.split("=")[0] for word in words if word.startswith("--")]
    if words[0] == "hf":
        hf = Path(sys.executable).with_name("hf")
        text = subprocess.run([hf, words[1], "--help"], capture_output=True, text=True, timeout=100, check=True).stdout
    else:
        assert words[0] in ("python", "bash"), command
        assert (REPOSITORY / words[1]).is_file(), command
        text, flags = names_of(words[1]), [flag.replace("-", "_") for flag in flags]
    for flag in flags:
        assert re.search(rf"{flag}\b", text), (flag, command)


def test_both_readmes_show_the_same_commands():
    assert sorted(commands("README.md")) == sorted(commands("README_zh.md"))


@pytest.mark.parametrize("readme", READMES)
def test_paths_in_the_readme_exist(readme):
    text = (REPOSITORY / readme).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if not link.startswith("http"):
            assert (REPOSITORY / link).exists(), link


@pytest.mark.parametrize("code", blocks("docs/planning.md", "python"))
def test_python_shown_for_a_plan_runs_as_it_stands(workspace, monkeypatch, capsys, code):
    (workspace / "output").mkdir()
    (workspace / "output" / "checkpoint-200").symlink_to(workspace / "models" / "tiny-planner")
    picture = next((workspace / "data" / "images").glob("*.png"))
    (workspace / "photo.jpg").symlink_to(picture)
    monkeypatch.chdir(workspace)
    exec(compile(code, "docs/planning.md", "exec"), {})
    assert capsys.readouterr().out.strip()
    assert (workspace / "plan.png").is_file() == ("plan.png" in code)
