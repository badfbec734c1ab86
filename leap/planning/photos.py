"""Plans for photos, one at a time: a planner is opened once and asked as often as one likes.

from leap.planning import plan

photo_plan = plan("Put the cup on the shelf", "photo.jpg", checkpoint="output/checkpoint-200")
print(photo_plan.steps)
photo_plan.drawing().save("plan.png")
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from configs.config import WorkspaceConfig
from leap.judge.plan_text import steps_of_text
from leap.planners import MachineFailure, open_planner
from leap.planners.candidates import Candidate, models_to_ask, require_complete
from leap.planning.drawing import draw_plan
from leap.planning.options import PlanningOptions
from leap.planning.requests import PlanRequest, RequestWriter
from leap.planning.tags import Tags, with_tags
from leap.plans.metrics import numbered_steps
from leap.plans.reading import FormatError, Step, read_tolerant
from leap.rows.images import load_image


@dataclass(frozen=True)
class PhotoPlan:
    """What a model wrote for a request. `text` is its answer as it came, `stop` why it ended there
    (leap.models.answer), `sample` its number from 0 where several are drawn."""

    request: PlanRequest
    model: str
    text: str
    stop: str = "end"
    new_tokens: int | None = None
    sample: int | None = None

    @cached_property
    def skills(self) -> list[Step]:
        """The skill list of the answer, [] if it is none."""
        try:
            return read_tolerant(self.text)
        except FormatError:
            return []

    @cached_property
    def steps(self) -> list[str]:
        """The steps in words: of the skill list, else the numbered ones, else the lines; [] for a list of skills that
        is broken or cut off."""
        is_broken_list = not self.skills and "{" in self.text and not numbered_steps(self.text)
        return [] if is_broken_list else steps_of_text(self.text)

    def unknown_tags(self) -> list[int | str]:
        """What the skills name that is no tag of the picture, where its tags are known."""
        if not self.request.tags:
            return []
        named = [tag for step in self.skills for tag in (step.entity, step.container) if tag is not None]
        return list(dict.fromkeys(tag for tag in named if tag not in self.request.tags))

    def problems(self) -> list[str]:
        """What is wrong with the plan, in words, as far as it can be seen without looking."""
        problems = ["the answer was cut by --max_new_tokens"] if self.stop == "length" else []
        if not self.steps:
            problems.append("the answer holds no plan that can be read")
        if unknown := self.unknown_tags():
            problems.append(f"the plan names {', '.join(map(str, unknown))}, which is no tag")
        return problems

    def record(self) -> dict[str, Any]:
        """Request and plan, as JSON."""
        return {
            **self.request.record(),
            "model": self.model,
            "text": self.text,
            "steps": self.steps,
            "skills": [{"name": s.skill, "entity": s.entity, "container": s.container} for s in self.skills],
            "stop": self.stop,
            "new_tokens": self.new_tokens,
            **({} if self.sample is None else {"sample": self.sample}),
        }

    def drawing(self) -> Image.Image:
        """The pictures with their tags, and the steps beside them, as RGB."""
        request = self.request
        paths = [request.tagged_image or request.images[0], *request.images[1:]] if request.images else []
        pictures = [load_image(path, request.where) for path in paths]
        if pictures and request.tags and not request.tagged_image:
            pictures[0] = with_tags(pictures[0], request.tags)
        return draw_plan(request.instruction, pictures, self.steps, self.skills, request.tags)


class PhotoPlanner:
    """A model that is asked for plans; its weights are loaded at the first one and stay."""

    def __init__(self, options: PlanningOptions, model: Candidate) -> None:
        """UserError if the model cannot be had. `notes` are what a user should know before trusting its plans."""
        self.name, self.options = model.name, options
        self._home = tempfile.TemporaryDirectory(prefix="leap-plan-")  # removed with this object
        self._writer = RequestWriter(options, WorkspaceConfig.from_environment(), Path(self._home.name))
        self._planner = open_planner(options, model.folder)

    @classmethod
    def opened(
        cls, checkpoint: str | Path | None = None, base_model: str | Path | None = None, **knobs: Any
    ) -> PhotoPlanner:
        """A checkpoint, full or adapter, or else the base model; or planner="openai" with `base_url` and `model`.
        `knobs` are those of leap.planning.options.PlanningOptions."""
        folders = [Path(checkpoint)] if checkpoint else []
        base = Path(base_model) if base_model else None
        options = PlanningOptions(checkpoint=folders, base_model=base, **knobs)
        return cls(options, planning_models(options)[0])

    @property
    def notes(self) -> list[str]:
        return list(self._planner.notes)

    def plan(
        self,
        instruction: str,
        *images: str | Path,
        tagged_image: str | Path | None = None,
        tags: Tags | None = None,
    ) -> PhotoPlan:
        """A plan for what the pictures show. The first one's tags are in `tagged_image`, or are drawn at `tags`, number
        -> (x, y) in pixels. UserError for a picture that cannot be used, MachineFailure if the machine fails."""
        tagged = Path(tagged_image) if tagged_image else None
        return self.answer(PlanRequest(instruction, tuple(map(Path, images)), tagged, tags or {}))

    def answer(self, request: PlanRequest) -> PhotoPlan:
        """The same for a request."""
        return self.answers(request)[0]

    def answers(self, request: PlanRequest, num_samples: int = 1) -> list[PhotoPlan]:
        """So many plans for a request, drawn at the `temperature` of the knobs. UserError, MachineFailure as above."""
        queries = self._writer.queries(request, num_samples)
        batches = self._planner.answer(self._planner.batches(queries))
        results = {query.key: result for pairs in batches for query, result in pairs}
        plans = []
        for sample, query in enumerate(queries):
            result = results[query.key]
            if isinstance(result, MachineFailure):
                raise result
            number = sample if num_samples > 1 else None
            plans.append(PhotoPlan(request, self.name, result.text, result.stop, result.new_tokens, number))
        return plans


def plan(
    instruction: str,
    *images: str | Path,
    checkpoint: str | Path | None = None,
    tagged_image: str | Path | None = None,
    tags: Mapping[int, tuple[int, int]] | None = None,
    **knobs: Any,
) -> PhotoPlan:
    """A plan by a model that is loaded for it alone; ask a PhotoPlanner for several. Arguments and errors are those of
    PhotoPlanner.opened and PhotoPlanner.plan."""
    return PhotoPlanner.opened(checkpoint, **knobs).plan(instruction, *images, tagged_image=tagged_image, tags=tags)


def planning_models(options: PlanningOptions) -> list[Candidate]:
    """The models that the options name, or the base. UserError for one that is missing or incomplete."""
    workspace = WorkspaceConfig.from_environment()
    models = models_to_ask(options, workspace, workspace.output, with_base=not options.checkpoint, with_complete=False)
    require_complete(models)
    return models
