"""The table of families against models and processors of each, and what is derived for a family without an entry."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from leap.models.families import FAMILIES, _derived, capability_table, family_of
from leap.models.image_budget import takes_image_tokens
from leap.models.loading import load_processor
from leap.training.accounting.geometry import FAMILIES as WITH_FORMULAS
from tests import vlm_zoo
from tests.conftest import REPOSITORY

IN_ZOO = [family for family in FAMILIES if family in vlm_zoo.FAMILIES]
# A Qwen-VL's mergers lie inside its vision tower, where only an entry tells them apart.
MERGER_BESIDE = [family for family in IN_ZOO if not family.startswith("qwen")]


def skeleton(folder):
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a family's tiny model, made once."""
    folders = {}

    def folder_of(family):
        if problem := vlm_zoo.why_unavailable(family):
            pytest.skip(problem)
        if family not in folders:
            folders[family] = vlm_zoo.build(family, tmp_path_factory.mktemp(family))
        return folders[family]

    return folder_of


@pytest.mark.parametrize("family", IN_ZOO)
def test_an_entry_names_the_parts_of_the_model(family, built):
    model, entry = skeleton(built(family)), FAMILIES[family]
    assert family_of(model) is entry
    inside = {id(parameter) for parameter in model.get_decoder().parameters()}
    tower = {id(parameter) for parameter in model.get_encoder(modality="image").parameters()}
    parts = {}
    for name, parameter in model.named_parameters():
        part = entry.part_of(name)
        parts.setdefault(part, []).append(name)
        assert part == "llm" if id(parameter) in inside else True, name
        assert id(parameter) in tower if part == "vision" else True, name
    assert parts.keys() == {"vision", "merger", "llm"}
    assert all(id(model.get_parameter(name)) in inside or name == "lm_head.weight" for name in parts["llm"])
    linears = {
        name.rpartition(".")[2]
        for name, module in model.get_submodule(f"model.{entry.blocks}").named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    # Runs with lora_vision that go on must find the modules that they began with.
    assert linears - set(entry.vision_linears) == ({"fc1", "fc2"} if family == "qwen2_vl" else set())


@pytest.mark.parametrize("family", IN_ZOO)
def test_an_entry_says_what_its_processor_and_the_formulas_can(family, built):
    assert FAMILIES[family].pixel_budget == takes_image_tokens(load_processor(built(family)))
    assert FAMILIES[family].accounting == (family in WITH_FORMULAS)


@pytest.mark.parametrize("family", MERGER_BESIDE)
def test_what_is_derived_for_an_unknown_family_is_what_an_entry_would_say_and_no_more(family, built):
    model = skeleton(built(family))
    derived = _derived(model)
    for name, _ in model.named_parameters():
        assert derived.part_of(name) == FAMILIES[family].part_of(name), name
    assert set(derived.vision_linears) == set(FAMILIES[family].vision_linears)
    assert not any((derived.packing, derived.accounting, derived.pixel_budget, derived.fast_parts))


def test_a_family_without_an_entry_has_its_parts_derived(built):
    model = skeleton(built("mistral3"))
    assert "mistral3" not in FAMILIES
    family = family_of(model)
    assert family.part_of("model.multi_modal_projector.linear_1.weight") == "merger"
    assert family.part_of("model.vision_tower.patch_conv.weight") == "vision"
    assert family.part_of("model.language_model.layers.0.mlp.up_proj.weight") == "llm"


def test_the_documentation_shows_the_table():
    assert capability_table() in (REPOSITORY / "docs" / "training.md").read_text()
