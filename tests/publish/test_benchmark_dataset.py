"""The benchmark in datasets form: every example comes back whole, and is asked and scored as in our own evaluation."""

import importlib.util
import json
import re
import shutil

import datasets
import pytest
import yaml
from PIL import Image

from configs.config import DIMENSIONS, WorkspaceConfig
from leap.plans.reading import fenced
from leap.plans.scoring import METRICS
from leap.publish.benchmark_dataset import example_row, write_benchmark
from leap.vlabench.examples import find_examples
from leap.vlabench.folder import AnswerRecord
from leap.vlabench.prompts import PromptWriter, prompt_text
from leap.vlabench.results import score_answer
from tests.conftest import REPOSITORY, assert_one_line_error, run_script

SCRIPT = "utils/build_hf_dataset.py"
TASKS = REPOSITORY / "integrations/lmms_eval"


@pytest.fixture(scope="module")
def benchmark(demo):
    return find_examples(demo / "dataset" / "vlm_evaluation_v1.0", list(DIMENSIONS))


@pytest.fixture(scope="module")
def folder(benchmark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets form") / "vlabench_hf"
    write_benchmark(folder, benchmark, PromptWriter(WorkspaceConfig(folder)))
    return folder


@pytest.fixture(scope="module")
def task():
    """The module of the task for lmms-eval."""
    spec = importlib.util.spec_from_file_location("lmms_eval_task", TASKS / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loaded(folder, name, tmp_path):
    return datasets.load_dataset(str(folder), name, split="test", cache_dir=str(tmp_path / "cache"))


def test_every_example_comes_back_with_its_pictures_words_and_truth(benchmark, folder, tmp_path):
    for dimension in ("M&T", "Spatial"):
        rows = loaded(folder, dimension, tmp_path)
        assert len(rows) == len(benchmark[dimension])
        for row, example in zip(rows, benchmark[dimension], strict=True):
            assert (row["dimension"], row["task"], row["example"]) == (dimension, example.task, example.number)
            assert (row["instruction"], row["sha256"]) == (example.instruction(), example.sha256())
            assert json.loads(row["skill_sequence"]) == example.ground_truth()
            for column, path in (("image", example.plain_image), ("tagged_image", example.tagged_image)):
                assert row[column].tobytes() == Image.open(path).convert(row[column].mode).tobytes()
    assert len(loaded(folder, None, tmp_path)) == sum(map(len, benchmark.values()))


def test_the_code_of_the_card_runs_as_it_is(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    exec(re.search(r"```python\n(.*?\n)```\n", (folder / "README.md").read_text(), re.DOTALL).group(1), {})
    assert "'total_score': 80.0" in capsys.readouterr().out


def test_a_row_asks_what_our_evaluation_asks(benchmark, folder, tmp_path, task):
    writer = PromptWriter(WorkspaceConfig(folder))
    for row, example in zip(loaded(folder, "Spatial", tmp_path), benchmark["Spatial"], strict=True):
        [turn] = task.doc_to_messages(row)
        items = writer.write(example)
        assert [item["type"] for item in turn["content"]] == [item["type"] for item in items]
        for theirs, ours in zip(turn["content"], items, strict=True):
            if ours["type"] == "text":
                assert theirs == ours
            else:
                assert theirs["url"].tobytes() == Image.open(ours["image"]).convert("RGB").tobytes()
        assert task.doc_to_text(row) == prompt_text(items).replace("<image>", "")
        assert len(task.doc_to_visual(row)) == 2


def test_the_task_scores_as_our_evaluation_does(benchmark, folder, task):
    writer, seen = PromptWriter(WorkspaceConfig(folder)), set()
    for example in (example for examples in benchmark.values() for example in examples):
        truth = example.ground_truth()
        for text in (fenced(truth), fenced(truth[:1]), fenced(truth[::-1]), str(truth), "no plan", "```json\n[3]\n```"):
            scores = task.process_results(example_row(example, writer), [text])
            ours = score_answer(AnswerRecord(example.task, example.number, text), truth).scores
            assert scores == {
                **{f"official_{name}": value for name, value in ours["official"].scores.items()},
                **{f"grounded_{name}": ours["grounded"].scores[name] for name in ("total_score", "plan_success")},
            }
            seen.add(scores["official_total_score"])
    assert {0.0, 80.0} < seen


def test_the_tasks_are_the_six_dimensions_and_name_scores_that_exist(task):
    class Loader(yaml.SafeLoader):
        """Reads a function as its name."""

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    shared = yaml.load((TASKS / "_leap_vlabench_yaml").read_text(), Loader)
    functions = [value.removeprefix("utils.") for value in shared.values() if str(value).startswith("utils.")]
    assert all(callable(getattr(task, name)) for name in functions)
    assert len(functions) == 4
    known = {f"{scorer}_{metric}" for scorer, metrics in METRICS.items() for metric in metrics}
    group = yaml.safe_load((TASKS / "leap_vlabench.yaml").read_text())
    metrics = {entry["metric"] for entry in shared["metric_list"]}
    assert {entry["metric"] for entry in group["aggregate_metric_list"]} < metrics < known
    tasks = [yaml.safe_load((TASKS / f"{name}.yaml").read_text()) for name in group["task"]]
    assert [each["dataset_name"] for each in tasks] == list(DIMENSIONS)
    assert [each["task"] for each in tasks] == group["task"]


def test_lmms_eval_itself_reports_the_official_scores(benchmark, folder, tmp_path, monkeypatch):
    """The installed package asks a model that answers by a table: right in one dimension, wrong elsewhere."""
    pytest.importorskip("lmms_eval", reason="lmms-eval is not installed")
    from lmms_eval.api.model import lmms
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    class Answers(lmms):
        is_simple = False

        def generate_until(self, requests):
            texts = []
            for request in requests:
                _, doc_to_messages, _, number, name, split = request.args
                row = self.task_dict[name][split][number]
                assert doc_to_messages(row)[0]["role"] == "user"
                texts.append(fenced(json.loads(row["skill_sequence"])) if row["dimension"] == "Spatial" else "no plan")
            return texts

        def generate_until_multi_round(self, requests):
            raise NotImplementedError

        def loglikelihood(self, requests):
            raise NotImplementedError

    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "vlabench_hf").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    tasks = TaskManager(include_path=str(TASKS), include_defaults=False)
    results = simple_evaluate(Answers(), tasks=["leap_vlabench"], task_manager=tasks, bootstrap_iters=0)["results"]
    assert results["leap_vlabench_spatial"]["official_total_score,none"] == 80.0
    assert results["leap_vlabench_complex"]["official_total_score,none"] == 0.0
    assert results["leap_vlabench"]["official_total_score,none"] == pytest.approx(80 / 6)


def test_the_script_builds_a_dimension_and_a_broken_example_stops_it(workspace, tmp_path):
    output = tmp_path / "built"
    done = run_script(SCRIPT, "--dimension", "Spatial", "--output_dir", output, "--prompt", "builtin", "--with_cot")
    assert done.returncode == 0, done.stderr
    assert sorted(str(path.relative_to(output)) for path in output.rglob("*.*")) == [
        "README.md",
        "Spatial/test.parquet",
    ]
    copy = shutil.copytree(workspace / "dataset/vlm_evaluation_v1.0/Spatial", tmp_path / "copy" / "Spatial").parent
    next(copy.rglob("input.png")).write_bytes(b"cut")
    done = run_script(SCRIPT, "--data_path", copy, "--dimension", "Spatial", "--output_dir", tmp_path / "none")
    assert_one_line_error(done, "input.png", "verify_dataset.py")
    assert not (tmp_path / "none").exists()
