import base64
import io
import os

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from configs.errors import UserError
from leap.rows.images import aspect_problem, data_url, decode_image, image_size, intact_problem, load_image


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


def noise(kind: str, **options) -> bytes:
    """A picture of 96 x 64 pixels that no format makes small."""
    buffer = io.BytesIO()
    levels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(levels).save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_size_is_looked_up_once_while_the_file_stays_as_it_is(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png())
    assert image_size(path, "x") == (20, 10)
    stat = path.stat()
    path.write_bytes(bytes(stat.st_size))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert image_size(path, "x") == (20, 10)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(UserError, match=rf"rows.jsonl:4: unreadable image: {path}"):
        image_size(path, "rows.jsonl:4")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_a_cut_off_picture_of_any_format_is_found_without_and_with_decoding(tmp_path, kind):
    content, path = noise(kind), tmp_path / "picture"
    path.write_bytes(content)
    assert image_size(path, "x") == (96, 64)
    assert intact_problem(content) is None
    path.write_bytes(content[: len(content) // 2])
    assert intact_problem(path.read_bytes())
    with pytest.raises(UserError, match=r"rows.jsonl:8: unreadable image"):
        image_size(path, "rows.jsonl:8")


def test_a_whole_jpeg_may_have_something_behind_its_end(tmp_path):
    (tmp_path / "camera.jpg").write_bytes(noise("JPEG") + b"trailer of a camera" * 20)
    assert image_size(tmp_path / "camera.jpg", "x") == (96, 64)


def with_thumbnail() -> Image.Exif:
    """EXIF that holds a whole small JPEG, with an end of its own, in its maker's note."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x927C] = noise("JPEG")
    return exif


WAYS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True, "quality": 30, "subsampling": 2},
    "with restarts": {"restart_marker_rows": 1},
    "with a thumbnail": {"exif": with_thumbnail()},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_jpeg_whose_second_half_is_zeros_is_truncated(tmp_path, way):
    content, path = noise("JPEG", **WAYS[way]), tmp_path / "picture.jpg"
    zeros = content[: len(content) * 2 // 3].ljust(len(content), b"\0")
    if way == "baseline":
        Image.open(io.BytesIO(zeros)).load()  # Pillow says nothing
    assert intact_problem(content) is None
    assert "truncated" in intact_problem(zeros)
    path.write_bytes(zeros)
    with pytest.raises(UserError, match="truncated"):
        image_size(path, "rows.jsonl:8")


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_jpeg_with_a_black_lower_half_is_whole_also_where_zeros_follow(tmp_path, way):
    picture = Image.new("RGB", (640, 960))
    picture.paste(Image.open(io.BytesIO(noise("PNG"))).resize((640, 480)))
    picture.save(path := tmp_path / "night.jpg", **WAYS[way])
    content = path.read_bytes()
    if way == "optimised":
        assert bytes(200) in content, "flat parts of a picture may be zeros"
    path.write_bytes(content + bytes(1 << 17))  # more than is looked at without decoding
    assert intact_problem(content) is intact_problem(path.read_bytes()) is None
    assert image_size(path, "x") == (640, 960)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_camera_s_orientation_is_applied_to_pixels_size_and_what_is_sent(tmp_path, kind):
    upright = Image.new("RGB", (96, 64), "white")
    upright.paste("red", (0, 0, 96, 20))
    exif = Image.Exif()
    exif[0x112] = 6
    path = tmp_path / "phone"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, kind, exif=exif)
    sent = Image.open(io.BytesIO(base64.b64decode(data_url(path).partition(",")[2])))
    for picture in (load_image(path, "x"), sent):
        assert picture.size == image_size(path, "x") == (96, 64)
        red, green, _ = picture.convert("RGB").getpixel((93, 4))
        assert red > 200
        assert green < 50
    assert sent.getexif().get(0x112, 1) == 1


def test_an_orientation_behind_the_pixels_of_a_png_counts_too(tmp_path):
    content = noise("PNG")
    chunk = io.BytesIO()
    exif = Image.Exif()
    exif[0x112] = 6
    PngImagePlugin.putchunk(chunk, b"eXIf", exif.tobytes()[6:])
    (tmp_path / "late.png").write_bytes(content[:-12] + chunk.getvalue() + content[-12:])
    assert image_size(tmp_path / "late.png", "x") == load_image(tmp_path / "late.png", "x").size == (64, 96)


def test_damaged_exif_turns_nothing(tmp_path):
    (tmp_path / "a.webp").write_bytes(noise("WEBP", exif=b"Exif\0\0garbage"))
    assert image_size(tmp_path / "a.webp", "x") == load_image(tmp_path / "a.webp", "x").size == (96, 64)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_are_scaled_to_eight(tmp_path, kind):
    ramp = np.linspace(0, 65535, 96 * 96).reshape(96, 96).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "depth", kind)
    levels = np.asarray(load_image(tmp_path / "depth", "x"))
    assert abs(levels[..., 0].astype(float) - ramp / 257).max() < 1.5
    sent = Image.open(io.BytesIO(base64.b64decode(data_url(tmp_path / "depth").partition(",")[2])))
    assert sent.mode == "RGB"


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_grey_without_a_scale_is_refused_by_name(tmp_path, dtype):
    Image.fromarray(np.ones((8, 8), dtype)).save(tmp_path / "a.tif")
    for read in (load_image, image_size):
        with pytest.raises(UserError, match=r"rows.jsonl:2: unreadable image: .*a.tif \(32-bit or floating-point grey"):
            read(tmp_path / "a.tif", "rows.jsonl:2")


@pytest.mark.parametrize(
    ("kind", "sent"),
    [("PNG", "png"), ("JPEG", "jpeg"), ("GIF", "gif"), ("WEBP", "webp"), ("BMP", "png"), ("TIFF", "png")],
)
def test_what_is_sent_is_one_of_the_four_formats_that_endpoints_read(tmp_path, kind, sent):
    (tmp_path / "a").write_bytes(noise(kind))
    header, _, text = data_url(tmp_path / "a").partition(",")
    assert header == f"data:image/{sent};base64"
    assert (base64.b64decode(text) == noise(kind)) == (sent == kind.lower())


def test_a_side_may_be_two_hundred_times_the_other_and_no_more():
    assert aspect_problem(2000, 10) is None
    assert aspect_problem(10, 2001) == "10 x 2001 pixels: one side is more than 200 times the other"
