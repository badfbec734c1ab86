"""What may be shown to others is a picture, and really lies where pictures are."""

import pytest
from PIL import Image

from leap.rows.sharing import why_not_shared


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "data" / "images" / "a.png")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "private.png")
    (tmp_path / "secret.env").write_text("TOKEN=abc")
    return tmp_path / "data"


def test_a_picture_in_the_data_may_be_shown_also_through_a_link_to_the_data(data, tmp_path):
    assert why_not_shared(data / "images" / "a.png", [data]) is None
    (tmp_path / "link").symlink_to(data)
    assert why_not_shared(tmp_path / "link" / "images" / "a.png", [tmp_path / "link"]) is None
    assert why_not_shared(data / "images" / "a.png", [tmp_path / "link"]) is None


def test_a_picture_elsewhere_may_not_whatever_leads_there(data, tmp_path):
    (data / "images" / "link.png").symlink_to(tmp_path / "private.png")
    (data / "folder").symlink_to(tmp_path)
    for path in (tmp_path / "private.png", data / ".." / "private.png", data / "folder" / "private.png"):
        assert "outside of the data" in why_not_shared(path, [data])
    assert f"leads to {tmp_path}/private.png" in why_not_shared(data / "images" / "link.png", [data])
    assert "outside" in why_not_shared(data / "images" / "a.png", [])


def test_a_file_in_the_data_that_is_no_picture_may_not(data):
    (data / "images" / "b.png").write_text("TOKEN=abc")
    assert "no intact picture" in why_not_shared(data / "images" / "b.png", [data])
    assert "no intact picture" in why_not_shared(data / "images", [data])
