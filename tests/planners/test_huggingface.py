import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.models import load_processor, load_weights
from leap.planners import MachineFailure, Query
from leap.planners.huggingface import HuggingFacePlanner
from leap.vlabench.examples import find_examples
from leap.vlabench.prompts import PromptWriter


@pytest.fixture(scope="module")
def queries(demo):
    """Prompts of unequal length, with two and with six pictures."""
    examples = find_examples(demo / "dataset" / "vlm_evaluation_v1.0", ["Spatial"])["Spatial"]
    found = []
    for shots in (0, 2):
        writer = PromptWriter(WorkspaceConfig(demo), "builtin", few_shot_num=shots, pool=examples)
        for example in examples:
            items = [
                {"type": "image", "image": open(item["image"], "rb").read()} if item["type"] == "image" else item  # noqa: SIM115
                for item in writer.write(example)
            ]
            found.append(Query("Spatial", example.task, example.number, items))
    return found


@pytest.fixture(scope="module")
def lively(demo, tmp_path_factory):
    """The tiny planner with large random weights: untrained as it is, it repeats one token whatever it is shown."""
    folder = tmp_path_factory.mktemp("lively")
    model = load_weights(demo / "models" / "tiny-planner", "float32")
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    load_processor(demo / "models" / "tiny-planner").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def planner(lively):
    return HuggingFacePlanner(lively, "cpu", max_new_tokens=24)


def test_a_batch_gives_the_answers_of_one_at_a_time(planner, queries):
    together = planner.answer(queries)
    alone = [planner.answer([query])[0] for query in queries]
    assert together == alone
    assert len({answer.text for answer in together}) > 1


def test_an_answer_at_the_token_limit_says_so(planner, queries):
    for answer in planner.answer(queries):
        assert answer.stop in ("end", "length")
        assert (answer.stop == "length") == (answer.new_tokens == 24)


def test_blank_images_change_what_the_model_sees_and_its_identity(lively, planner, queries):
    blind = HuggingFacePlanner(lively, "cpu", max_new_tokens=24, blank_images=True)
    assert blind.identity() != planner.identity()
    assert blind.answer(queries[:4]) != planner.answer(queries[:4])
    picture = next(item["image"] for item in queries[0].items if item["type"] == "image")
    assert len(blind._picture(picture).getcolors()) == 1
    assert blind._picture(picture).size == planner._picture(picture).size


def test_an_unreadable_picture_is_a_machine_failure_not_an_answer(planner):
    with pytest.raises(MachineFailure, match="unreadable image"):
        planner.answer([Query("Spatial", "t", 0, [{"type": "image", "image": b"nope"}])])


def test_the_identity_follows_the_weights(lively, planner, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(lively, other)
    assert HuggingFacePlanner(other, "cpu", max_new_tokens=24).identity() == planner.identity()
    with open(other / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert HuggingFacePlanner(other, "cpu", max_new_tokens=24).identity() != planner.identity()


def test_an_adapter_is_put_on_its_base(lively, tmp_path, queries, planner):
    folder = tmp_path / "adapter"
    torch.manual_seed(0)
    model = get_peft_model(load_weights(lively, "float32"), LoraConfig(r=4, target_modules=r".*language_model.*q_proj"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    planner.processor.save_pretrained(folder)
    adapted = HuggingFacePlanner(folder, "cpu", max_new_tokens=24)
    assert adapted.base == lively
    assert adapted.answer(queries[:4]) != planner.answer(queries[:4])
    with pytest.raises(UserError, match=r"is an adapter and its base .*nowhere cannot be used"):
        HuggingFacePlanner(folder, "cpu", base_model=tmp_path / "nowhere")


def test_a_named_device_that_is_not_there_is_an_error(demo):
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        HuggingFacePlanner(demo / "models" / "tiny-planner", "gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"device cuda:0 is not there; 0 CUDA device\(s\) found"):
            HuggingFacePlanner(demo / "models" / "tiny-planner", "cuda:0")
