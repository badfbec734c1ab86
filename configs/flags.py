"""The names of flags: one for each thing, what notes and earlier versions call it, and what is gone.

leap/cli.py, where command lines are parsed, is the only reader. Names are written as knobs are, with underscores.
"""

# A place has one name in every script: the first of each line is shown, the others work. A knob (of a path) that has
# one of these names goes by all of them.
PLACES = (
    ("base_model", "model_name_or_path", "baseline_model", "base_model_path"),
    ("checkpoint", "model_path", "lora_adapter_path", "adapter"),
    ("results", "results_dir"),
    ("data_path",),
    ("rows", "train_file", "data_file", "files"),
    ("review_dir", "save_dir"),
)

# Other names of a knob, in whichever script has it.
OTHER_NAMES = {
    "all_checkpoints": ("batch_mode",),
    "backoff_s": ("retry_sleep",),
    "base_url": ("api_base",),
    "dimension": ("dimensions",),
    "first_pause_s": ("initial_sleep",),
    "judge_model": ("model",),
    "load_in": ("quantization",),
    "local_dir": ("output_dir",),
    "longest_wait_s": ("max_sleep",),
    "max_items": ("max_samples",),
    "models": ("only_models",),
    "num_train_epochs": ("epochs",),
    "outputs": ("input_csv",),
    "per_device_train_batch_size": ("batch_size",),
    "preset": ("lora_preset",),
    "save_dir": ("output_dir",),
    "workers": ("max_workers", "num_workers"),
}

# Flags whose values are those of a knob in other words: {flag: (knob, {value: value of the knob})}.
OTHER_VALUES = {"load_in": ("load_in_4bit", {"4bit": True})}

# Flags of the original that change nothing here: {flag: (a knob that marks the scripts which had it, what to know)}.
WITHOUT_EFFECT = {
    "fp16": ("bf16", "mixed precision is bfloat16 where the GPU has it (--bf16), else training is in float32"),
    "eval_strategy": ("val_file", "validation runs at every --save_steps where --val_file is named"),
    "eval_steps": ("val_file", "validation runs at every --save_steps where --val_file is named"),
    "video_fps": ("video_tokens_max", 'a row says it itself: "fps" in its video item'),
    "video_num_frames": ("video_tokens_max", 'a row says it itself: "nframes" in its video item'),
    "video_tokens_min": ("video_tokens_max", 'a row says it itself: "min_pixels" in its video item'),
    "sleep": (
        "judge_model",
        "rate limits are waited out as the endpoint says; --concurrency bounds requests in flight",
    ),
    "retry_forever": ("judge_model", "--max_retries bounds the tries; the same command goes on where it was"),
    "continue_on_error": ("judge_model", "a judgement that fails is recorded as failed, and the others go on"),
    "warn_missing_image": ("judge_model", "a picture that is missing is always named, and the judge is told"),
    "no_dry_run": ("orphans", "--delete alone moves broken pictures to the trash"),
}

# Flags of the original that asked for something that is done another way here.
ELSEWHERE = {
    "deepspeed": (
        "per_device_train_batch_size",
        "ACCELERATE_CONFIG=configs/accelerate/zero2.yaml (or zero3.yaml) before the command",
    ),
    "resume_from_lora": (
        "lora_r",
        "the same command, which goes on with the run in --output_dir; or fold the adapter into its base with "
        "scripts/utils/merge_adapter.py and name the result as --base_model",
    ),
    "no_resume": (
        "judge_model",
        "remove the judge's folder in judges/ of the review: a reply that is there is never paid for twice",
    ),
    "workspace_root": ("judge_model", "the environment variable LEAP_WORKSPACE"),
}
