"""A small blind review on disk: rows with pictures, the plans of a few models."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from leap.blind.outputs import OUTPUTS_FILE, Output

REFERENCE = "1) Pick up the red cup. 2) Place the cup on the tray. 3) Close the drawer."
PLANS = (
    "1) Lift. 2) Lift. 3) Lift.",
    "1. Pick up the red cup.\n2. Place the cup on the tray.\n3. Close the drawer.",
    "- Pick up the cup\n- Place the cup on the tray",
    "**Sure!** 1. Close the drawer. 2. Pick up the red cup.",
    "The robot tidies up.",
    "",
)
MODELS = ("baseline", "checkpoint-100", "checkpoint-200", "checkpoint-300", "lora_full-checkpoint-60", "silent")


def write_review(folder: Path, rows: int = 10, models: tuple[str, ...] = MODELS, pictures: int = 1) -> Path:
    """outputs.jsonl with `rows` rows, each model's plan marked by the row, pictures beside it."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in range(rows):
        names = [f"images/{row}-{i}.png" for i in range(pictures)]
        for i, name in enumerate(names):
            Image.new("RGB", (24, 16), (20 * row, 90, 100 * i)).save(folder / name)
        for model in models:
            text = PLANS[MODELS.index(model) if model in MODELS else 0]
            text = text.replace("drawer", f"drawer {row}").replace("cup", f"cup {row}")
            output = Output(
                model=model,
                sample=row,
                images=names,
                folder=str(folder),
                prompt=f"Task name: Clear cup {row}. Based on the above description, plan.",
                reference=REFERENCE.replace("cup", f"cup {row}").replace("drawer", f"drawer {row}"),
                text=text,
                task_name=f"Clear cup {row}",
                key=f"{model}-{row}",
                new_tokens=9,
                stop="end",
            )
            lines.append(json.dumps(output.record()))
    path = folder / OUTPUTS_FILE
    path.write_text("\n".join(lines) + "\n")
    return path
