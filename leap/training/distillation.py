"""Thoughts of a teacher as training targets: asked for with a plan, kept where the plan is right.

A teacher model is shown a planning row and asked for a few sentences of thought and the plan; it never sees the row's
own plan. An answer is kept if its plan is right by the rewards of leap/training/rewards.py: a skill list equal to the
row's, or numbered steps near enough to it. This is rejection sampling as in STaR (Zelikman et al. 2022,
arXiv:2203.14465). The target of the new row is

    <think>
    the thought
    </think>
    the plan, as a fenced skill list or "1) ... 2) ..."

The folder of a teacher's answers holds settings.json and two journals, a line an answer,

    answers.jsonl    {"key", "row": "file:line", "text", "new_tokens", "stop", "most_tokens": [input, output]}
    failures.jsonl   {"key", "row", "kind", "reason", "most_tokens"}

so that a killed run goes on where it was and no prompt is asked again that was answered. `most_tokens` are the most
that it can have taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.cli import knob
from leap.data.planning_files import require_each_once
from leap.files import numbered_jsonl, sha256_file, sha256_json, write_jsonl
from leap.judge.ledger import OVERHEAD_TOKENS, PICTURE_TOKENS_MOST, Price, TokenCounts, read_prices, total
from leap.judge.options import PRICES
from leap.models.answer import Answer
from leap.planners import MachineFailure, Planner, Query, open_planner
from leap.planners.asking import AnswerLog, Journals, OpenQueries, answer_in_turn, claimed_journals
from leap.planners.options import DrawingOptions
from leap.plans.metrics import numbered_steps
from leap.plans.reading import answer_text, fenced_steps, read_tolerant
from leap.progress import Progress, print_some, say
from leap.rows.chat import resolve_image, task_name_of
from leap.rows.exchange import files_beside
from leap.rows.records import PlanningRow, no_rows, row_from_record
from leap.rows.videos import video_items
from leap.runs.ranks import ALONE
from leap.text import plural
from leap.training.rewards import ThoughtRule, reward_terms, truth_of

REQUEST = """
Think first, in a few sentences of at most {characters} characters in all: what the picture shows, which objects are \
meant, and what follows from that. Then give the plan, in exactly the form that is asked for above. Answer like this:
Thought: ...
Plan:
...
"""

JOURNALS = ("answers.jsonl", "failures.jsonl")

# "Thought: ... Plan: ...", where a plan may also begin with its fence, or a thought between tags.
_PARTS = re.compile(
    r"\s*\**thought:\**(?P<thought>.*?)(?:\n\s*\**plan:\**|(?=```json))(?P<plan>.*)", re.DOTALL | re.IGNORECASE
)
_TAGGED = re.compile(r"\s*<think>(?P<thought>.*?)</think>(?P<plan>.*)", re.DOTALL)


@dataclass(frozen=True)
class DistillationOptions(DrawingOptions):
    """UserError for several draws of greedy decoding."""

    planner: str = knob("openai", "who the teacher is", choices=tuple(DrawingOptions.planner_modules))
    max_new_tokens: int = knob(1024, "longest answer in tokens", check="> 0")
    stop_at_plan: bool = knob(False, "stop an answer behind a finished JSON plan")

    rows: list[Path] = knob([], "planning files whose rows are asked")
    image_root: Path | None = knob(None, "folder that image paths are relative to, if not beside the planning file")
    output: Path | None = knob(None, "planning file to write (default: <name>_thoughts.jsonl beside the first)")
    answers_dir: Path = knob(Path("logs/distill"), "folder for the answers of teachers, a folder for each")
    max_rows: int | None = knob(None, "only the first so many rows with a plan", check="> 0")
    draws: int = knob(1, "answers drawn to a row until one is right", check="> 0")
    thought_characters: int = knob(800, "longest thought in characters", check="> 0")
    least_step_f1: float = knob(
        0.9, "of numbered steps: word F1 (0 to 1) from which a plan counts as right", check="> 0"
    )

    dry_run: bool = knob(False, "say how many requests it takes, and their price at most; ask nobody")
    max_requests: int | None = knob(None, "ask no more than so many prompts, over all runs", check="> 0", free=True)
    budget: float | None = knob(
        None, "stop before answers can have cost this much, in the currency of the price table", check=">= 0", free=True
    )
    prices: Path | None = knob(None, "price table (default: configs/judge/prices.yaml of the repository)", free=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws > 1 and not self.temperature:
            raise UserError(f"--draws {self.draws} brings the same answer each time without --temperature, such as 0.7")
        if self.least_step_f1 > 1:
            raise UserError(f"--least_step_f1 is at most 1, found {self.least_step_f1:g}")

    @property
    def teacher(self) -> str:
        return self.model or (self.base_model.name if self.base_model else "")


@dataclass
class TaughtRow:
    """A row to think about, as its line has it and typed, its pictures, and the target once there is one."""

    record: dict[str, Any]
    row: PlanningRow
    pictures: list[Path]
    target: str | None = None
    problems: list[str] = field(default_factory=list)  # of the answers so far


class UselessAnswer(Exception):
    """An answer that teaches nothing; its message says why."""


def distil(options: DistillationOptions, workspace: WorkspaceConfig) -> int:
    """Ask the teacher, write what was right, and say what came of it; 1 if rows failed or were not asked.

    UserError if rows or teacher are missing, or the endpoint is of no use; what was right until then is written.
    """
    require_each_once(options.rows, workspace)
    output = _output(options)
    planner = _open_teacher(options)
    table = options.prices or PRICES
    price = read_prices(table).get(options.teacher)
    if options.budget is not None and price is None:
        raise UserError(f"--budget needs the price of {options.teacher}: add it to {table}, or name another --prices")
    rows = rows_to_teach(options, workspace)
    settings = {
        "planner": planner.identity(),
        "request": sha256_json([REQUEST, options.thought_characters]),
        "seed": options.seed if options.temperature else None,
    }
    # Another teacher, or another request, has a folder of its own: nothing is thrown away, nothing asked twice.
    folder = options.answers_dir / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', options.teacher)}-{sha256_json(settings)[:8]}"
    with claimed_journals(folder, JOURNALS, settings, ALONE, overwrite=False) as journals:
        teaching = Teaching(planner, rows, journals, options, price)
        if options.dry_run:
            say(teaching.estimate())
            return 0
        for note in planner.notes:
            say(f"warning: {note}")
        try:
            teaching.ask()
        finally:
            _write(output, teaching, options, workspace)
    return 1 if teaching.unasked or teaching.failed else 0


def rows_to_teach(options: DistillationOptions, workspace: WorkspaceConfig) -> list[TaughtRow]:
    """The rows whose plan can be compared; says how many others there are. UserError if there is none."""
    rows, left_out = [], Counter[str]()
    for path in options.rows:
        for number, record in numbered_jsonl(path):
            row = row_from_record(record, f"{path}:{number}", path.parent)
            if reason := _why_not_teachable(row):
                left_out[reason] += 1
                continue
            pictures = [
                resolve_image(item["image"], row, options.image_root, workspace.root)
                for turn in row.messages
                for item in turn["content"]
                if item["type"] == "image"
            ]
            rows.append(TaughtRow(record, row, pictures))
    for reason, count in left_out.items():
        say(f"left out: {plural(count, 'row')} {reason}")
    if not rows:
        raise no_rows(options.rows[0]) if not left_out else UserError("no row has a plan that can be compared")
    return rows[: options.max_rows]


def _why_not_teachable(row: PlanningRow) -> str:
    try:
        truth_of(row.steps)
    except UserError:
        return "without a plan that can be compared"
    return "with a video" if video_items(row) else ""


class Teaching:
    """The questions to a teacher, and what its journaled answers are worth."""

    def __init__(
        self,
        planner: Planner,
        rows: Sequence[TaughtRow],
        journals: Journals,
        options: DistillationOptions,
        price: Price | None,
    ) -> None:
        self.planner, self.rows, self.journals = planner, rows, journals
        self.options, self.price = options, price
        self.failed = self.unasked = 0
        self._wheres: dict[str, str] = {}  # by the key of a query
        self._rule = ThoughtRule(options.thought_characters)
        lines = [*journals.answers.read(), *journals.failures.read()]
        self._requests = len(lines)
        self._spent = total(TokenCounts(*line["most_tokens"]) for line in lines)

    def ask(self) -> None:
        """Ask for a first answer to each row, then for a second one where that was wrong, and so on."""
        for draw in range(self.options.draws):
            open_rows = list(self._open_rows(draw))
            self._wheres |= {query.key: taught.row.where for query, taught in open_rows}
            queries = {query.key: query for query, _ in open_rows}
            answered_keys = self._texts().keys() & queries
            open_queries = OpenQueries(queries.values(), answered_keys, self._lines)
            batches = self._affordable(open_queries.batches(self.planner))
            with Progress(f"thoughts, answer {draw + 1}", len(queries), "row", len(answered_keys)) as progress:
                log = AnswerLog(self.journals.answers, self.journals.failures, progress, None)
                try:
                    answer_in_turn([(open_queries, self.planner.answer(batches))], log)
                finally:
                    self.failed += log.failed
                    self.unasked = len(open_queries.keys)
                    self._judge(open_rows)
            if self.unasked:
                return

    def estimate(self) -> str:
        """What the first answers to all rows take, in words."""
        texts = self._texts()
        queries = {query.key: query for query, _ in self._open_rows(0)}
        todo = [query for key, query in queries.items() if key not in texts]
        most = total(map(self._most, todo))
        cost = most.cost(self.price)
        money = "price not known" if cost is None else f"cost {cost:.4f}"
        return (
            f"{self.options.teacher}: {plural(len(self.rows), 'row')}, {len(queries) - len(todo)} answered already, "
            f"{len(todo)} to ask with at most {most.prompt:,} input and {most.completion:,} output tokens: {money}"
        )

    def _judge(self, open_rows: Iterable[tuple[Query, TaughtRow]]) -> None:
        """Give the rows whose queries are answered their targets, or what is wrong with the answer."""
        texts = self._texts()
        for query, taught in open_rows:
            if query.key in texts:
                try:
                    taught.target = target_of(
                        texts[query.key], taught.row.steps, self._rule, self.options.least_step_f1
                    )
                except UselessAnswer as error:
                    taught.problems.append(str(error))

    def _open_rows(self, draw: int) -> Iterator[tuple[Query, TaughtRow]]:
        """The rows without a target, with the query for their `draw`-th answer."""
        for taught in self.rows:
            if taught.target is None:
                messages = question(taught, self.options.thought_characters)
                items = [item.get("text") or item["image"] for turn in taught.row.messages for item in turn["content"]]
                key = sha256_json([items, [_picture_hash(path) for path in taught.pictures], draw])[:32]
                seed = (int(key[:8], 16) + self.options.seed) % 2**31
                yield Query(key, task_name_of(taught.row) or "", messages, seed=seed), taught

    def _texts(self) -> dict[str, str]:
        return {line["key"]: line["text"] for line in self.journals.answers.read()}

    def _lines(self, query: Query, result: Answer | MachineFailure) -> list[dict]:
        """The line of a journal."""
        most = self._most(query)
        line: dict[str, Any] = {"key": query.key, "row": self._wheres[query.key]}
        if isinstance(result, Answer):
            most = replace(most, completion=result.new_tokens or most.completion)
            line |= {"text": result.text, "new_tokens": result.new_tokens, "stop": result.stop}
        else:
            line |= {"kind": result.kind, "reason": str(result)}
        return [line | {"most_tokens": [most.prompt, most.completion]}]

    def _most(self, query: Query) -> TokenCounts:
        """The most tokens that one answer can take: a token of text holds one byte at least."""
        pictures = len(query.picture_paths()) * (self.price.picture_tokens_most if self.price else PICTURE_TOKENS_MOST)
        texts = (item["text"] for turn in query.messages for item in turn["content"] if item["type"] == "text")
        text_bytes = sum(len(text.encode("utf-8", "replace")) for text in texts)
        return TokenCounts(text_bytes + pictures + OVERHEAD_TOKENS, self.options.max_new_tokens)

    def _affordable(self, batches: Iterable[list[Query]]) -> Iterator[list[Query]]:
        """The batches that can still be asked, each counted as it is taken."""
        for batch in batches:
            spent = total([self._spent, *map(self._most, batch)])
            requests = self._requests + len(batch)
            if self.options.max_requests is not None and requests > self.options.max_requests:
                return
            if self.options.budget is not None and (spent.cost(self.price) or 0.0) > self.options.budget:
                return
            self._spent, self._requests = spent, requests
            yield batch


def question(taught: TaughtRow, characters: int) -> list[dict]:
    """The row's conversation with its pictures' files, and the request for a thought at its end."""
    pictures = iter(taught.pictures)
    turns = [
        {
            "role": turn["role"],
            "content": [
                {"type": "image", "image": str(next(pictures))} if item["type"] == "image" else item
                for item in turn["content"]
            ],
        }
        for turn in taught.row.messages
    ]
    turns[-1]["content"].append({"type": "text", "text": REQUEST.format(characters=characters)})
    return turns


def target_of(answer: str, steps: str, rule: ThoughtRule, least_step_f1: float) -> str:
    """The thought and the plan of an answer as a target for a row whose plan is `steps`. UselessAnswer says why not."""
    # What a reasoning model thought before it answered is not what it was asked for, unless that is all there is.
    parts = _PARTS.fullmatch(answer_text(answer)) or _TAGGED.fullmatch(answer)
    if parts is None or not parts["thought"].strip():
        raise UselessAnswer("no thought in front of a plan")
    prose = bool(truth_of(steps).prose)
    terms = reward_terms(parts["plan"], steps)
    if terms["step"] < least_step_f1 if prose else terms["plan"] < 1:
        raise UselessAnswer("a plan that is not right")
    target = f"<think>\n{parts['thought'].strip()}\n</think>\n{_canonical(parts['plan'], prose=prose)}"
    if reward_terms(target, steps, thought=rule)["thought"] < 1:
        raise UselessAnswer(f"a thought of more than {rule.most_characters} characters, or with a tag in it")
    return target


def _canonical(plan: str, *, prose: bool) -> str:
    if prose:
        return " ".join(f"{number}) {step}" for number, step in enumerate(numbered_steps(plan), 1))
    return fenced_steps(read_tolerant(plan))


def _output(options: DistillationOptions) -> Path:
    if not options.rows:
        raise UserError("name the planning files with --rows, as in --rows data/train.jsonl")
    first = options.rows[0]
    output = options.output or first.with_name(f"{first.stem}_thoughts.jsonl")
    if output.resolve() in {path.resolve() for path in options.rows}:
        raise UserError(f"{output} is a source; choose another --output")
    return output


def _open_teacher(options: DistillationOptions) -> Planner:
    """The teacher. UserError if none is named, or its endpoint is not."""
    if not options.teacher:
        raise UserError(
            "name the teacher with --model, under which an endpoint (--base_url or OPENAI_BASE_URL) serves it, or a "
            "folder with --planner huggingface --base_model"
        )
    if options.planner != "openai" and options.base_model is None:
        raise UserError(f"--planner {options.planner} needs the teacher's folder as --base_model")
    return open_planner(options, options.base_model)


def _write(output: Path, teaching: Teaching, options: DistillationOptions, workspace: WorkspaceConfig) -> None:
    """Write the rows that have a target, and say what the others lack."""
    taught_rows = [taught for taught in teaching.rows if taught.target is not None]
    problems = Counter(taught.problems[-1] for taught in teaching.rows if taught.target is None and taught.problems)
    say(f"{len(taught_rows)} of {plural(len(teaching.rows), 'row')} got a thought with a right plan")
    print_some([f"  {count} got {problem}" for problem, count in problems.most_common()], JOURNALS[0])
    if teaching.failed:
        say(f"  {plural(teaching.failed, 'answer')} failed; the same command asks again ({JOURNALS[1]})")
    if teaching.unasked:
        unasked = plural(teaching.unasked, "answer")
        say(f"  {unasked} not asked for: --max_requests or --budget ended the run, or a failure")
    if taught_rows:
        write_jsonl(output, (_record(taught, output.parent, options, workspace) for taught in taught_rows))
        say(f"-> {output}")


def _record(
    taught: TaughtRow, folder: Path, options: DistillationOptions, workspace: WorkspaceConfig
) -> dict[str, Any]:
    """The row's own record with its new target; paths of pictures count in `folder`, where they are others there."""
    messages = taught.record["messages"]
    if options.image_root or folder.resolve() != taught.row.folder.resolve():
        path_of = files_beside(taught.row, None, options.image_root, workspace.root)

        def placed(item: dict) -> dict:
            return item | {"image": path_of(item["image"])} if item["type"] == "image" else item

        messages = [turn | {"content": list(map(placed, turn["content"]))} for turn in taught.row.messages]
    target = taught.record["target"] | {"steps": taught.target}
    return taught.record | {"messages": messages, "target": target, "teacher": options.teacher}


@cache
def _picture_hash(path: Path) -> str:
    return sha256_file(path)
