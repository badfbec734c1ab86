"""Tiny vision-language models of the families that people evaluate: real classes of transformers, random weights.

Each is an ordinary Hugging Face folder that AutoProcessor and AutoModelForImageTextToText load without a network. The
weights are large, so that the greedy answers differ from prompt to prompt; they mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from leap.demo.tiny_planner import build_tiny_planner
from leap.models.loading import load_weights, quiet_transformers

TEXTS = (
    "Put the red cube into the basket. Which skills does the robot need, in which order?",
    "Answer with a list of skills: pick, place, push, pull, lift, pour, insert, press, open_door.",
    '```json\n[{"name": "pick", "params": {"target_entity_name": 0}}, {"name": "lift", "params": {}}]\n```',
    "The picture shows a table with fruit, books, cups and a number beside each object.",
)
WEIGHT_STD = 0.3
HIDDEN = 64
WINDOW = 32  # tokens that a sliding layer sees; shorter than the prompts of the tests
_SEQUENCE = 4096
_ADAPTED = r".*(language_model|text_model)\..*(q_proj|v_proj)"
_TEXT = {
    "hidden_size": HIDDEN,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": _SEQUENCE,
    "tie_word_embeddings": True,
}
_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def build(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a tiny model of `family`, a name in FAMILIES, to `folder`."""
    torch.manual_seed(seed)
    FAMILIES[family](folder)
    return folder


def _enlarge(model: Any) -> None:
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=WEIGHT_STD)


def why_unavailable(family: str) -> str | None:
    """The package without which the processor of a family cannot be made, or None."""
    return "num2words is not installed" if family == "smolvlm" and find_spec("num2words") is None else None


def tokenizer(specials: tuple[str, ...], end: str, begin: str | None = None, **named: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of about 400 tokens; `named` special tokens become its attributes, as the processors
    want them. It puts `begin` before every text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<pad>", end, *([begin] if begin else []), *specials, *named.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(dict.fromkeys(special)),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS, trainer)
    if begin:
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, bpe.token_to_id(begin))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=begin,
        eos_token=end,
        pad_token="<pad>",
        additional_special_tokens=list(specials),
        extra_special_tokens=named,
        model_max_length=_SEQUENCE,
        clean_up_tokenization_spaces=False,
    )


def template(image: str, turn: str, end: str, answer: str) -> str:
    """A chat template that shows pictures and text in the order of a message's items."""
    return (
        "{%- for message in messages -%}"
        f"{turn}"
        "{%- for item in message.content -%}"
        "{%- if item.type == 'image' -%}" + "{{ " + repr(image) + " }}"
        "{%- else -%}{{ item.text }}{%- endif -%}"
        "{%- endfor -%}" + "{{ " + repr(end) + " }}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ " + repr(answer) + " }}{%- endif -%}"
    )


_CHATML = ("{{ '<|im_start|>' + message.role + '\n' }}", "<|im_end|>\n", "<|im_start|>assistant\n")


def _save(folder: Path, model: type, config: Any, processor: Any) -> None:
    quiet_transformers()
    made, words = model(config), processor.tokenizer
    _enlarge(made)
    made.generation_config.eos_token_id = words.eos_token_id
    made.generation_config.pad_token_id = words.pad_token_id
    made.save_pretrained(folder)
    processor.save_pretrained(folder)


def _text(words: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    own = {"pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id, "bos_token_id": words.eos_token_id}
    return {**_TEXT, "vocab_size": len(words), **own, **more}


def _qwen(folder: Path, model: type, config: type, processor: type, video: type, text: dict, vision: dict) -> None:
    ends = ("<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    words = tokenizer(ends, "<|im_end|>")
    pictures = {
        "size": {"shortest_edge": 16 * 16, "longest_edge": 9 * 16 * 16},
        "patch_size": 8,
        "temporal_patch_size": 2,
        "merge_size": 2,
        **_HALF,
    }
    made = processor(
        image_processor=transformers.Qwen2VLImageProcessor(**pictures),
        video_processor=video(**pictures),
        tokenizer=words,
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>", *_CHATML),
    )
    token = words.convert_tokens_to_ids
    shared = {"num_heads": 2, "patch_size": 8, "spatial_merge_size": 2, "temporal_patch_size": 2}
    settings = config(
        text_config=_text(words, **text),
        vision_config={"depth": 2, **shared, **vision},
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    _save(folder, model, settings, made)


def qwen2_vl(folder: Path) -> None:
    text = {"rope_parameters": _MROPE}
    vision = {"embed_dim": 32, "hidden_size": HIDDEN, "mlp_ratio": 2}
    classes = (
        transformers.Qwen2VLForConditionalGeneration,
        transformers.Qwen2VLConfig,
        transformers.Qwen2VLProcessor,
        transformers.Qwen2VLVideoProcessor,
    )
    _qwen(folder, *classes, text, vision)


def qwen2_5_vl(folder: Path) -> None:
    text = {"rope_parameters": _MROPE}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "out_hidden_size": HIDDEN,
        "window_size": 32,
        "fullatt_block_indexes": [1],
    }
    classes = (
        transformers.Qwen2_5_VLForConditionalGeneration,
        transformers.Qwen2_5_VLConfig,
        transformers.Qwen2_5_VLProcessor,
        transformers.Qwen2VLVideoProcessor,
    )
    _qwen(folder, *classes, text, vision)


def qwen3_vl(folder: Path) -> None:
    build_tiny_planner(folder, TEXTS)
    model = load_weights(folder, "float32")
    _enlarge(model)
    model.save_pretrained(folder)


def qwen3_5(folder: Path) -> None:
    """A layer of linear attention, whose state is no list of keys and values, behind one of full attention."""
    text = {
        "layer_types": ["full_attention", "linear_attention"],
        "rope_parameters": {**_MROPE, "mrope_interleaved": True, "partial_rotary_factor": 1.0},
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
    }
    vision = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": HIDDEN, "num_position_embeddings": 16}
    classes = (
        transformers.Qwen3_5ForConditionalGeneration,
        transformers.Qwen3_5Config,
        transformers.Qwen3VLProcessor,
        transformers.Qwen3VLVideoProcessor,
    )
    _qwen(folder, *classes, text, vision)


def internvl(folder: Path) -> None:
    """A picture is cut into up to three tiles and a thumbnail, by its shape."""
    words = tokenizer(
        ("<|im_start|>",),
        "<|im_end|>",
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    size = {"height": 16, "width": 16}
    processor = transformers.InternVLProcessor(
        image_processor=transformers.GotOcr2ImageProcessor(
            size=size, crop_to_patches=True, min_patches=1, max_patches=3, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ),
        video_processor=transformers.InternVLVideoProcessor(size=size),
        tokenizer=words,
        image_seq_length=1,
        chat_template=template("<IMG_CONTEXT>\n", *_CHATML),
    )
    config = transformers.InternVLConfig(
        text_config={"model_type": "qwen2", **_text(words)},
        vision_config={**_VISION, "image_size": [16, 16], "patch_size": [8, 8]},
        image_token_id=words.context_image_token_id,
        image_seq_length=1,
        downsample_ratio=0.5,
    )
    _save(folder, transformers.InternVLForConditionalGeneration, config, processor)


def _idefics(folder: Path, model: type, config: type, processor: type, image: type, **video: Any) -> None:
    """A picture is resized to a longest edge and cut into tiles of 16 pixels, with a thumbnail last."""
    places = tuple(f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4))
    named = ("<image>", "<fake_token_around_image>", "<global-img>", "<video>")
    words = tokenizer((*places, *named, "<|im_start|>"), "<end_of_utterance>")
    made = processor(
        image_processor=image(size={"longest_edge": 32}, max_image_size={"longest_edge": 16}, **_HALF),
        tokenizer=words,
        image_seq_len=1,
        chat_template="<|im_start|>"
        + template("<image>", "{{ message.role | capitalize + ':' }}", "<end_of_utterance>\n", "Assistant:"),
        **video,
    )
    settings = config(
        text_config={"model_type": "llama", **_text(words)},
        vision_config={**_VISION, "image_size": 16, "patch_size": 8},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=True,
    )
    _save(folder, model, settings, made)


def smolvlm(folder: Path) -> None:
    classes = (
        transformers.SmolVLMForConditionalGeneration,
        transformers.SmolVLMConfig,
        transformers.SmolVLMProcessor,
        transformers.SmolVLMImageProcessor,
    )
    video = transformers.SmolVLMVideoProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    _idefics(folder, *classes, video_processor=video)


def idefics3(folder: Path) -> None:
    _idefics(
        folder,
        transformers.Idefics3ForConditionalGeneration,
        transformers.Idefics3Config,
        transformers.Idefics3Processor,
        transformers.Idefics3ImageProcessor,
    )


def llava_onevision(folder: Path) -> None:
    """A picture alone is cut into tiles by its shape; among several, each is one tile."""
    words = tokenizer(("<|im_start|>", "<image>", "<video>"), "<|im_end|>")
    size, pinpoints = {"height": 16, "width": 16}, [[16, 16], [16, 32], [32, 16], [32, 32]]
    processor = transformers.LlavaOnevisionProcessor(
        image_processor=transformers.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints, **_HALF),
        video_processor=transformers.LlavaOnevisionVideoProcessor(size=size),
        tokenizer=words,
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        chat_template=template("<image>\n", *_CHATML),
    )
    config = transformers.LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **_text(words)},
        vision_config={
            "model_type": "siglip_vision_model",
            **_VISION,
            "image_size": 16,
            "patch_size": 8,
            "vision_use_head": False,
        },
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints,
        tie_word_embeddings=True,
    )
    _save(folder, transformers.LlavaOnevisionForConditionalGeneration, config, processor)


def gemma3(folder: Path) -> None:
    """Layers that see a window of the last tokens only, and attention in both directions within a picture. Template and
    tokenizer would each write the token that begins a text."""
    words = tokenizer(
        ("<start_of_turn>",),
        "<end_of_turn>",
        "<bos>",
        boi_token="<start_of_image>",
        image_token="<image_soft_token>",
        eoi_token="<end_of_image>",
    )
    turn, answer = "{{ '<start_of_turn>' + message.role + '\n' }}", "<start_of_turn>model\n"
    processor = transformers.Gemma3Processor(
        image_processor=transformers.Gemma3ImageProcessor(size={"height": 32, "width": 32}, **_HALF),
        tokenizer=words,
        image_seq_length=4,
        chat_template="{{ bos_token }}" + template("<start_of_image>", turn, "<end_of_turn>\n", answer),
    )
    config = transformers.Gemma3Config(
        text_config=_text(
            words,
            sliding_window=WINDOW,
            layer_types=["sliding_attention", "full_attention"],
            query_pre_attn_scalar=16,
            tie_word_embeddings=False,
        ),
        vision_config={
            "model_type": "siglip_vision_model",
            **_VISION,
            "image_size": 32,
            "patch_size": 8,
            "vision_use_head": False,
        },
        mm_tokens_per_image=4,
        boi_token_index=words.boi_token_id,
        eoi_token_index=words.eoi_token_id,
        image_token_index=words.image_token_id,
        tie_word_embeddings=False,  # its embeddings are scaled up: tied, the last token would repeat itself
    )
    _save(folder, transformers.Gemma3ForConditionalGeneration, config, processor)


def mistral3(folder: Path) -> None:
    """A picture keeps its shape; its tokens stand in rows that end with a token of their own. Template and tokenizer
    would each write the token that begins a text."""
    words = tokenizer(("[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"), "</s>", "<s>")
    processor = transformers.PixtralProcessor(
        image_processor=transformers.PixtralImageProcessor(
            size={"longest_edge": 48}, patch_size={"height": 8, "width": 8}
        ),
        tokenizer=words,
        patch_size=8,
        spatial_merge_size=2,
        chat_template="{{ bos_token }}" + template("[IMG]", "{{ '[INST]' }}", "[/INST]", ""),
    )
    config = transformers.Mistral3Config(
        text_config={"model_type": "mistral", "sliding_window": None, **_text(words)},
        vision_config={"model_type": "pixtral", **_VISION, "image_size": 48, "patch_size": 8},
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
        tie_word_embeddings=True,
    )
    _save(folder, transformers.Mistral3ForConditionalGeneration, config, processor)


def gemma4(folder: Path) -> None:
    """Like Gemma 3, and the last layers use the keys and values of earlier ones."""
    words = tokenizer(
        ("<|turn>", "<|video|>"),
        "<turn|>",
        "<bos>",
        boi_token="<|image>",
        image_token="<|image|>",
        eoi_token="<image|>",
        boa_token="<|audio>",
        audio_token="<|audio|>",
        eoa_token="<audio|>",
    )
    turn, answer = "{{ '<|turn>' + message.role + '\n' }}", "<|turn>model\n"
    processor = transformers.Gemma4Processor(
        feature_extractor=transformers.Gemma4AudioFeatureExtractor(),
        image_processor=transformers.Gemma4ImageProcessor(patch_size=4, max_soft_tokens=70, pooling_kernel_size=2),
        video_processor=transformers.Gemma4VideoProcessor(),
        tokenizer=words,
        image_seq_length=70,
        chat_template="{{ bos_token }}" + template("<|image|>", turn, "<turn|>\n", answer),
    )
    config = transformers.Gemma4Config(
        text_config=_text(
            words,
            num_hidden_layers=4,
            sliding_window=WINDOW,
            layer_types=["sliding_attention", "full_attention"] * 2,
            num_kv_shared_layers=2,
            hidden_size_per_layer_input=16,
            vocab_size_per_layer_input=len(words),
            global_head_dim=32,
            use_bidirectional_attention="vision",
            tie_word_embeddings=False,
        ),
        vision_config={
            **_VISION,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "position_embedding_size": 256,
        },
        audio_config=None,
        image_token_id=words.image_token_id,
        video_token_id=words.convert_tokens_to_ids("<|video|>"),
        boi_token_id=words.boi_token_id,
        eoi_token_id=words.eoi_token_id,
        audio_token_id=words.audio_token_id,
        boa_token_id=words.boa_token_id,
        eoa_token_index=words.eoa_token_id,
        tie_word_embeddings=False,
    )
    _save(folder, transformers.Gemma4ForConditionalGeneration, config, processor)


def mllama(folder: Path) -> None:
    """Layers of attention to the picture beside the text, in which a picture is one token."""
    words = tokenizer(("<|image|>", "<|python_tag|>"), "<|eot|>", "<|begin|>")
    processor = transformers.MllamaProcessor(
        image_processor=transformers.MllamaImageProcessor(size={"height": 16, "width": 16}, max_image_tiles=4, **_HALF),
        tokenizer=words,
        chat_template="{{ bos_token }}" + template("<|image|>", "{{ message.role }}", "<|eot|>", "assistant"),
    )
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    text = _text(words, num_hidden_layers=3, cross_attention_layers=[1], rope_parameters=rope)
    tiles = [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]]
    config = transformers.MllamaConfig(
        text_config={name: value for name, value in text.items() if name != "head_dim"},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
            "max_num_tiles": 4,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 64,
            "supported_aspect_ratios": tiles,
        },
        image_token_index=words.convert_tokens_to_ids("<|image|>"),
    )
    _save(folder, transformers.MllamaForConditionalGeneration, config, processor)


FAMILIES: dict[str, Callable[[Path], None]] = {
    made.__name__: made
    for made in (
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        qwen3_5,
        internvl,
        smolvlm,
        idefics3,
        llava_onevision,
        gemma3,
        gemma4,
        mistral3,
        mllama,
    )
}


def put_adapter(base: Path, folder: Path) -> None:
    """A LoRA of the family's text part as PEFT alone saves it: no manifest, no processor."""
    torch.manual_seed(1)
    config = LoraConfig(r=4, init_lora_weights=False, target_modules=_ADAPTED)
    get_peft_model(load_weights(base, "float32"), config).save_pretrained(folder)
