"""VLABench's VLM track: examples, prompts, the evaluation run, results, comparison, tables."""
