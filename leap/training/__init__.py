"""From a recipe to a checkpoint: checks, batches, the trainer, resuming."""
