"""Models of the tests' own that write a review's plans, and runs that ask them."""

from __future__ import annotations

import json
from pathlib import Path

from leap.blind.options import OutputOptions
from leap.blind.rows import read_blind_rows
from leap.blind.run import write_outputs
from leap.files import read_jsonl
from leap.models.answer import Answer
from leap.models.loading import UnusableModel
from leap.planners import MachineFailure
from leap.planners.candidates import Candidate

MODELS = [Candidate(Path("base"), "baseline"), Candidate(Path("b"), "checkpoint-20")]


class Writer:
    """A planner that answers two prompts at once with its name and their last words, and notes whom it was asked."""

    notes = ()

    def __init__(self, name, said, settings=None, answer=None):
        self.name, self.said, self.settings, self._answer = name, said, settings or {}, answer

    def identity(self):
        return {"planner": "writer", "weights_sha256": self.name, **self.settings}

    def batches(self, queries):
        return [queries[i : i + 2] for i in range(0, len(queries), 2)]

    def answer(self, batches):
        for batch in batches:
            self.said.append((self.name, [query.task for query in batch]))
            yield [(query, self._result(query)) for query in batch]

    def _result(self, query):
        try:
            text = self._answer(query) if self._answer else f"{self.name}: {query.messages[-1]['content'][-1]['text']}"
            return Answer(text, 5, "end")
        except MachineFailure as failure:
            return failure


class Asking:
    """Runs over `data` into `folder`; `said` collects who was asked for which batches."""

    def __init__(self, data, folder):
        self.data, self.folder, self.said, self.settings, self.answers = data, folder, [], {}, {}
        self.unusable, self.standing = {}, []

    def __call__(self, models=MODELS, **options):
        self.said.clear()
        rows = read_blind_rows(self.data, None, self.data.parent)
        review = write_outputs(models, rows, self.open, OutputOptions(save_dir=self.folder, **options))
        outputs, self.standing = review
        return outputs

    def open(self, folder):
        if folder.name in self.unusable:
            raise UnusableModel(self.unusable[folder.name])
        return Writer(folder.name, self.said, self.settings, self.answers.get(folder.name))

    def asked(self, name):
        return [len(tasks) for model, tasks in self.said if model == name]


def edit(data, change):
    records = read_jsonl(data)
    change(records)
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
