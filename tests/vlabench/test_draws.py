"""Several drawn answers to an example: their mean, pass@k, the majority's plan and their spread."""

import itertools
import json
from collections import Counter

import pytest

from leap.planners import MachineFailure
from leap.plans.reading import fenced
from leap.vlabench.draws import DrawnAnswer, draw_notes, majority, pass_at
from leap.vlabench.folder import ResultFolder
from leap.vlabench.rescore import rescore_journal
from leap.vlabench.tables import results_table
from tests.vlabench.scripted import Script, evaluate, place_of, truth


def test_pass_at_k_is_the_share_of_choices_of_k_answers_that_hold_a_right_one():
    for count, right, k in itertools.product(range(1, 6), range(6), range(1, 6)):
        if right <= count and k <= count:
            choices = list(itertools.combinations([1] * right + [0] * (count - right), k))
            assert pass_at(right, count, k) == pytest.approx(sum(map(any, choices)) / len(choices))


def test_the_majority_is_a_plan_where_any_answer_has_one_and_of_equals_the_first_drawn():
    answers = [DrawnAnswer(plan, (number,)) for number, plan in enumerate((None, None, "a", "b", "b"))]
    assert majority(answers).scores == (3,)
    assert majority(answers[:4]).scores == (2,)
    assert majority(answers[:2]).scores == (0,)


class Drawn:
    """Answers that are right for the first `right` draws of each example, and no plan after these."""

    def __init__(self, examples, right):
        self.right, self.truth, self.seeds = right, truth(examples), []
        self.turns = Counter()

    def __call__(self, query):
        place = place_of(query)
        self.seeds.append(query.seed)
        self.turns[place] += 1
        return self.truth(query) if self.turns[place] <= self.right else "no idea"


def test_scores_are_means_over_the_draws_and_a_summary_holds_what_else_they_come_to(examples, folder):
    answer = Drawn(examples, right=2)
    summary = evaluate(Script(answer), examples, folder, num_samples=5)
    assert len(set(answer.seeds)) == 4 * 5
    assert summary["examples"]["answered"] == 4
    assert summary["scores"]["official"]["total_score"]["mean"] == pytest.approx(80 * 2 / 5)
    draws = summary["draws"]
    assert draws["count"] == 5
    means = {k: estimate[0] for k, estimate in draws["pass_at"].items()}
    assert means == pytest.approx({"1": 40, "2": 70, "3": 90, "4": 100, "5": 100})
    assert draws["majority"]["grounded.plan_success"][0] == 100
    assert draws["spread"]["grounded.plan_success"] == pytest.approx(100 * (0.3**0.5))
    [note] = draw_notes(folder.parents[1], [folder.name])
    assert "5 answers drawn an example" in note
    assert "pass@2 70.0" in note
    assert note in results_table(folder.parents[1], [folder.name])


def test_further_draws_ask_only_for_what_is_not_there_and_scoring_again_changes_nothing(examples, folder):
    evaluate(Script(Drawn(examples, right=9)), examples, folder, num_samples=2)
    more = Script(Drawn(examples, right=0))
    summary = evaluate(more, examples, folder, num_samples=3)
    assert summary["scores"]["official"]["total_score"]["mean"] == pytest.approx(80 * 2 / 3)
    assert len(ResultFolder(folder).samples[examples[0].task, examples[0].number]) == 3
    lines = [json.loads(line) for line in (folder / "generations.jsonl").read_text().splitlines()]
    assert [line.get("sample", 0) for line in lines] == [0, 1, 2] * 4
    before = {name: (folder / name).read_bytes() for name in ("final_score.json", "grounded_score.json", "output.json")}
    rescored = rescore_journal(folder, examples)
    assert rescored.summary.draws["pass_at"] == summary["draws"]["pass_at"]
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_an_example_with_a_draw_that_the_machine_failed_is_not_scored(examples, folder):
    def answer(query):
        if place_of(query) == place_of_first and next(turns) == 1:
            raise MachineFailure("out of memory")
        return fenced(examples[0].ground_truth())

    turns, place_of_first = itertools.count(), (examples[0].task, examples[0].number)
    summary = evaluate(Script(answer), examples, folder, num_samples=2)
    assert (summary["examples"]["answered"], summary["examples"]["machine_failure"]) == (3, 1)


def test_greedy_answers_have_no_draws(examples, folder):
    assert evaluate(Script(truth(examples)), examples, folder)["draws"] == {}
    assert draw_notes(folder.parents[1], [folder.name]) == []
