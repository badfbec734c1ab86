"""A planner that answers by a script, and evaluations that ask it."""

from dataclasses import asdict

from configs.config import WorkspaceConfig
from leap.models.answer import Answer
from leap.planners import MachineFailure
from leap.plans.reading import fenced
from leap.runs.ranks import ALONE
from leap.vlabench.prompts import PromptWriter
from leap.vlabench.run import evaluate_dimension


class Script:
    """A planner that answers two prompts at once by a function of the query, and can give out."""

    notes = ()

    def __init__(self, answer, name="script"):
        self._answer, self.name, self.asked = answer, name, []

    def identity(self):
        return {"planner": self.name}

    def batches(self, queries):
        return [queries[i : i + 2] for i in range(0, len(queries), 2)]

    def answer(self, batches):
        for batch in batches:
            self.asked.append([place_of(query) for query in batch])
            yield [(query, self._result(query)) for query in batch]

    def _result(self, query):
        try:
            return Answer(self._answer(query), 5, "end")
        except MachineFailure as failure:
            return failure


def place_of(query):
    """(task, number) of the example that a query shows, by the folder of its last picture."""
    folder = query.picture_paths()[-1].parents[1]
    return folder.parent.name, int(folder.name.removeprefix("example"))


def evaluate(
    planner, there, folder, chosen=None, overwrite=False, retry_failed=False, ranks=ALONE, num_samples=1, **options
):
    writer = PromptWriter(WorkspaceConfig(folder), "builtin", **options)
    how = {"overwrite": overwrite, "retry_failed": retry_failed, "ranks": ranks}
    how |= {"drawing": {"seed": 7}, "num_samples": num_samples} if num_samples > 1 else {}
    summary = evaluate_dimension(planner, writer, chosen or there, there, folder, None, **how)
    return asdict(summary) if summary else None


def truth(examples):
    plans = {(e.task, e.number): fenced(e.ground_truth()) for e in examples if e.problem() is None}
    return lambda query: plans[place_of(query)]


COUNTS = {"in_benchmark": 4, "answered": 4, "machine_failure": 0, "bad_example": 0, "cut_by_length": 0}
