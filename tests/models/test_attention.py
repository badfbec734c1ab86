"""Attention within segments: by loops, and by torch's variable-length kernel, whose place a slow one of the same
signature takes where there is no GPU."""

import functools
import inspect

import pytest
import torch

from leap.models import attention
from leap.models.attention import PICTURES_AT_ONCE, attend_to_pictures_at_once, within_segments
from leap.models.loading import load_processor, load_weights
from leap.rows.records import read_rows
from leap.training.packing import Packer
from leap.training.supervision import PlanningCollator

LENGTHS = (5, 1, 12, 7)


def masked(query, key, value, borders, window, scale):
    """Softmax over all pairs at once with what a token must not see cut out; (tokens, heads, head_dim)."""
    tokens = len(query)
    segment = torch.bucketize(torch.arange(tokens), borders[1:].long(), right=True)
    seen = segment[:, None] == segment[None]
    if window == (-1, 0):
        seen &= torch.ones(tokens, tokens, dtype=torch.bool).tril()
    scores = torch.einsum("qhd,khd->hqk", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), value)


def newer_kernel(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False
):
    """As in torch 2.13 and later."""
    assert cu_seq_q.dtype == torch.int32
    assert max_q >= int(cu_seq_q.diff().max())
    groups = query.shape[1] // key.shape[1]
    assert enable_gqa or groups == 1
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return masked(query, key, value, cu_seq_q, window_size, scale)


def middle_kernel(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):
    """As in torch 2.11, without grouped queries."""
    assert query.shape == key.shape
    return newer_kernel(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale=scale, window_size=window_size)


def older_kernel(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, *, scale=None):
    """As in torch 2.10."""
    window = (-1, 0) if is_causal else (-1, -1)
    return middle_kernel(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale=scale, window_size=window)


@pytest.mark.parametrize("kernel", [newer_kernel, middle_kernel, older_kernel])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_the_kernel_of_every_version_of_torch_gives_what_the_loop_gives(monkeypatch, kernel, causal, key_heads):
    torch.manual_seed(0)
    query = torch.randn(1, 4, sum(LENGTHS), 8)
    key, value = torch.randn(2, 1, key_heads, sum(LENGTHS), 8)
    borders = torch.tensor([0, *LENGTHS]).cumsum(0, dtype=torch.int32)
    looped = within_segments(query, key, value, borders, 12, causal=causal, scale=0.3)
    monkeypatch.setattr(attention, "varlen_kernel", lambda tensor: kernel)
    at_once = within_segments(query, key, value, borders, 12, causal=causal, scale=0.3)
    assert looped.shape == (1, sum(LENGTHS), 4, 8)
    torch.testing.assert_close(at_once, looped, atol=1e-5, rtol=0)


def test_torch_has_the_kernel_with_one_of_these_signatures():
    assert attention.varlen_attn is not None
    knobs = set(inspect.signature(attention.varlen_attn).parameters)
    assert {"scale"} < knobs
    assert knobs & {"window_size", "is_causal"}


def test_inputs_are_of_autocast_s_type_as_sdpa_s_are():
    query = torch.randn(1, 2, 6, 8)
    borders = torch.tensor([0, 2, 6], dtype=torch.int32)
    with torch.autocast("cpu", torch.bfloat16):
        assert within_segments(query, query, query, borders, 4, causal=True).dtype == torch.bfloat16


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_a_model_whose_pictures_and_rows_go_through_the_kernel_answers_the_same(demo, monkeypatch, packed):
    planner = demo / "models/tiny-planner"
    rows = read_rows(demo / "data/train.jsonl")[:5]
    packer = Packer(planner, "sdpa") if packed else None
    batch = PlanningCollator(load_processor(planner), None, demo, packer)(rows)
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "row_lengths")}
    model = load_weights(planner, "float32", attention.kernel_for_packs("sdpa") if packed else "sdpa").eval()
    seen = []

    @functools.wraps(newer_kernel)
    def counting_kernel(*arguments, **options):
        seen.append(len(arguments[3]) - 1)
        return newer_kernel(*arguments, **options)

    with torch.no_grad():
        plain = model(**inputs, use_cache=False).logits
        assert attend_to_pictures_at_once(model)
        assert not attend_to_pictures_at_once(model), "it does so already"
        looped = model(**inputs, use_cache=False).logits
        monkeypatch.setattr(attention, "varlen_kernel", lambda tensor: counting_kernel)
        by_kernel = model(**inputs, use_cache=False).logits
    assert model.model.visual.config._attn_implementation == PICTURES_AT_ONCE
    layers = model.config.text_config.num_hidden_layers if packed else 0
    assert seen == [len(batch["image_grid_thw"])] * model.config.vision_config.depth + [5] * layers
    shown = torch.ones_like(batch["input_ids"], dtype=torch.bool) if packed else batch["attention_mask"].bool()
    for logits in (looped, by_kernel):
        torch.testing.assert_close(logits[shown], plain[shown], atol=1e-4, rtol=0)


def test_the_attention_set_on_a_vision_tower_is_not_saved(demo, tmp_path):
    model = load_weights(demo / "models/tiny-planner", "float32")
    attend_to_pictures_at_once(model)
    model.save_pretrained(tmp_path)
    assert "leap" not in (tmp_path / "config.json").read_text()
