"""The planner that runs vLLM in its process, over a stand-in for vLLM: it asks and answers as the engine of
transformers does, and what vLLM refuses fails alone."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from configs.errors import UserError
from leap.blind.options import OutputOptions
from leap.files import read_json, read_jsonl
from leap.models.answer import Answer
from leap.models.loading import UnusableModel
from leap.planners import open_planner
from tests.conftest import assert_one_line_error, run_script
from tests.planners.lively import PLAN, answers, make_parrot, planner_of, write_adapter, write_lively

EVALUATE = "evaluation/run_vlm_evaluation.py"


@pytest.fixture
def vllm(monkeypatch):
    """The stand-in, as the package that is imported; it is gone after the test."""
    forget_vllm()
    monkeypatch.syspath_prepend(Path(__file__).parent / "stand_in")
    import vllm

    yield vllm
    forget_vllm()


def forget_vllm():
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        del sys.modules[name]


def vllm_planner(folder, **knobs):
    return open_planner(OutputOptions(**{"planner": "vllm", "stop_at_plan": True} | knobs), folder)


def answered(planner, queries):
    return answers(planner, planner.batches(queries))


def test_answers_are_those_of_the_engine_of_transformers(vllm, lively, planner, queries):
    found = answered(vllm_planner(lively, max_new_tokens=24), queries)
    assert found == answers(planner, [queries])
    assert {answer.stop for answer in found.values()} <= {"end", "length"}
    assert len({answer.text for answer in found.values()}) > 1


def test_an_answer_that_ends_its_turn_counts_the_token_that_ends_it(vllm, demo, lively, planner, queries, tmp_path):
    first = answers(planner, [queries[:1]])[queries[0].key]
    token = planner.processor.tokenizer(first.text).input_ids[0]
    folder = write_lively(demo / "models" / "tiny-planner", tmp_path / "brief", eos_token_id=[token])
    found = answered(vllm_planner(folder, max_new_tokens=24), queries)
    assert found == answers(planner_of(folder, max_new_tokens=24), [queries])
    assert found[queries[0].key] == Answer("", 1, "end")


def test_an_answer_is_cut_behind_its_plan(vllm, demo, tmp_path, queries):
    make_parrot(demo / "models" / "tiny-planner", tmp_path / "parrot", ["So: ", PLAN, "``", "`!", " More"])
    for stop_at_plan, answer in (
        (True, Answer(f"So: {PLAN}```!", 4, "plan")),
        (False, Answer(f"So: {PLAN}```! More More", 6, "length")),
    ):
        planner = vllm_planner(tmp_path / "parrot", max_new_tokens=6, stop_at_plan=stop_at_plan)
        assert list(answered(planner, queries).values()) == [answer] * len(queries)


def test_a_drawn_answer_depends_on_its_seed(vllm, lively, queries):
    planner = vllm_planner(lively, max_new_tokens=8, temperature=3.0, top_p=0.95)
    seeded = [replace(queries[0], key=str(seed), seed=seed) for seed in range(6)]
    found = answered(planner, seeded)
    assert answered(planner, seeded[::-1]) == found
    assert len({answer.text for answer in found.values()}) > 3
    drawn = {"do_sample": True, "temperature": 3.0, "top_p": 0.95, "repetition_penalty": 1.0}
    decoding = planner.identity()["decoding"]
    assert decoding == drawn | {"max_new_tokens": 8, "stop_at_plan": True, "ends_at": decoding["ends_at"]}


def test_the_identity_names_vllm_its_version_and_the_weights(vllm, lively, planner):
    own = planner.identity()
    assert vllm_planner(lively, max_new_tokens=24).identity() == own | {"planner": "vllm", "vllm": vllm.__version__}


def test_pictures_have_the_size_that_was_asked_for(vllm, lively, queries):
    knobs = {"max_new_tokens": 8, "image_tokens_min": 9, "image_tokens_max": 9}
    resized = answers(planner_of(lively, **knobs), [queries])
    assert resized != answers(planner_of(lively, max_new_tokens=8), [queries])
    assert answered(vllm_planner(lively, **knobs), queries) == resized
    # A vLLM that does not heed it is found out.
    planner = vllm_planner(lively, **knobs)
    planner.model.processor_kwargs = {}
    for failure in answered(planner, queries).values():
        assert failure.kind == "machine"
        assert "pictures of another size" in str(failure)


def test_what_vllm_refuses_and_what_cannot_be_read_fails_alone(vllm, lively, queries, tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(b"nope")
    monkeypatch.setattr(vllm.LLM, "context", 500)

    def query(key, *items):
        return replace(queries[0], key=key, messages=[{"role": "user", "content": list(items)}])

    words = {"type": "text", "text": "Plan. "}
    asked = [query(f"good {number}", words) for number in range(4)]
    asked[2:2] = [query("long", words | {"text": "Plan. " * 2000})]
    asked += [query("broken", {"type": "image", "image": str(tmp_path / "broken.png")}), query("pad", words)]
    asked[-1].messages[0]["content"][0] = words | {"text": "<|image_pad|>"}
    found = answered(vllm_planner(lively, max_new_tokens=8), asked)
    assert all(isinstance(found[f"good {number}"], Answer) for number in range(4))
    assert "longer than the maximum model length" in str(found["long"])
    assert "broken.png" in str(found["broken"])
    assert {found[key].kind for key in ("long", "broken", "pad")} == {"data"}


def test_an_answer_that_the_context_cut_is_no_answer(vllm, lively, queries, monkeypatch):
    planner = vllm_planner(lively, max_new_tokens=24)
    [prompt] = planner._inputs([planner._text(queries[0])], [queries[0].pictures()])
    monkeypatch.setattr(vllm.LLM, "context", prompt.tokens + 5)
    [failure] = answered(planner, queries[:1]).values()
    assert failure.kind == "machine"
    assert "context ended after 5 of 24 new tokens" in str(failure)


def test_an_engine_that_dies_or_gives_up_fails_its_prompts(vllm, lively, queries, monkeypatch):
    from vllm.v1.engine.exceptions import EngineDeadError

    def die(self, *arguments, **options):
        raise EngineDeadError("EngineCore encountered an issue.")

    planner = vllm_planner(lively, max_new_tokens=4)
    whole = vllm.LLM._output

    def give_up(self, *arguments):
        output = whole(self, *arguments)
        output.outputs[0].finish_reason = "abort"
        return output

    for name, method, reason in (("_output", give_up, "finish_reason 'abort'"), ("generate", die, "EngineCore")):
        monkeypatch.setattr(vllm.LLM, name, method)
        failures = answered(planner, queries[:2]).values()
        assert [failure.kind for failure in failures] == ["machine"] * 2
        assert all(reason in str(failure) for failure in failures)


def test_an_adapter_answers_as_with_transformers(vllm, lively, queries, tmp_path):
    folder = write_adapter(lively, tmp_path / "adapter", r=20)
    found = answered(vllm_planner(folder, max_new_tokens=8), queries[:4])
    assert found == answers(planner_of(folder, max_new_tokens=8), [queries[:4]])
    assert found != answers(planner_of(lively, max_new_tokens=8), [queries[:4]])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"use_dora": True}, "it is a DoRA adapter"),
        ({"target_modules": r".*\.qkv"}, "is outside the language model"),
        ({"bias": "all"}, "it holds whole weights"),
        ({"init_lora_weights": "pissa"}, "it goes on a base that pissa changes"),
    ],
)
def test_an_adapter_of_which_vllm_would_leave_a_part_out_is_refused(vllm, lively, tmp_path, settings, reason):
    folder = write_adapter(lively, tmp_path / "adapter", **settings)
    with pytest.raises(UnusableModel, match=f"{reason}.*merge_adapter.py --checkpoint"):
        vllm_planner(folder)


def test_a_model_that_vllm_cannot_load_is_unusable(vllm, lively, queries, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(lively, folder)
    planner = vllm_planner(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UnusableModel, match="vLLM cannot load"):
        answered(planner, queries)


def test_knobs_of_what_vllm_decides_itself_are_errors(vllm, lively, monkeypatch):
    for knobs, words in (({"load_in": "4bit"}, "--load_in"), ({"device": "cuda:1"}, "CUDA_VISIBLE_DEVICES")):
        with pytest.raises(UserError, match=words):
            vllm_planner(lively, **knobs)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="without torchrun"):
        vllm_planner(lively)


def test_without_vllm_its_planner_says_how_to_get_it(workspace, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    asked = ("--planner", "vllm", "--base_model", workspace / "models" / "tiny-planner")
    assert_one_line_error(run_script(EVALUATE, *asked), 'pip install -e ".[vllm]"')


def test_an_evaluation_by_vllm_gives_the_journal_of_one_by_transformers(vllm, workspace):
    asked = ["--base_model", workspace / "models" / "tiny-planner", "--dimension", "Spatial", "--max_new_tokens", 8]
    for planner in ("vllm", "huggingface"):
        done = run_script(EVALUATE, *asked, "--planner", planner, "--suffix", planner)
        assert done.returncode == 0, done.stderr
    folders = [workspace / "eva_results" / "Spatial" / f"baseline_{name}" for name in ("vllm", "huggingface")]
    journals = [read_jsonl(folder / "generations.jsonl") for folder in folders]
    by_vllm, by_transformers = ([{**line, "key": ""} for line in journal] for journal in journals)
    assert by_vllm == by_transformers
    assert read_json(folders[0] / "settings.json")["planner"]["vllm"] == vllm.__version__
