"""Scripts where LEAP or its packages are not installed say what to run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.test_architecture import SCRIPTS

BARE = [sys.executable, "-E", "-s", "-S"]  # the standard library alone


@pytest.fixture
def checkout(tmp_path):
    """A checkout in a folder whose name has a space, without an environment."""
    root = tmp_path / "a checkout"
    shutil.copytree(REPOSITORY / "scripts", root / "scripts", symlinks=True)
    return root


def bare_run(script, cwd=None, **options):
    return subprocess.run([*BARE, script], cwd=cwd, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.parametrize("script", [str(path.relative_to(REPOSITORY)) for path in SCRIPTS])
def test_every_script_names_the_environment_that_is_not_there(script, checkout):
    done = bare_run(script, cwd=checkout)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"error: {sys.executable} has no package leap; run: bash scripts/utils/setup-env.sh\n")


def test_an_environment_that_is_there_is_to_be_activated(checkout):
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/activate").touch()
    done = bare_run("scripts/utils/verify_dataset.py", cwd=checkout)
    assert done.returncode == 2
    assert done.stderr.endswith(" run: source .venv/bin/activate\n")
    done = bare_run(checkout / "scripts/utils/verify_dataset.py", cwd=checkout.parent)
    assert done.stderr.endswith(" run: source 'a checkout/.venv/bin/activate'\n")


def test_a_package_that_is_missing_later_is_named(checkout, tmp_path):
    for folder in ("configs", "leap"):
        shutil.copytree(REPOSITORY / folder, checkout / folder)
    script = Path("scripts/utils/describe_data.py")
    (checkout / script).write_text("import configs\nfrom leap.cli import run\nimport torch\n")
    command = ["-c", f"import runpy, sys; sys.path[:0] = ['scripts/utils', '.']; runpy.run_path('{script}')"]
    done = subprocess.run([*BARE, *command], cwd=checkout, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {sys.executable} has no package ")
    assert done.stderr.count("\n") == 1


def test_another_error_keeps_its_traceback(checkout):
    script = checkout / "scripts/utils/verify_dataset.py"
    (checkout / "leap").mkdir()
    (checkout / "leap/__init__.py").touch()
    script.write_text("import sys\nsys.path.append('.')\nimport configs\nimport no_such_module\n")
    done = bare_run(script, cwd=checkout)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "no_such_module" in done.stderr
