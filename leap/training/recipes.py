"""The knobs of a training run. Recipes are in configs/training/ and configs/lora/."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from configs.errors import UserError
from leap.cli import knob
from leap.rows.records import SUPERVISED_TURNS
from leap.rows.sources import Mixture, data_named, words_of


@dataclass(frozen=True)
class TrainingRecipe:
    """Everything that decides how a run trains. Names are those of transformers.TrainingArguments where it has them.

    Knobs that contradict each other are a UserError.
    """

    model_name_or_path: Path = knob(Path("models/Qwen3-VL-2B-Instruct"), "folder of the base model", free=True)
    train_file: Path | Mixture = knob(
        Path("data/train_151230.jsonl"),
        "rows to train on (JSONL, .jsonl.gz, Parquet, a folder of save_to_disk, hf://owner/name#split); several are "
        "mixed, each with a weight: a.jsonl:0.7",
        free=True,
        several=(data_named, words_of),
    )
    val_file: Path | None = knob(None, "rows for the validation loss, in one file of these", free=True)
    image_root: Path | None = knob(
        None, "folder that image paths are relative to, if not beside the JSONL file", free=True
    )
    output_dir: Path = knob(Path("output"), "run folder; checkpoints go to checkpoint-<step> below it", free=True)
    max_train_samples: int | None = knob(None, "train on the first so many rows only, to try things out", check="> 0")
    max_eval_samples: int | None = knob(None, "validate on the first so many rows only", check="> 0")

    streaming: bool = knob(
        False,
        "read rows as they come, of sets larger than the disk or than a check of all has time for; wants max_steps",
    )
    shuffle_buffer: int = knob(1000, "rows that --streaming shuffles together", check="> 0")
    most_bad_rows: int = knob(
        100, "rows that cannot train and are left out by --streaming before the run ends", check=">= 0", free=True
    )

    num_train_epochs: float = knob(2.0, "passes over the rows", check="> 0")
    max_steps: int = knob(-1, "optimiser steps; overrides the epochs if above 0", flags=("--max-steps",))
    max_seconds: float | None = knob(
        None, "stop after so many seconds of training; validation and saving do not count", check="> 0", free=True
    )
    per_device_train_batch_size: int = knob(6, "rows per device and forward pass", check="> 0", free=True)
    per_device_eval_batch_size: int = knob(6, "rows per device in validation", check="> 0", free=True)
    gradient_accumulation_steps: int = knob(6, "forward passes per optimiser step", check="> 0", free=True)
    learning_rate: float = knob(1.5e-5, "peak learning rate of AdamW", flags=("--lr",), check="> 0")
    lr_scheduler_type: str = knob(
        "linear", "decay after the warm-up", choices=("linear", "cosine", "constant_with_warmup")
    )
    warmup_steps: int = knob(800, "steps of linear warm-up", check=">= 0")
    weight_decay: float = knob(0.01, "AdamW weight decay", check=">= 0")
    adam_beta2: float = knob(0.999, "AdamW second-moment decay", check="> 0")
    max_grad_norm: float = knob(1.0, "gradient clipping norm", check="> 0")
    seed: int = knob(42, "seed of data order, dropout and initialisation", check=">= 0")

    freeze: list[str] = knob([], "parts that do not train", choices=("vision", "merger", "llm"))
    vision_lr: float | None = knob(None, "learning rate of the vision tower (default: learning_rate)", check="> 0")
    merger_lr: float | None = knob(None, "learning rate of the mergers (default: learning_rate)", check="> 0")

    packing: bool = knob(False, "several rows in one sequence without padding, each blind to the others")
    packing_tokens: int = knob(
        8192, "tokens per device and forward pass with --packing, in place of per_device_train_batch_size", check="> 0"
    )
    model_max_length: int = knob(4096, "longest row in tokens, images included; none is ever cut", check="> 0")
    image_tokens_min: int = knob(256, "fewest visual tokens an image is resized to", check="> 0")
    image_tokens_max: int = knob(768, "most visual tokens an image is resized to", check="> 0")

    video_tokens_max: int = knob(2048, "most visual tokens of a video, all frames together", check="> 0")
    overlong: str = knob(
        "reject",
        "a row over model_max_length is rejected, or its images shrunk until it fits",
        choices=("reject", "shrink"),
    )

    supervise: str = knob(
        "last",
        "what the loss sees of a row that does not say: its plan, or all turns of the assistant",
        choices=SUPERVISED_TURNS,
    )

    bf16: bool = knob(True, "bfloat16 autocast over float32 master weights (CUDA only; a CPU trains in float32)")
    pure_bf16: bool = knob(
        False, "weights and gradients in bfloat16, stochastically rounded updates (torchao): for GPUs of 24 to 32 GB"
    )
    fit_to_gpu: bool = knob(
        True, "on a GPU too small for the recipe train with pure_bf16, or that and adamw_8bit, and say so", free=True
    )
    optim: str = knob(
        "adamw", "optimiser; adamw_8bit keeps its states in 8 bits (torchao)", choices=("adamw", "adamw_8bit")
    )
    attn_implementation: str = knob(
        "sdpa", "attention kernel", choices=("sdpa", "eager", "flash_attention_2"), free=True
    )
    gradient_checkpointing: bool | None = knob(
        None,
        "recompute activations in the backward pass to save memory (default: unless the GPU has room for all of them)",
        free=True,
    )
    dataloader_num_workers: int = knob(4, "processes that decode images ahead", check=">= 0", free=True)

    dataloader_prefetch_factor: int = knob(2, "batches each of them keeps ready", check="> 0", free=True)
    use_liger_kernel: bool = knob(False, "fused kernels of the package liger-kernel (GPU)", free=True)
    torch_compile: bool | None = knob(
        None,
        "compile every layer with torch.compile (default: on one GPU, in runs of over 500 forward passes)",
        free=True,
    )

    val_plans: int = knob(
        64, "validation rows whose plans are generated and scored at each validation", check=">= 0", free=True
    )
    val_max_new_tokens: int = knob(256, "longest plan generated in validation, in tokens", check="> 0", free=True)
    best_metric: str = knob(
        "loss",
        "validation score that picks the best checkpoint",
        choices=("loss", "plan_step_f1", "grounded_total"),
        free=True,
    )
    report_to: list[str] = knob(
        ["tensorboard"], "where curves go besides train.jsonl", choices=("tensorboard", "wandb", "none"), free=True
    )
    logging_steps: int = knob(10, "steps between log lines", check="> 0", free=True)
    save_steps: int = knob(200, "steps between checkpoints (and validations)", check="> 0", free=True)
    save_total_limit: int | None = knob(
        3, "complete checkpoints to keep, the oldest go first; none keeps all", check="> 0", free=True
    )
    keep_weights_every: int | None = knob(
        None,
        "steps a multiple of which keeps its checkpoint's weights whatever save_total_limit says",
        check="> 0",
        free=True,
    )
    keep_optimizer_of_last: int = knob(
        1, "complete checkpoints that keep the optimiser's state; older ones keep weights only", check="> 0", free=True
    )
    skip_bad_rows: bool = knob(False, "train without the rows that cannot train; they are written to rejected_*.jsonl")
    allow_changes: bool = knob(False, "resume although data or recipe differ from those of the checkpoint", free=True)

    def __post_init__(self) -> None:
        if not self.val_file and self.best_metric != "loss":
            raise UserError(f"best_metric {self.best_metric} is computed on validation rows: name them with --val_file")
        if self.image_tokens_min > self.image_tokens_max:
            raise UserError(
                f"image_tokens_min {self.image_tokens_min} is above image_tokens_max {self.image_tokens_max}"
            )
        if self.streaming and (problem := self._streaming_problem()):
            raise UserError(problem)
        if self.packing and self.packing_tokens < self.model_max_length:
            raise UserError(
                f"packing_tokens {self.packing_tokens} is below model_max_length {self.model_max_length}: a row of "
                "that length would fit no pack. Raise the one or lower the other"
            )

    def _streaming_problem(self) -> str | None:
        """What of the recipe rows that are read as they come cannot do."""
        if self.max_steps <= 0:
            return "streaming knows no epochs, as the rows are not counted: say how long to train with --max_steps"
        if self.packing:
            return "streaming cannot pack rows, which is planned by the lengths of all: leave --packing out"
        if isinstance(self.train_file, Mixture) and any(source.weight != 1 for source in self.train_file.sources):
            return "streaming takes the sources in turn, a row of each, and keeps no weights: leave them out"
        if self.max_train_samples is not None:
            return "streaming reads as many rows as --max_steps asks for: leave --max_train_samples out"
        return None


@dataclass(frozen=True)
class LoraRecipe(TrainingRecipe):
    """Full fine-tuning's knobs with LoRA's own defaults, and those of the adapter. Names follow peft.LoraConfig."""

    output_dir: Path = knob(Path("output/lora"), "run folder; checkpoints go to checkpoint-<step> below it", free=True)
    per_device_train_batch_size: int = knob(4, "rows per device and forward pass", check="> 0", free=True)
    gradient_accumulation_steps: int = knob(9, "forward passes per optimiser step", check="> 0", free=True)
    learning_rate: float = knob(2e-4, "peak learning rate of AdamW", flags=("--lr",), check="> 0")

    lora_r: int = knob(16, "rank of the adapter", check="> 0")
    lora_alpha: int = knob(32, "scaling: the adapter counts alpha / r times", check="> 0")
    lora_dropout: float = knob(0.05, "dropout on the adapter's input, 0 to 1", check=">= 0")
    lora_target_modules: list[str] = knob(
        ["q_proj", "k_proj", "v_proj", "o_proj"], "linear modules of the language model that get an adapter"
    )
    lora_vision: bool = knob(False, "adapters on the vision tower's linear modules too")
    use_dora: bool = knob(False, "weight-decomposed LoRA (DoRA)")
    use_rslora: bool = knob(False, "rank-stabilised scaling, alpha / sqrt(r)")
    pissa: bool = knob(False, "start from the principal components of the weights (PiSSA)")
    load_in_4bit: bool = knob(False, "QLoRA: the frozen language model in 4 bits (NF4, bitsandbytes)")
    loraplus_lr_ratio: float | None = knob(None, "LoRA+: learning rate of the B matrices over that of A", check="> 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pure_bf16:
            raise UserError("pure_bf16 is for full fine-tuning; LoRA holds its frozen base in bfloat16 anyway")
        if self.freeze or self.vision_lr or self.merger_lr:
            raise UserError(
                "freeze, vision_lr and merger_lr are for full fine-tuning; LoRA freezes all but its adapter"
            )


@dataclass(frozen=True)
class ReinforcementRecipe(TrainingRecipe):
    """Training by rewards. Names are those of trl.GRPOConfig where it has them; what is measured in rows elsewhere is
    measured in completions here."""

    model_name_or_path: Path = knob(
        Path("output"),
        "checkpoint to start from, full or adapter, or the folder of a run (its best or last)",
        flags=("--checkpoint",),
    )
    train_file: Path = knob(Path("data/train_151230.jsonl"), "planning rows to train on (JSONL)", free=True)
    val_file: Path | None = knob(Path("data/val.jsonl"), "held-out rows whose plans are scored (JSONL)", free=True)
    output_dir: Path = knob(Path("output/grpo"), "run folder; checkpoints go to checkpoint-<step> below it", free=True)
    tuning: str = knob("lora", "what trains: an adapter or the whole model", choices=("lora", "full"))
    method: str = knob(
        "grpo",
        "grpo: by advantages within groups of completions; rft: supervised training on the best of each group; dpo: on "
        "pairs of a right and a wrong one; sft: on the rows' own plans, to compare with",
        choices=("grpo", "rft", "dpo", "sft"),
    )

    num_train_epochs: float = knob(1.0, "passes over the prompts", check="> 0")
    per_device_train_batch_size: int = knob(8, "completions per device and forward pass", check="> 0", free=True)
    gradient_accumulation_steps: int = knob(8, "forward passes per optimiser step", check="> 0", free=True)
    learning_rate: float = knob(1e-5, "peak learning rate of AdamW", flags=("--lr",), check="> 0")
    lr_scheduler_type: str = knob(
        "constant_with_warmup", "decay after the warm-up", choices=("linear", "cosine", "constant_with_warmup")
    )
    warmup_steps: int = knob(5, "steps of linear warm-up", check=">= 0")
    weight_decay: float = knob(0.0, "AdamW weight decay", check=">= 0")
    dataloader_num_workers: int = knob(0, "processes that decode images ahead", check=">= 0", free=True)
    torch_compile: bool | None = knob(False, "compile every layer with torch.compile", free=True)

    num_generations: int = knob(8, "completions of a prompt: a group, within which advantages are taken", check="> 1")
    temperature: float = knob(1.0, "sampling temperature of completions", check="> 0")
    top_p: float = knob(1.0, "completions draw from the likeliest tokens that make up this probability", check="> 0")
    max_completion_length: int = knob(256, "longest completion, in tokens", check="> 0")
    stop_at_plan: bool = knob(True, "end a completion where a fence closes on a finished plan, as the evaluation does")
    mask_truncated_completions: bool = knob(False, "learn nothing from completions that the length limit cut off")
    beta: float = knob(0.001, "weight of the KL divergence from the start; 0 needs no reference model", check=">= 0")
    dpo_beta: float = knob(0.1, "with --method dpo: how closely the start is kept to (TRL's beta)", check="> 0")
    epsilon: float = knob(0.2, "clipping of the probability ratio", check="> 0")
    epsilon_high: float | None = knob(None, "upper clipping (default: epsilon)", check="> 0")
    entropy_coef: float = knob(0.0, "bonus for undecided tokens, against a policy that stops trying", check=">= 0")
    loss_type: str = knob(
        "dapo", "how token losses are averaged", choices=("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo")
    )
    scale_rewards: str = knob(
        "group", "advantages are divided by the standard deviation of this", choices=("group", "batch", "none")
    )
    num_iterations: int = knob(1, "optimiser steps on the same completions", check="> 0")
    use_vllm: bool = knob(False, "write completions with vLLM on the same GPU (package vllm)", free=True)
    think_characters: int | None = knob(
        None,
        "answers begin with a <think> block of at most so many characters (default: none is asked for)",
        check="> 0",
    )
    shared_instructions: bool = knob(
        False, "train on rows whose instruction stands in the benchmark too, if their pictures and scenes do not"
    )

    # The weights of the reward's terms (leap/training/rewards.py says what each is). Whole plans count most: they are
    # what success means. The others give a slope where no plan of a group is right yet.
    reward_format: float = knob(0.5, "weight: one plan in the official form and nothing else", check=">= 0")
    reward_skill: float = knob(1.0, "weight: F1 of skills in order", check=">= 0")
    reward_entity: float = knob(1.5, "weight: F1 of objects in order", check=">= 0")
    reward_container: float = knob(1.0, "weight: F1 of places in order", check=">= 0")
    reward_plan: float = knob(4.0, "weight: the whole plan is right", check=">= 0")
    reward_brevity: float = knob(1.0, "weight: no step too much, none too few", check=">= 0")
    reward_step: float = knob(4.0, "weight of prose: F1 of steps in order", check=">= 0")
    reward_order: float = knob(1.0, "weight of prose: order of the steps", check=">= 0")
    reward_redundancy: float = knob(1.0, "weight of prose: no step twice", check=">= 0")
    reward_thought: float = knob(0.5, "weight: one closed thought in front, where one is asked for", check=">= 0")

    val_max_new_tokens: int = knob(256, "longest plan generated in validation, in tokens", check="> 0", free=True)
    best_metric: str = knob(
        "grounded_total",
        "validation score that picks the best checkpoint",
        choices=("plan_step_f1", "grounded_total"),
        free=True,
    )
    logging_steps: int = knob(1, "steps between log lines", check="> 0", free=True)
    save_steps: int = knob(50, "steps between checkpoints (and validations)", check="> 0", free=True)

    @property
    def reward_weights(self) -> dict[str, float]:
        """The weight of every term of the reward."""
        prefix = "reward_"
        names = [field.name for field in fields(self) if field.name.startswith(prefix)]
        return {name.removeprefix(prefix): getattr(self, name) for name in names}

    def __post_init__(self) -> None:
        if self.streaming:
            raise UserError("streaming is for supervised training; rewards are learned from rows that are all known")
        super().__post_init__()
        if not self.val_file:
            raise UserError("a reward that rises says little by itself: name held-out rows with --val_file")
        if self.packing:
            raise UserError("packing is for supervised training; completions are padded to the longest of a batch")
        completions = self.per_device_train_batch_size * self.gradient_accumulation_steps
        if completions % self.num_generations:
            raise UserError(
                f"per_device_train_batch_size {self.per_device_train_batch_size} times gradient_accumulation_steps "
                f"{self.gradient_accumulation_steps} is {completions} completions a step, which are no whole groups of "
                f"num_generations {self.num_generations}"
            )
        if self.stop_at_plan and self.mask_truncated_completions:
            raise UserError(
                "mask_truncated_completions takes what was stopped at a plan for cut off; use it with --no-stop_at_plan"
            )
        if self.save_steps % self.num_iterations:
            raise UserError(
                f"save_steps {self.save_steps} is no multiple of num_iterations {self.num_iterations}: a run could not "
                "be resumed in the middle of what it does with its completions"
            )
        if not any(self.reward_weights.values()):
            raise UserError("all weights of the reward are 0: nothing would be learned")


@dataclass(frozen=True)
class ReinforcementLoraRecipe(ReinforcementRecipe, LoraRecipe):
    """ReinforcementRecipe with an adapter's knobs. Where the run starts from an adapter, that one trains on, and knobs
    of its shape are its own."""

    lora_dropout: float = knob(0.0, "dropout on the adapter's input, 0 to 1", check=">= 0")


def with_tuning(recipe: ReinforcementLoraRecipe) -> ReinforcementRecipe:
    """The recipe as its `tuning` says: without the adapter's knobs where the whole model trains."""
    if recipe.tuning == "lora":
        return recipe
    return ReinforcementRecipe(**{field.name: getattr(recipe, field.name) for field in fields(ReinforcementRecipe)})
