"""LoRA presets compared under one budget: the sweep and its table."""
