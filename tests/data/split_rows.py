"""Rows as the published files spell them."""

import json
from pathlib import Path

from leap.data.splits import hash_images, read_split_rows


def line(image=None, name=None, steps="1) Go. 2) Stop.", **more):
    """A row as the published files spell it, non-ASCII text unescaped."""
    content = [{"type": "image", "image": image}] if image else []
    text = f"Look. Task name: {name}. Based on the above description, plan." if name else "Plan."
    content.append({"type": "text", "text": text})
    row = {"messages": [{"role": "user", "content": content}], "target": {"steps": steps}} | more
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_lines(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(lines).encode())
    return path


def rows_of(path: Path):
    rows = read_split_rows(path, None, path.parent)
    hash_images(rows, 2)
    return rows


def numbers(sides):
    return {side: [row.number for row in rows] for side, rows in sides.items()}
