#!/usr/bin/env python3
"""Make planning rows that teach which number is which object, from examples in the benchmark's folder format.

    python scripts/utils/make_grounding_rows.py --data_path dataset/more_examples
    python scripts/utils/make_grounding_rows.py --data_path dataset/more_examples --count 2000 --find_share 0.6

Planners know skills sooner than ids; such rows train the ids. Writes data/grounding.jsonl (or --output) and the
pictures to images/ beside it: rows that list the objects of a picture, find one of them, or plan by the benchmark's own
prompt. Examples that show a picture or a scene of what is tested on (--benchmark) are refused.
"""

from __future__ import annotations

import shlex

from configs.config import WorkspaceConfig, next_line
from leap.cli import parse_knobs, run
from leap.progress import say
from leap.vlabench.grounding_rows import GroundingKnobs, write_grounding_rows


def main() -> None:
    knobs = parse_knobs(GroundingKnobs, None, __doc__)
    write_grounding_rows(knobs, WorkspaceConfig.from_environment())
    say(next_line(f"python scripts/training/validate_data.py --rows {shlex.quote(str(knobs.output))}"))


if __name__ == "__main__":
    run(main)
