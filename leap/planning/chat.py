"""A small web page of this machine: a picture in, a plan and its steps out, with the picture's tags.

It is made with Gradio, an extra. The page asks the network for nothing: no analytics, no fonts, no public link.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from configs.errors import UserError
from leap.planners import MachineFailure
from leap.planning.photos import PhotoPlanner
from leap.planning.tags import next_number, with_tags
from leap.rows.images import load_image
from leap.text import printable

_PLACES = "the picture"
_STYLE = "footer {display: none !important}"
_HEIGHT = 360  # of a picture on the page, in pixels


def require_gradio() -> None:
    """UserError that names the extra if Gradio is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise UserError('the page needs Gradio: pip install -e ".[chat]"')


def tagged_at(photo: str, tags: Mapping[int, tuple[int, int]], place: tuple[int, int]) -> tuple[dict, Image.Image]:
    """The tags with one more at `place`, and the picture with all of them."""
    more = {**tags, next_number(tags): place}
    return more, with_tags(load_image(Path(photo), _PLACES), more)


def plan_on_page(
    planner: PhotoPlanner, instruction: str, photo: str | None, tagged: str | None, tags: Mapping[int, tuple[int, int]]
) -> tuple[str, Image.Image, str, str]:
    """(steps, drawing, the answer as it came, remarks) for what stands on the page: where nobody has set `tags`, the
    picture with tags is the user's own. UserError for what is missing, MachineFailure without an answer."""
    if not photo:
        raise UserError("put a picture into the first field")
    own_tagged = tagged if tagged and not tags else None
    photo_plan = planner.plan(instruction.strip(), photo, tagged_image=own_tagged, tags=tags)
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(photo_plan.steps, 1))
    return steps, photo_plan.drawing(), photo_plan.text, "; ".join(photo_plan.problems())


def build_page(planner: PhotoPlanner) -> Any:
    """The page as gradio.Blocks."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
    import gradio

    def ask(instruction: str, photo: str | None, tagged: str | None, tags: dict) -> tuple:
        try:
            return plan_on_page(planner, instruction, photo, tagged, tags)
        except (UserError, MachineFailure) as error:
            raise gradio.Error(printable(str(error))) from error

    def tag(photo: str, tags: dict, event: Any) -> tuple:
        return tagged_at(photo, tags, (int(event.index[0]), int(event.index[1])))

    # Gradio hands the click over by this type, which no annotation can name before Gradio is imported.
    tag.__annotations__["event"] = gradio.SelectData

    with gradio.Blocks(title=f"LEAP: {planner.name}", analytics_enabled=False) as page:
        tags = gradio.State({})
        gradio.Markdown(f"# A plan by {planner.name}\nClick on objects of the picture to number them, if you like.")
        picture = {"type": "filepath", "format": "png", "height": _HEIGHT}
        with gradio.Row():
            photo = gradio.Image(label="Picture", sources=["upload", "clipboard"], elem_id="photo", **picture)
            tagged = gradio.Image(label="With its tags", sources=["upload"], elem_id="tagged", **picture)
        instruction = gradio.Textbox(label="What should the robot do?", elem_id="instruction")
        with gradio.Row():
            button = gradio.Button("Plan", variant="primary", elem_id="plan")
            without = gradio.Button("Remove tags", elem_id="untag")
        with gradio.Row():
            with gradio.Column():
                steps = gradio.Textbox(label="Steps", lines=6, elem_id="steps")
                remarks = gradio.Textbox(label="Remarks", elem_id="remarks")
                answer = gradio.Textbox(label="Answer as it came", elem_id="answer")
            drawing = gradio.Image(label="Plan", type="pil", format="png", interactive=False, elem_id="drawing")

        photo.select(tag, [photo, tags], [tags, tagged], api_name=False)
        for event in (photo.upload, photo.clear, without.click):
            event(lambda: ({}, None), None, [tags, tagged], api_name=False)
        for event in (button.click, instruction.submit):
            event(ask, [instruction, photo, tagged, tags], [steps, drawing, answer, remarks], api_name=False)
    return page


def open_page(planner: PhotoPlanner, host: str, port: int, *, wait: bool = True) -> Any:
    """Serve the page at http://host:port until Ctrl-C, or return the running page at once; `close()` ends it."""
    page = build_page(planner)
    import gradio

    theme = gradio.themes.Default(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace"))
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        ssr_mode=False,
        quiet=True,
        theme=theme,
        css=_STYLE,
        prevent_thread_lock=not wait,
    )
    return page
