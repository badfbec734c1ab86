#!/usr/bin/env python3
"""Ask a planner on a small web page of this machine: a picture in, a plan and its steps out, with the picture's tags.

    python scripts/evaluation/chat.py --checkpoint output/checkpoint-200
    python scripts/evaluation/chat.py --planner openai --base_url http://127.0.0.1:8000/v1 --model NAME --port 7861

It listens on this machine only unless --host says otherwise; whoever reaches it may ask. It needs the extra:
pip install -e ".[chat]"
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.errors import UserError
from leap.cli import knob, parse_knobs, run
from leap.planning.chat import open_page, require_gradio
from leap.planning.options import PlanningOptions
from leap.planning.photos import PhotoPlanner, planning_models
from leap.planning.serving import require_free_port
from leap.progress import say


@dataclass(frozen=True)
class Options(PlanningOptions):
    host: str = knob("127.0.0.1", "address to listen at")
    port: int = knob(7860, "port to listen at", check="> 0")


def main(argv: list[str] | None = None) -> int:
    options = parse_knobs(Options, argv, __doc__)
    require_gradio()
    require_free_port(options.host, options.port)
    models = planning_models(options)
    if len(models) > 1:
        raise UserError("a page asks one model; give --checkpoint once, and another page another --port")
    planner = PhotoPlanner(options, models[0])
    for note in planner.notes:
        say(f"warning: {note}")
    say(f"{planner.name} plans at http://{options.host}:{options.port}; Ctrl-C ends it")
    open_page(planner, options.host, options.port)
    return 0


if __name__ == "__main__":
    run(main)
