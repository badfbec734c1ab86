"""A model with a `chat` of its own: a stand-in for the code in the folders of InternVL2.5 and MiniCPM-V 2.6.

A test copies this file into a model folder, where transformers runs it as remote code. Both chats note what they are
given in `seen`, and answer by a small language model from words and pictures.
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig, PreTrainedModel


class OwnConfig(PretrainedConfig):
    model_type = "own_chat"

    def __init__(self, part="language_model", vocab_size=512, **options):
        self.part, self.vocab_size = part, vocab_size
        super().__init__(**options)


class OwnChat(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        setattr(self, config.part, LlamaForCausalLM(LlamaConfig(vocab_size=config.vocab_size, **sizes)))
        self.seen, self.end_token = [], 2
        self.post_init()

    def _write(self, tokenizer, words, brightness, **options):
        writer = getattr(self, self.config.part)
        tokens = tokenizer(words, return_tensors="pt")["input_ids"]
        embeddings = writer.get_input_embeddings()(tokens) + brightness
        output = writer.generate(
            inputs_embeds=embeddings, attention_mask=torch.ones_like(tokens), pad_token_id=0, **options
        )
        return tokenizer.decode(output[0], skip_special_tokens=True).strip()


class InternLike(OwnChat):
    def chat(
        self,
        tokenizer,
        pixel_values,
        question,
        generation_config,
        history=None,
        return_history=False,
        num_patches_list=None,
    ):
        assert pixel_values is None or len(pixel_values) == sum(num_patches_list)
        self.seen.append((pixel_values, question, dict(generation_config), history, num_patches_list))
        if "exhaust" in question:
            raise torch.OutOfMemoryError("CUDA out of memory")
        generation_config["eos_token_id"] = self.end_token
        brightness = 0.0 if pixel_values is None else pixel_values.mean().item()
        return self._write(tokenizer, question, brightness, **generation_config)


class MiniLike(OwnChat):
    def chat(self, image, msgs, tokenizer, max_new_tokens=2048, sampling=True, max_inp_length=8192, **kwargs):
        assert image is None
        drawn = {"top_p": 0.8, "top_k": 100, "temperature": 0.7, "do_sample": True, "repetition_penalty": 1.05}
        generation_config = drawn if sampling else {"num_beams": 3, "repetition_penalty": 1.2}
        generation_config.update((k, kwargs[k]) for k in generation_config.keys() & kwargs.keys())
        self.seen.append((msgs, generation_config, max_new_tokens, max_inp_length))
        words = "".join(part for turn in msgs for part in turn["content"] if isinstance(part, str))
        return self._write(
            tokenizer, words, 0.0, max_new_tokens=max_new_tokens, eos_token_id=[2, 0], **generation_config
        )
