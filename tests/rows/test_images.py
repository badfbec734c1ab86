import io

import pytest
from PIL import Image

from configs.errors import UserError
from leap.rows.images import decode_image, image_size, intact_problem, load_image


def png(mode="RGB", color=0, size=(20, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, format="PNG")
    return buffer.getvalue()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def test_transparency_is_laid_over_white_and_grey_becomes_rgb():
    assert decode_image(png("RGBA", (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(png("L", 7)).getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize("content", [b"", b"no picture", png()[:50], flipped(png())])
def test_broken_bytes_are_told_from_pictures(content):
    assert intact_problem(content)
    with pytest.raises(ValueError, match=r"."):
        decode_image(content)


def test_an_intact_picture_has_no_problem():
    assert intact_problem(png()) is None


def test_errors_name_the_file_and_where_it_is_used(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(UserError, match=rf"rows.jsonl:3: unreadable image: {path}"):
        load_image(path, "rows.jsonl:3")
    path.write_bytes(b"GIF89a")
    with pytest.raises(UserError, match=rf"rows.jsonl:3: unreadable image: {path}"):
        image_size(path, "rows.jsonl:3")
    path.write_bytes(png()[:60])
    with pytest.raises(UserError, match="the file is cut off"):
        image_size(path, "rows.jsonl:3")
    path.write_bytes(png())
    assert image_size(path, "x") == (20, 10)
