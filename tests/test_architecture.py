"""The arrows of the house: configs <- leap <- scripts, no script imports a script, and what must stay light does."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = sorted((REPOSITORY / "configs").glob("**/*.py"))
LEAP = sorted((REPOSITORY / "leap").glob("**/*.py"))
SCRIPTS = sorted((REPOSITORY / "scripts").glob("**/*.py"))

# Modules that handle records, plans, scores and statistics only.
LIGHT = (
    "configs.config",
    "leap.cli",
    "leap.files",
    "leap.rows.records",
    "leap.rows.chat",
    "leap.rows.images",
    "leap.plans.reading",
    "leap.plans.metrics",
    "leap.models.checkpoints",
    "leap.publish.model_card",
    "leap.publish.dataset_card",
    "leap.publish.upload",
    "leap.training.recipes",
    "leap.training.resume",
    "leap.data.splits",
    "leap.data.cleaning",
    "leap.data.planning_files",
    "leap.data.description",
    "leap.data.image_checks",
    "leap.data.near_duplicates",
    "leap.data.plan_words",
    "leap.data.trash",
    "leap.downloads.access",
    "leap.downloads.fetch",
    "leap.downloads.record",
    "leap.downloads.run",
    "leap.downloads.model_files",
    "leap.downloads.picture_archives",
    "leap.vlabench.verify",
    "leap.vlabench.fix",
    "leap.archives",
    "leap.runs.workers",
    "leap.data.split_files",
    "leap.agibot.frames",
    "leap.agibot.jobs",
    "leap.agibot.annotations",
    "leap.agibot.rows",
    "leap.agibot.hub",
    "leap.data.overlap",
    "leap.training.accounting",
    "leap.statistics",
    "leap.runs.status",
    "leap.runs.monitor",
    "leap.runs.table",
    "leap.ablation.sweep",
    "leap.ablation.table",
    "leap.runs.jobs",
    "leap.planners",
    "leap.runs.ranks",
    "leap.vlabench.constant",
    "leap.planners.endpoint",
    "leap.planners.options",
    "leap.planners.candidates",
    "leap.endpoint",
    "leap.blind.outputs",
    "leap.blind.rows",
    "leap.blind.options",
    "leap.blind.run",
    "leap.judge.judgements",
    "leap.judge.analysis",
    "leap.judge.ratings",
    "leap.judge.summary",
    "leap.report.review",
    "leap.vlabench.examples",
    "leap.vlabench.options",
    "leap.vlabench.prompts",
    "leap.plans.scoring",
    "leap.plans.diagnosis",
    "leap.vlabench.results",
    "leap.vlabench.rescore",
    "leap.models.names",
    "leap.vlabench.paired",
    "leap.vlabench.published",
    "leap.vlabench.compare",
    "leap.vlabench.run",
    "leap.plots",
    "leap.report.build",
    "leap.demo.build",
)


def imported(path: Path) -> set[str]:
    """First parts of the modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_configs_imports_nothing_of_ours(path):
    assert not imported(path) & {"leap", "scripts"}


@pytest.mark.parametrize("path", LEAP, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_the_library_imports_no_script(path):
    assert "scripts" not in imported(path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_imports_a_script(path):
    assert not imported(path) & ({script.stem for script in SCRIPTS} | {"scripts"})


def test_light_modules_load_neither_torch_nor_transformers():
    code = f"import sys, {', '.join(LIGHT)}; print(sorted({{'torch', 'transformers', 'datasets'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def lines_of_runs(scripts, arguments, stream, words, **environment):
    """Of each script, all run in one fresh process: path, status, is torch loaded by then, are words in `stream`."""
    code = (
        "import contextlib, io, runpy, sys\n"
        f"for path in {list(map(str, scripts))}:\n"
        f"    sys.argv, shown = [path, *{arguments}], io.StringIO()\n"
        f"    with contextlib.redirect_{stream}(shown):\n"
        "        try: runpy.run_path(path, run_name='__main__')\n"
        "        except SystemExit as stop: status = stop.code\n"
        f"    print(path, status, 'torch' in sys.modules, {words!r} in shown.getvalue())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def test_every_script_explains_itself_without_loading_torch():
    # A script opens with a command to paste, and answers --help before anything heavy loads.
    assert lines_of_runs(SCRIPTS, ["--help"], "stdout", "python scripts/") == [
        f"{path} 0 False True" for path in SCRIPTS
    ]


def test_a_missing_input_is_said_without_loading_torch(tmp_path):
    scripts = [
        *("training/run-finetuning.py", "ablation/run-lora-finetuning.py", "ablation/run-ablation.py"),
        *("evaluation/run_vlm_evaluation.py", "evaluation/run_vlm_output.py"),
    ]
    paths = [REPOSITORY / "scripts" / script for script in scripts]
    lines = lines_of_runs(paths, [], "stderr", " not found", LEAP_WORKSPACE=str(tmp_path))
    assert lines == [f"{path} 2 False True" for path in paths]


@pytest.mark.parametrize("path", [*CONFIGS, *LEAP, *SCRIPTS], ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_code_is_ascii(path):
    path.read_text(encoding="ascii")
