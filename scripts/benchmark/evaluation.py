#!/usr/bin/env python3
"""Measure how fast an evaluation answers, against transformers' plain generate, one prompt at a time and in batches.

    python scripts/benchmark/evaluation.py --checkpoint output/quickstart/output/checkpoint-600
    python scripts/benchmark/evaluation.py                               # long prompts only; needs no checkpoint
    python scripts/benchmark/evaluation.py --size 2b --batch_size 64     # on a GPU; nothing is downloaded

`plain` is the model as transformers loads it and its generate(), as the original LEAP asked. Then come this project's
measures one by one: one prompt at a time, batches of like length, the common prefix computed once, stopping behind a
finished plan, batches as large as memory is worth. All modes answer the same prompts in turns, round by round; a ratio
is the median over rounds, in CPU seconds of this process (on a GPU in seconds). In float32 the scores must be equal.

Workloads: `tabletop` is a trained tiny planner (--checkpoint) on the tabletop benchmark, as the quickstart asks it;
`long` has prompts of VLABench's size, made up, and a model of random weights that never finishes a plan, so that its
answers are cut at --answer_tokens. `2b` has the shape of Qwen3-VL-2B and random weights.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from configs.config import DIMENSIONS, WorkspaceConfig
from configs.errors import UserError
from leap.cli import as_plain, knob, parse_knobs, run
from leap.files import write_json
from leap.progress import say
from leap.text import markdown_table

# Tokens of the text that all prompts share (VLABench's English prompt has about as many) and visual tokens a picture.
_LONG = {"tiny": (1084, 256), "2b": (1084, 768)}
_KEYS = ("examples_per_second", "times_plain_one_at_a_time", "times_previous")
_FIRST = "plain, one at a time"
_RATIOS = ("x plain, one at a time", "x the line before")


@dataclass(frozen=True)
class Options:
    size: str = knob(
        "tiny", "model of the long workload: the demo's, or the shape of Qwen3-VL-2B", choices=("tiny", "2b")
    )
    checkpoint: Path | None = knob(None, "trained tiny planner for the tabletop workload")
    data_path: Path | None = knob(None, "its benchmark (default: the one of the checkpoint's workspace)")
    examples: int = knob(42, "prompts a workload, about", check="> 0")
    rounds: int = knob(3, "measured rounds, in each of which every mode answers all prompts once", check="> 0")
    single_examples: int | None = knob(None, "of them, those asked one at a time (default: all)", check="> 0")
    batch_size: int = knob(8, "prompts answered at once where batches are used", check="> 0")
    max_new_tokens: int = knob(512, "longest answer of the tabletop workload in tokens", check="> 0")
    answer_tokens: int = knob(96, "length of every answer of the long workload in tokens", check="> 0")
    device: str = knob("auto", "auto, cpu or cuda:0")
    output: Path | None = knob(None, "file to write everything measured to (JSON)")


@dataclass(frozen=True)
class Workload:
    """Prompts with their ground truth by key, and the model that answers them."""

    name: str
    folder: Path
    queries: list[Any]
    truths: dict[str, list[dict]]
    limits: dict[str, int]  # of AnsweringOptions


def main() -> None:
    options = parse_knobs(Options, None, __doc__)

    from leap.models.loading import pick_device, quiet_transformers
    from leap.provenance import code_revision, hardware, library_versions, utc_now

    quiet_transformers()
    device = pick_device(options.device)
    if options.size == "2b" and device == "cpu" and options.device != "cpu":
        raise UserError("--size 2b is for a GPU and none is here; use --size tiny, or --device cpu for hours of it")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        workloads = [tabletop(options)] if options.checkpoint else []
        for workload in [*workloads, long_prompts(options, Path(folder))]:
            results[workload.name] = measure(workload, options, device)
    if options.output:
        made_by = {"time": utc_now(), "code": code_revision(), "hardware": hardware(), "versions": library_versions()}
        write_json(options.output, {"options": as_plain(options), "device": device, **made_by, **results})
        say(f"written: {options.output}")


def tabletop(options: Options) -> Workload:
    """The examples of the tabletop benchmark, in its own prompt."""
    from leap.planners import Query
    from leap.vlabench.examples import find_examples
    from leap.vlabench.prompts import PromptWriter

    assert options.checkpoint is not None
    workspace = WorkspaceConfig.from_environment()
    workspace.require(options.checkpoint, "checkpoint")
    data = options.data_path or options.checkpoint.parents[1] / "dataset" / "vlm_evaluation_v1.0"
    workspace.require(data, "benchmark")
    by_dimension = find_examples(data, [dimension for dimension in DIMENSIONS if (data / dimension).is_dir()])
    tasks = len({example.task for examples in by_dimension.values() for example in examples})
    each = -(-options.examples // tasks)
    examples = [e for examples in by_dimension.values() for e in examples if e.number < each]
    writer = PromptWriter(workspace, "builtin")
    queries = [Query(e.place, e.task, [{"role": "user", "content": writer.write(e)}]) for e in examples]
    truths = {e.place: e.ground_truth() for e in examples}
    return Workload("tabletop", options.checkpoint, queries, truths, {"max_new_tokens": options.max_new_tokens})


def long_prompts(options: Options, folder: Path) -> Workload:
    """Prompts of VLABench's size: a long text that all share, two pictures, an instruction of its own length."""
    from leap.demo.build import build_benchmark, build_rows, training_texts
    from leap.demo.tasks import TASKS
    from leap.models.loading import load_processor
    from leap.planners import Query
    from leap.vlabench.examples import find_examples

    shared, pictures = _LONG[options.size]
    build_rows(folder / "rows.jsonl", "train", 200, seed=0)
    build_benchmark(folder / "benchmark", -(-options.examples // len(TASKS)), seed=0)
    planner = write_planner(folder / "planner", training_texts(folder / "rows.jsonl"), options.size)
    tokenizer = load_processor(planner).tokenizer
    line = "An object is taken by its number, a container too. "
    text = line * (shared // len(tokenizer(line).input_ids) + 1)
    by_dimension = find_examples(folder / "benchmark", list(DIMENSIONS))
    examples = [example for examples in by_dimension.values() for example in examples]
    queries = []
    for number, example in enumerate(examples):
        picture_items = [{"type": "image", "image": str(path)} for path in (example.plain_image, example.tagged_image)]
        instruction = {"type": "text", "text": (example.instruction() + " ") * (1 + number % 4)}
        content = [{"type": "text", "text": text}, *picture_items, instruction]
        queries.append(Query(example.place, example.task, [{"role": "user", "content": content}]))
    truths = {e.place: e.ground_truth() for e in examples}
    # One bound for fewest and most makes every picture this large, whatever it was drawn at.
    limits = {"max_new_tokens": options.answer_tokens, "image_tokens_min": pictures, "image_tokens_max": pictures}
    return Workload(f"long, {options.size}", planner, queries, truths, limits)


def write_planner(folder: Path, texts: Sequence[str], size: str) -> Path:
    """A model of random weights, large enough that its answers follow its prompts, without an end-of-turn token."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from leap.demo.tiny_planner import build_tiny_planner
    from leap.training.accounting import sized_config

    build_tiny_planner(folder, texts)
    tiny = size == "tiny"
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False) if tiny else sized_config(size, folder)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() and not tiny else "cpu"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32 if tiny else torch.bfloat16)
    if tiny:
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    model.generation_config.eos_token_id = [config.get_text_config().vocab_size - 1]
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    return folder


def measure(workload: Workload, options: Options, device: str) -> dict[str, Any]:
    """Answer all prompts in all modes; prints the table and returns what JSON holds."""
    from leap.planners.huggingface import HuggingFacePlanner
    from leap.planners.options import AnsweringOptions

    knobs = AnsweringOptions(device=device, batch_size=1, reuse_prefix=False, stop_at_plan=False, **workload.limits)
    modes = {"one at a time": knobs}
    modes["batches"] = knobs = replace(knobs, batch_size=options.batch_size)
    modes["and a prefix kept"] = knobs = replace(knobs, reuse_prefix=True)
    modes["and a stop at the plan"] = knobs = replace(knobs, stop_at_plan=True)
    modes["and batches by memory"] = replace(knobs, batch_size=None)
    planners: dict[str, Any] = {name: HuggingFacePlanner(workload.folder, knobs) for name, knobs in modes.items()}
    engine = planners["one at a time"]
    for planner in planners.values():
        planner.model = engine.model  # one in memory
    plain = {
        _FIRST: PlainGenerate(engine, workload.folder, 1),
        "plain, batches": PlainGenerate(engine, workload.folder, options.batch_size),
    }
    plain["plain, batches"].model = plain[_FIRST].model
    planners = plain | planners
    for planner in planners.values():
        answer_all(planner, workload.queries[:2])  # warms up
    few = workload.queries[:: max(1, len(workload.queries) // (options.single_examples or len(workload.queries)))]
    prompts = {name: few if "one at a time" in name else workload.queries for name in planners}
    seconds: dict[str, list[float]] = {name: [] for name in planners}
    answers: dict[str, dict[str, Any]] = {}
    for number in range(options.rounds):
        say(f"{workload.name}: round {number + 1} of {options.rounds}, {len(workload.queries)} prompts")
        for name, planner in planners.items():
            answers[name], spent = answer_all(planner, prompts[name])
            seconds[name].append(spent / len(prompts[name]))
    equal = equal_scores(answers, workload.truths)
    count = len(few)
    if device == "cpu" and min(equal.values()) < count:
        raise RuntimeError(f"{workload.name}: scores differ between modes: {equal} of {count} are equal")
    tokens = statistics.mean(answer.new_tokens for answer in answers[_FIRST].values())
    say(f"{workload.name}: {tokens:.0f} new tokens an answer on average")
    rows = [["mode", "examples/CPU-s" if device == "cpu" else "examples/s", *_RATIOS, "equal scores"]]
    results, previous = {}, seconds[_FIRST]
    for name, spent in seconds.items():
        rate = 1 / statistics.median(spent)
        ratios = [_ratio(slow, spent) for slow in (seconds[_FIRST], previous)]
        results[name] = dict(zip(_KEYS, (rate, *ratios), strict=True))
        rows.append([name, *(f"{value:.2f}" for value in (rate, *ratios)), str(equal[name])])
        previous = spent
    say(markdown_table(rows, right_from=1))
    return {
        "modes": results,
        "equal_scores": equal,
        "prompts": count,
        "seconds_a_prompt": seconds,
        "new_tokens": tokens,
    }


class PlainGenerate:
    """Prompts as they come, a padded batch at a time, through transformers' own model, cache and generate()."""

    def __init__(self, engine: Any, folder: Path, batch_size: int) -> None:
        """With the processor, device and limits of the planner `engine`."""
        self.processor, self.device, self.dtype = engine.processor, engine.device, engine.dtype
        self.most_tokens, self.folder, self.batch_size = engine.options.max_new_tokens, folder, batch_size

    @cached_property
    def model(self) -> Any:
        from transformers import AutoModelForImageTextToText

        model = AutoModelForImageTextToText.from_pretrained(
            self.folder, dtype=self.dtype, attn_implementation="sdpa", trust_remote_code=False
        )
        return model.to(self.device).eval()

    def batches(self, queries: Sequence[Any]) -> list[Sequence[Any]]:
        return [queries[start : start + self.batch_size] for start in range(0, len(queries), self.batch_size)]

    def answer(self, batches: Sequence[Sequence[Any]]) -> Iterator[list[tuple[Any, Any]]]:
        from leap.models.answer import Answer
        from leap.models.generation import encode

        for batch in batches:
            prompts = [
                self.processor.apply_chat_template(query.messages, tokenize=False, add_generation_prompt=True)
                for query in batch
            ]
            inputs = encode(self.processor, prompts, [query.pictures() for query in batch]).to(self.device)
            output = self.model.generate(**inputs, max_new_tokens=self.most_tokens, do_sample=False)
            rows = output[:, inputs["input_ids"].shape[1] :].tolist()
            texts = self.processor.tokenizer.batch_decode(rows, skip_special_tokens=True)
            ends = {self.model.generation_config.pad_token_id}
            lengths = [sum(token not in ends for token in row) for row in rows]
            yield [(query, Answer(*answer, "end")) for query, *answer in zip(batch, texts, lengths, strict=True)]


def answer_all(planner: Any, queries: Sequence[Any]) -> tuple[dict[str, Any], float]:
    """{key: answer} and the seconds it took: of CPU time where the CPU does the work."""
    clock = time.process_time if planner.device == "cpu" else time.perf_counter
    started = clock()
    answers_by_key = {query.key: answer for part in planner.answer(planner.batches(queries)) for query, answer in part}
    return answers_by_key, clock() - started


def equal_scores(answers: dict[str, dict[str, Any]], truths: dict[str, list[dict]]) -> dict[str, int]:
    """How many answers of each mode score as those of plain generate, one at a time."""
    from leap.plans.scoring import score_grounded, score_official

    def scores(text: str, truth: list[dict]) -> list:
        return [score(text, truth, order_independent=False) for score in (score_official, score_grounded)]

    first = {key: scores(answer.text, truths[key]) for key, answer in answers[_FIRST].items()}
    return {
        mode: sum(scores(by_key[key].text, truths[key]) == score for key, score in first.items())
        for mode, by_key in answers.items()
    }


def _ratio(slow: list[float], fast: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


if __name__ == "__main__":
    run(main)
