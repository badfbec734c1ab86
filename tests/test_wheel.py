"""The package as it is installed: built, put into an environment of its own, used from another folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from leap.provenance import code_revision
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow
BUILD = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"


def sub_process(command, cwd, **environment):
    """What a process writes that knows nothing of this checkout."""
    ours = ("PYTHONPATH", "LEAP_WORKSPACE", "PYTHON")
    clean = {name: value for name, value in os.environ.items() if name not in ours} | environment
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools", "77", reason="the build backend, setuptools 77 or newer, is not installed")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for folder in ("configs", "leap", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / folder, source / folder, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    done = sub_process([sys.executable, "-c", BUILD, target], source)
    assert done.returncode == 0, done.stderr
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The folder of an environment with the wheel, which finds all other packages where this process does."""
    home = tmp_path_factory.mktemp("environment")
    try:
        venv.create(home, with_pip=True)
    except subprocess.CalledProcessError:
        pytest.skip("this Python makes no virtual environments with pip")
    python = home / "bin" / "python"
    done = sub_process([python, "-m", "pip", "install", "--no-deps", "--no-index", wheel], home)
    assert done.returncode == 0, done.stderr
    [packages] = home.glob("lib/python*/site-packages")
    paths = sysconfig.get_paths()
    (packages / "present.pth").write_text("\n".join({paths["purelib"], paths["platlib"]}))
    return home


@pytest.fixture
def elsewhere(tmp_path):
    folder = tmp_path / "some where"
    folder.mkdir()
    return folder


def test_the_wheel_holds_one_package_with_its_recipes_and_commands(wheel):
    from configs.commands import SCRIPTS

    names = set(zipfile.ZipFile(wheel).namelist())
    assert {Path(name).parts[0] for name in names if ".dist-info" not in name} == {"leap"}
    assert {f"leap/scripts/{script}" for script in SCRIPTS.values()} <= names
    data = [path for path in (REPOSITORY / "configs").rglob("*") if path.suffix in (".yaml", ".json", ".py")]
    assert {f"leap/{path.relative_to(REPOSITORY)}" for path in data} <= names
    assets = [path for path in (REPOSITORY / "leap").rglob("assets/*") if path.is_file()]
    assert {str(path.relative_to(REPOSITORY)) for path in assets} <= names


def test_both_names_of_configs_are_one_package_of_the_wheel(environment, elsewhere):
    code = (
        "import leap.configs.errors, configs.errors, configs.config as c; "
        "print(configs.errors is leap.configs.errors, c.__file__, c.WorkspaceConfig.from_environment().root, sep='|')"
    )
    same, file, root = sub_process([environment / "bin/python", "-c", code], elsewhere).stdout.strip().split("|")
    assert same == "True"
    assert Path(file).is_relative_to(environment)
    assert Path(root) == elsewhere


def test_a_configs_of_another_project_keeps_its_modules(environment, elsewhere):
    (elsewhere / "configs").mkdir()
    (elsewhere / "configs/__init__.py").touch()
    (elsewhere / "configs/theirs.py").write_text("NAME = 'theirs'")
    code = "import leap.cli, configs.theirs; print(configs.theirs.NAME, leap.cli.UserError('ours'))"
    assert sub_process([environment / "bin/python", "-c", code], elsewhere).stdout == "theirs ours\n"


def test_a_demo_is_made_and_evaluated_by_the_command(environment, elsewhere):
    leap = environment / "bin/leap"
    assert "evaluate" in sub_process([leap, "--help"], elsewhere).stdout
    assert sub_process([leap, "--version"], elsewhere).stdout.strip()[0].isdigit()
    demo = [leap, "demo", "--rows", "30", "--val_rows", "5", "--examples_per_task", "1"]
    done = sub_process(demo, elsewhere)
    assert done.returncode == 0, done.stderr
    evaluate = [leap, "evaluate", "--base_model", "models/tiny-planner", "--dimension", "Semantic"]
    done = sub_process([*evaluate, "--prompt", "builtin", "--max_new_tokens", "4"], elsewhere)
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "eva_results/Semantic/baseline/summary.json").is_file()


def test_a_launcher_takes_the_python_of_the_command_and_names_commands_that_are_there(environment, elsewhere):
    done = sub_process([environment / "bin/leap", "train", "--rows", "x.jsonl"], elsewhere, PATH="/usr/bin:/bin")
    assert done.returncode == 2
    assert f"Get it with: leap download model --local_dir '{elsewhere}/models/" in done.stderr
    done = sub_process([environment / "bin/leap", "evaluate", "--help"], elsewhere)
    assert "  leap evaluate --dimension" in done.stdout
    assert "scripts/" not in done.stdout


def test_a_repository_around_the_package_is_not_its_revision(tmp_path):
    (tmp_path / "leap").mkdir()
    git = ["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    assert code_revision(tmp_path) is not None
    assert code_revision(tmp_path / "leap") is None
