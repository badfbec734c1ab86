"""What stands around the code says the same as the code: versions, the command of continuous integration."""

import re
import tomllib

import yaml

from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def read_yaml(name):
    return yaml.safe_load((REPOSITORY / name).read_text())


def test_the_citation_and_the_newest_changes_are_of_this_version():
    citation = read_yaml("CITATION.cff")
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"]
    newest = re.search(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest.group(1) == PROJECT["version"]


def test_files_that_the_changes_name_exist():
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    paths = [path for path in re.findall(r"`([\w./]+)`", text) if "/" in path]
    assert paths
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


def test_the_workflow_runs_what_continuous_integration_runs():
    workflow = read_yaml(".github/workflows/tests.yml")
    commands = [step["run"] for step in workflow["jobs"]["tests"]["steps"] if "run" in step]
    assert commands == ["bash .ci/run"]
    assert (REPOSITORY / ".ci/run").is_file()
    assert workflow["permissions"] == {"contents": "read"}


def test_a_commit_is_checked_by_the_ruff_of_the_lock():
    [locked] = re.findall(r"^ruff==([\d.]+)", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE)
    [hooks] = read_yaml(".pre-commit-config.yaml")["repos"]
    assert hooks["rev"] == f"v{locked}"
    assert [hook["id"] for hook in hooks["hooks"]] == ["ruff-check", "ruff-format"]


def test_a_report_of_a_bug_asks_for_the_command_and_what_made_the_result():
    form = read_yaml(".github/ISSUE_TEMPLATE/bug.yml")
    assert [field["id"] for field in form["body"]] == ["command", "expected", "made_by", "read"]
