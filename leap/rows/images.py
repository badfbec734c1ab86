"""Pictures from disk as a person sees them: decode whole, read the size alone, or say why a file is none.

A camera's orientation (EXIF, XMP) is applied, 16 bits of grey are scaled to 8, the first frame stands for all. What has
no fixed scale, 32-bit and floating-point grey, is refused.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import os
from pathlib import Path

from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from configs.errors import UserError

# What Pillow raises for bytes that are no intact picture.
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

MOST_ASPECT = 200  # longer side over shorter; the image processor of Qwen-VL refuses more

# What endpoints take as it is; MPO is a camera's JPEG with another picture behind it.
_SENT_AS_IT_IS = {"PNG": "png", "JPEG": "jpeg", "MPO": "jpeg", "GIF": "gif", "WEBP": "webp"}
_TAIL = 1 << 16  # bytes, in which a PNG's orientation stands if it is not before the pixels
_SIDEWAYS = (5, 6, 7, 8)  # the orientations of EXIF that swap width and height


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
    """Image bytes as RGB, upright; transparency is laid over white. ValueError if they are no intact picture, or one
    that is refused."""
    problem = intact_problem(content)  # Pillow decodes some damaged files without a word
    if problem:
        raise ValueError(problem)
    try:
        picture: Image.Image = Image.open(io.BytesIO(content))
        turn_upright(picture)
    except _BROKEN as error:
        raise ValueError(_reason(error)) from error
    if picture.mode.startswith("I"):
        picture.info.pop("transparency", None)  # one level of 65,536
        picture = picture.convert("I").point(lambda level: level / 257)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("L").convert("RGB") if picture.mode == "I" else picture.convert("RGB")


def turn_upright(picture: Image.Image) -> None:
    """Decode an opened picture and turn it as its camera's orientation says; what Pillow raises if it is broken."""
    picture.load()
    with contextlib.suppress(SyntaxError):  # of damaged EXIF, which says nothing
        ImageOps.exif_transpose(picture, in_place=True)


def load_image(path: Path, where: str) -> Image.Image:
    """The picture as RGB, fully decoded; UserError names `where` it is used and the file."""
    try:
        return decode_image(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: {_unreadable(path, error)}", "unreadable image") from error


def image_size(path: Path, where: str) -> tuple[int, int]:
    """(width, height) in pixels, upright, without decoding where header and end of the file tell that it is whole.
    UserError names `where` it is used and the file. A file that many rows show is read once, while its size in bytes
    and its time of change stay."""
    try:
        stat = os.stat(path)
        return _size_of_file(str(path), stat.st_size, stat.st_mtime_ns)
    except _BROKEN as error:
        raise UserError(f"{where}: {_unreadable(path, error)}", "unreadable image") from error


@functools.lru_cache(maxsize=1 << 16)  # some 25 MB
def _size_of_file(file: str, *_: int) -> tuple[int, int]:
    with Image.open(file) as picture:
        return _size(picture, _tail(file))


def aspect_problem(width: int, height: int) -> str | None:
    """Why Qwen-VL's image processor refuses a picture of this size, or None."""
    if max(width, height) <= MOST_ASPECT * min(width, height):
        return None
    return f"{width} x {height} pixels: one side is more than {MOST_ASPECT} times the other"


def data_url(path: Path) -> str:
    """A picture as a data URL: a PNG, JPEG, GIF or WebP that needs no turning or scaling as it is, anything else as a
    PNG. ValueError says why the file is no intact picture."""
    content = intact_bytes(path)
    with Image.open(io.BytesIO(content)) as picture:
        kind = _SENT_AS_IT_IS.get(picture.format or "")
        as_it_is = kind and not picture.mode.startswith("I") and _orientation(picture, content[-_TAIL:]) == 1
    return _base64_url(kind, content) if kind and as_it_is else png_data_url(decode_image(content))


def png_data_url(picture: Image.Image) -> str:
    """A decoded picture as a data URL."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return _base64_url("png", file.getvalue())


def intact_problem(content: bytes) -> str | None:
    """Why these bytes are no intact picture, by header, checksums and end, decoded only where those do not tell; or
    why such a picture is refused. None if it is neither."""
    if not content:
        return "the file is empty"
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.verify()
        with Image.open(io.BytesIO(content)) as picture:
            _size(picture, content[-_TAIL:])
    except _BROKEN as error:
        return _reason(error)
    return None


def _size(picture: ImageFile.ImageFile, tail: bytes) -> tuple[int, int]:
    """(width, height), upright, of an opened file that ends with `tail`. What Pillow raises, or ValueError, if the file
    is cut off or the picture refused."""
    if picture.mode == "F" or (picture.mode == "I" and picture.format != "PNG"):
        raise ValueError("32-bit or floating-point grey has no fixed scale; save it with 8 or 16 bits")
    if picture.format == "PNG" and b"IEND" not in tail:
        raise ValueError("the file is cut off")
    # Pillow opens no WebP that is cut off. Behind the end of a JPEG there may be anything, so that only decoding tells.
    ends = picture.format == "JPEG" and tail.rstrip(b"\0\r\n ").endswith(b"\xff\xd9")
    if picture.format not in ("PNG", "WEBP") and not ends:
        if picture.format in ("JPEG", "MPO"):
            assert picture.fp is not None, "it is not decoded yet"
            picture.fp.seek(0)
            if _ends_in_zeros(picture.fp.read()):
                raise ValueError("the file is truncated: zeros stand in place of its end")
        turn_upright(picture)
        return picture.size
    width, height = picture.size
    return (height, width) if _orientation(picture, tail) in _SIDEWAYS else (width, height)


def _ends_in_zeros(jpeg: bytes) -> bool:
    """Whether a JPEG has zeros where its last scan should go on to the marker of the end, as a download leaves behind
    that was cut off in a file of full size. Pillow may decode them as grey without a word.

    Inside a scan nothing else looks like that marker, as a 0x00 follows each 0xFF of the data, and a scan's last byte
    is filled up with ones (ITU T.81, B.1.1.5 and F.1.2.3): no whole picture, however dark, is taken for a cut one.
    """
    position = 2
    while jpeg[position : position + 1] == b"\xff" and (marker := jpeg[position + 1 : position + 2]) != b"\xda":
        filler = marker == b"\xff"
        position += 1 if filler else 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
    # From here on there is the scan; before it, thumbnails have ends of their own.
    return jpeg.endswith(b"\0\0") and b"\xff\xd9" not in jpeg[position:]


def _orientation(picture: ImageFile.ImageFile, tail: bytes) -> int:
    """The orientation of EXIF, 1 (upright) to 8. Pillow decodes a PNG to look for it: only where there may be one."""
    marks = ("exif", "XML:com.adobe.xmp", "Raw profile type exif")
    if picture.format == "PNG" and not any(mark in picture.info for mark in marks):
        behind = (b"eXIf", b"tiff:Orientation", b"Raw profile type")
        if not any(mark in tail for mark in behind):
            return 1
    with contextlib.suppress(SyntaxError):
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    return 1


def _tail(path: str) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        return file.read()


def _base64_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _unreadable(path: Path, error: Exception) -> str:
    return f"unreadable image: {path} ({_reason(error)}). Replace the file or remove what names it"


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture"
    return (str(error) or type(error).__name__).splitlines()[0]
