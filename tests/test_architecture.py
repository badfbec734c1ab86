"""The arrows of the house: configs <- leap <- scripts, wings import downwards only, and what must stay light does."""

import ast
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = sorted((REPOSITORY / "configs").glob("**/*.py"))
LEAP = sorted((REPOSITORY / "leap").glob("**/*.py"))
# Without configs.py, which gives the scripts of each folder `configs`.
SCRIPTS = sorted(path for path in (REPOSITORY / "scripts").glob("**/*.py") if path.name != "configs.py")

# From top to bottom, as docs/architecture.md draws the house. Wings of one line stand side by side.
FLOORS = (
    ("ablation",),
    ("training",),
    ("report", "plots"),
    ("planning",),
    ("judge", "blind"),
    ("demo",),
    ("publish",),
    ("vlabench",),
    ("agibot",),
    ("planners",),
    ("data",),
    ("downloads",),
    ("pages",),
    ("runs",),
    ("models",),
    ("rows",),
    ("plans",),
)
GROUND = "the ground"  # the files at the top of leap/
FLOOR_OF = {wing: floor for floor, wings in enumerate(FLOORS) for wing in wings} | {GROUND: len(FLOORS)}

# The modules that load torch, transformers or datasets as soon as they are imported. All others start at once.
HEAVY = {
    "leap.models.attention",
    "leap.models.batch_size",
    "leap.models.decoding_graph",
    "leap.models.generation",
    "leap.models.launch_ahead",
    "leap.models.patch_embedding",
    "leap.models.prefix_cache",
    "leap.models.roomy_cache",
    "leap.models.shared_pictures",
    "leap.planners.huggingface",
    "leap.planners.vllm",
    "leap.training.batching",
    "leap.training.callbacks",
    "leap.training.compiling",
    "leap.training.measuring",
    "leap.training.packing",
    "leap.training.preflight",
    "leap.training.resources",
    "leap.training.run",
    "leap.training.streaming",
    "leap.training.supervision",
    "leap.training.throughput",
    "leap.training.trainer",
    "leap.training.arguments",
    "leap.training.checkpointed",
    "leap.training.held_out_plans",
    "leap.training.preference",
    "leap.training.reinforcement",
    "leap.training.rejection",
    "leap.training.rollouts",
    "leap.training.validation",
    "leap.training.watching",
}
HEAVY_PACKAGES = {"torch", "torchvision", "transformers", "datasets", "accelerate", "peft"}

# Modules of leap/ without a test file of their name, and where their behaviour shows.
TESTED_ELSEWHERE = {
    "blind/options": "knobs: tests/blind/test_run.py and tests/planners/test_candidates.py",
    "data/cleaning_report": "what a cleaning found: tests/data/test_cleaning.py reads it",
    "demo/mixed": "rows to measure training on: tests/training/test_throughput.py trains on them",
    "judge/options": "knobs: tests/judge/test_client.py",
    "models/answer": "a record of three fields: tests/planners",
    "planners/options": "knobs: tests/planners",
    "planning/options": "knobs: tests/planning/test_photos.py and tests/planning/test_batch.py",
    "progress": "lines of progress: every test of a script that reads its output",
    "provenance": "what made a result: tests/planners/test_asking.py and tests/training/test_resume.py compare it",
    "runs/ranks": "shares of several processes: tests/planners/test_asking.py and tests/training/test_distributed.py",
    "vlabench/fix": "mending from the Hub: tests/downloads/test_scripts.py",
    "vlabench/options": "knobs: tests/test_bad_input.py and tests/planners/test_candidates.py",
}
# Test files without a module of their name, and what they are about.
JOURNEYS = {
    "agibot/extraction": "the benchmark script of first frames",
    "architecture": "all modules",
    "benchmark_growth": "the benchmark script of how time and memory grow, and its tables",
    "benchmark_check": "the benchmark script that compares ratios",
    "bad_input": "what a user gets wrong, over several scripts",
    "config": "configs/config.py",
    "downloads/scripts": "benchmark and rows from the Hub, by their scripts",
    "environment": "scripts where the packages are not installed",
    "flags": "every flag of every script",
    "planners/model_families": "the engine over families of models",
    "planners/transformers_serve": "the engine against a server that is not ours",
    "readme": "the commands of the README",
    "report/in_browser": "the page's scripts, in a browser",
    "report/layout": "all pages at all widths, light and dark, and what axe-core finds",
    "repository": "citation, changes, workflow, hooks",
    "seams": "what people add, in a copy of the code",
    "training/model_families": "the trainer over families of models",
    "training/distributed": "training and evaluation by two processes",
    "training/pipeline": "train, kill, resume, evaluate, draw",
    "tour": "the notebook in docs",
    "wheel": "the package as it is installed, away from a checkout",
    "words": "the names in the code",
}


def module_name(path: Path) -> str:
    """The dotted name of a file below the repository."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def wing_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR_OF else GROUND


def import_nodes(tree: ast.AST, lazy: bool) -> list[ast.Import | ast.ImportFrom]:
    """Every import of a file with `lazy`, else those that run when the file is imported."""
    if lazy:
        return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    nodes = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            nodes.append(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ):
            nodes += import_nodes(node, lazy=False)
    return nodes


def imported_modules(source: str, lazy: bool = True) -> set[str]:
    """The modules that a file imports; of `from package import name` both, since the name may be a module."""
    names = set()
    for node in import_nodes(ast.parse(source), lazy):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def import_graph(lazy: bool = True) -> dict[str, set[str]]:
    """What each module of leap/ imports of leap/. A package counts where nothing more exact is imported from it."""
    sources = {module_name(path): path.read_text(encoding="utf-8") for path in LEAP}
    graph = {}
    for module, source in sources.items():
        targets = imported_modules(source, lazy) & sources.keys()
        inner = {target.rpartition(".")[0] for target in targets}
        graph[module] = {target for target in targets if target not in inner} - {module}
    return graph


def upward_imports(module: str, targets: set[str]) -> list[str]:
    """The imports of a module that lead to a higher wing."""
    floor = FLOOR_OF[wing_of(module)]
    return [f"{module} -> {target}" for target in sorted(targets) if FLOOR_OF[wing_of(target)] < floor]


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Some path that ends where it began, or an empty list."""
    path: list[str] = []
    finished: set[str] = set()

    def visit(node: str) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in finished:
            return []
        path.append(node)
        for target in sorted(graph.get(node, ())):
            if circle := visit(target):
                return circle
        finished.add(path.pop())
        return []

    return next((circle for node in sorted(graph) if (circle := visit(node))), [])


def test_every_folder_of_the_library_is_a_wing_with_a_sentence_of_its_own():
    folders = sorted(path for path in (REPOSITORY / "leap").iterdir() if (path / "__init__.py").is_file())
    assert [path.name for path in folders] == sorted(FLOOR_OF.keys() - {GROUND})
    silent = [path.name for path in folders if not ast.get_docstring(ast.parse((path / "__init__.py").read_text()))]
    assert silent == []
    assert len(list((REPOSITORY / "leap").glob("*.py"))) <= 10


def test_wings_import_downwards_only():
    assert [arrow for module, targets in import_graph().items() for arrow in upward_imports(module, targets)] == []


def test_an_upward_import_is_noticed_also_where_it_is_lazy():
    source = "def late():\n    from leap.judge import summary\n"
    assert upward_imports("leap.vlabench.tables", imported_modules(source)) == [
        "leap.vlabench.tables -> leap.judge",
        "leap.vlabench.tables -> leap.judge.summary",
    ]
    assert upward_imports("leap.report.build", imported_modules(source)) == []


def test_no_circle_among_modules():
    assert circle_in(import_graph()) == []
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_no_circle_among_wings():
    wings: dict[str, set[str]] = {}
    for module, targets in import_graph().items():
        wings.setdefault(wing_of(module), set()).update(map(wing_of, targets - {module}))
    assert circle_in({wing: targets - {wing} for wing, targets in wings.items()}) == []


def first_parts(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imported_modules(path.read_text(encoding="utf-8"))}


def test_configs_imports_nothing_of_ours():
    assert [path for path in CONFIGS if first_parts(path) & {"leap", "scripts"}] == []


def test_the_library_imports_no_script():
    assert [path for path in LEAP if "scripts" in first_parts(path)] == []


def test_no_script_imports_a_script():
    names = {script.stem for script in SCRIPTS} | {"scripts"}
    assert [path for path in SCRIPTS if first_parts(path) & names] == []


def heavy_modules() -> set[str]:
    """Modules of leap/ whose import loads a heavy package, by themselves or through others."""
    sources = {module_name(path): path.read_text(encoding="utf-8") for path in LEAP}
    graph = import_graph(lazy=False)
    heavy = {
        module
        for module, source in sources.items()
        if HEAVY_PACKAGES & {name.split(".")[0] for name in imported_modules(source, lazy=False)}
    }
    while more := {module for module, targets in graph.items() if targets & heavy} - heavy:
        heavy |= more
    return heavy


def test_only_these_modules_are_heavy():
    assert heavy_modules() == HEAVY


def test_all_other_modules_load_neither_torch_nor_transformers():
    light = sorted({module_name(path) for path in [*CONFIGS, *LEAP]} - HEAVY)
    code = f"import sys, {', '.join(light)}; print(sorted({{'torch', 'transformers', 'datasets'}} & set(sys.modules)))"
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


def test_a_module_and_its_tests_have_one_name():
    modules = {path.relative_to(REPOSITORY / "leap").with_suffix("") for path in LEAP if path.stem != "__init__"}
    tests = {
        path.relative_to(REPOSITORY / "tests").with_name(path.stem.removeprefix("test_"))
        for path in (REPOSITORY / "tests").glob("**/test_*.py")
    }
    assert sorted(map(str, modules - tests)) == sorted(TESTED_ELSEWHERE), "modules without tests of their name"
    assert sorted(map(str, tests - modules)) == sorted(JOURNEYS), "tests without a module of their name"


def test_code_is_ascii():
    assert [path for path in (*CONFIGS, *LEAP, *SCRIPTS) if not path.read_bytes().isascii()] == []


def test_only_these_modules_print_without_leap_progress_say():
    """Names and texts from elsewhere must not steer the terminal. `jobs` hands on what such processes printed."""
    scripts = [path for path in SCRIPTS if "benchmark" not in path.parts]
    printing = {
        path.relative_to(REPOSITORY).as_posix()
        for path in [*LEAP, *scripts]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing == {"leap/cli.py", "leap/progress.py", "leap/runs/child.py"}
