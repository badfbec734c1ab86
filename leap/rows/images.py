"""Pictures from disk: decode whole, read the size alone, or say why a file is none."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

from PIL import Image

from configs.errors import UserError

# What Pillow raises for bytes that are no intact picture.
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def intact_bytes(path: Path) -> bytes:
    """The content of a picture file, checked by header and checksums, not decoded; ValueError says what is wrong."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    problem = intact_problem(content)
    if problem:
        raise ValueError(f"is no intact picture ({problem})")
    return content


def decode_image(content: bytes) -> Image.Image:
    """Image bytes as RGB; transparency is laid over white. ValueError if they are no intact picture."""
    problem = intact_problem(content)  # Pillow decodes some damaged files without a word
    if problem:
        raise ValueError(problem)
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except _BROKEN as error:
        raise ValueError(_reason(error)) from error
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def load_image(path: Path, where: str) -> Image.Image:
    """The picture as RGB, fully decoded; UserError names `where` it is used and the file."""
    try:
        return decode_image(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: {_unreadable(path, error)}", "unreadable image") from error


def image_size(path: Path, where: str) -> tuple[int, int]:
    """(width, height) in pixels, without decoding; UserError (for a PNG also if it is cut off) names `where` it is
    used and the file."""
    try:
        with Image.open(path) as picture:
            size, kind = picture.size, picture.format
        if kind == "PNG" and b"IEND" not in _tail(path):
            raise ValueError("the file is cut off")
        return size
    except _BROKEN as error:
        raise UserError(f"{where}: {_unreadable(path, error)}", "unreadable image") from error


def data_url(path: Path) -> str:
    """A picture's bytes as they are, as a data URL. ValueError says why the file is no intact picture."""
    content = intact_bytes(path)
    with Image.open(io.BytesIO(content)) as picture:
        kind = picture.get_format_mimetype() or f"image/{picture.format}".lower()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def intact_problem(content: bytes) -> str | None:
    """Why these bytes are no intact picture, by header and checksums without decoding, or None."""
    if not content:
        return "the file is empty"
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.verify()
    except _BROKEN as error:
        return _reason(error)
    return None


def _tail(path: Path, size: int = 1024) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read()


def _unreadable(path: Path, error: Exception) -> str:
    return f"unreadable image: {path} ({_reason(error)}). Replace the file or remove what names it"


def _reason(error: Exception) -> str:
    if "cannot identify image file" in str(error):
        return "not a picture"
    return (str(error) or type(error).__name__).splitlines()[0]
