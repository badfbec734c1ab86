"""A model from folder to text: checkpoints, their names in results, loading, generation."""
