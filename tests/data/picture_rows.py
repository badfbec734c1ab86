"""Pictures sound and spoilt, rows that name them, and the script that checks them."""

import io
import json
import signal
import struct
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leap.data.image_checks import Limits
from tests.conftest import start_script

CLEAN = "utils/check_and_clean_images.py"
LIMITS = Limits(32, 50_000_000, 5.0, 2.0)


def picture(seed: int, size=(96, 64)) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def row(*images: str, **more) -> dict:
    content = [{"type": "image", "image": image} for image in images]
    content.append({"type": "text", "text": "Task name: wipe.\nPlan it."})
    return {"messages": [{"role": "user", "content": content}], "target": {"steps": "1) Go. 2) Stop."}} | more


def write_rows(path: Path, rows: list) -> Path:
    path.write_bytes(b"".join(r if isinstance(r, bytes) else json.dumps(r).encode() + b"\n" for r in rows))
    return path


def kill_while(script: str, *arguments: object, when) -> bool:
    """Start a script, kill -9 it once `when()` holds; whether it was killed before it ended by itself."""
    child = start_script(script, *arguments)
    limit = time.monotonic() + 60
    while child.poll() is None and not when() and time.monotonic() < limit:
        pass
    child.send_signal(signal.SIGKILL)
    try:
        child.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        pytest.fail("the killed script did not end")
    return child.returncode == -signal.SIGKILL


DEFECTS = {
    "corrupt": ("broken", lambda good: good[:200] + bytes([good[200] ^ 255]) + good[201:]),
    "truncated": ("broken", lambda good: good[: len(good) // 2]),
    "empty": ("broken", lambda good: b""),
    "text": ("broken", lambda good: b"no picture"),
    "bomb": ("broken", lambda good: claiming(60_000, 60_000)),
    "large": ("odd size", lambda good: claiming(9_000, 9_000)),
    "dot": ("odd size", lambda good: png(Image.new("RGB", (1, 1)))),
    "strip": ("odd size", lambda good: png(picture(5, (400, 40)))),
    "blank": ("blank", lambda good: png(Image.new("RGB", (64, 64), "#123456"))),
    "clear": ("blank", lambda good: png(Image.new("RGBA", (64, 64), (9, 9, 9, 0)))),
    "noisy": (
        "blank",
        lambda good: png(Image.fromarray(np.random.default_rng(0).integers(7, 9, (64, 64, 3), np.uint8))),
    ),
}


def everything(folder: Path) -> dict[str, bytes]:
    """Every picture of a data folder, in or out of the trash by the name it has now."""
    return {path.name: path.read_bytes() for path in folder.glob("images/*")}
