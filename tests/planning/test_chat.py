"""The page: what its buttons do, and, where Gradio and Chromium are installed, the page itself in a browser."""

import importlib.util
import sys

import pytest
from PIL import Image

from configs.errors import UserError
from leap.planning import PhotoPlanner
from leap.planning.chat import open_page, plan_on_page, tagged_at
from tests.chromium import CHROMIUM, Browser
from tests.conftest import assert_one_line_error, run_script
from tests.planning.conftest import SKILLS, shown

SCRIPT = "evaluation/chat.py"


@pytest.fixture
def planner(space, served):
    return PhotoPlanner.opened(**served)


def test_without_gradio_one_line_names_the_extra(space, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert_one_line_error(run_script(SCRIPT), 'pip install -e ".[chat]"')


def test_a_click_numbers_an_object(photo):
    tags, _ = tagged_at(str(photo), {}, (50, 50))
    tags, tagged = tagged_at(str(photo), tags, (150, 50))
    assert tags == {1: (50, 50), 2: (150, 50)}
    assert tagged.size == (200, 100)
    assert tagged.getpixel((45, 45)) != (255, 0, 0)


def test_tags_that_were_clicked_are_shown_to_the_model(planner, photo, server):
    steps, drawing, text, remarks = plan_on_page(planner, " Move it ", str(photo), str(photo), {1: (50, 50)})
    assert (steps, text) == ("1. pick 1\n2. place to 2", SKILLS)
    assert remarks == "the plan names 2, which is no tag"
    assert drawing.width > 640
    _, [plain, tagged] = shown(server.requests[0])
    assert plain == photo.read_bytes() != tagged


def test_a_picture_with_tags_of_the_user_s_own_is_shown_as_it_is(planner, photo, server):
    own = photo.with_name("own.png")
    Image.new("RGB", (200, 100), "green").save(own)
    plan_on_page(planner, "Move it", str(photo), str(own), {})
    assert shown(server.requests[0])[1] == [photo.read_bytes(), own.read_bytes()]


def test_a_page_without_a_picture_asks_for_one(planner, server):
    with pytest.raises(UserError, match="put a picture"):
        plan_on_page(planner, "Move it", None, None, {})
    assert server.requests == []


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM or importlib.util.find_spec("gradio") is None, reason="needs Gradio and Chromium")
def test_a_user_uploads_tags_and_asks_in_a_browser(planner, photo, server, free_port, tmp_path):
    page = open_page(planner, "127.0.0.1", free_port, wait=False)
    browser = Browser(tmp_path / "profile", wait_s=60)
    try:
        browser.resize(1200, 1000)
        browser.open(f"http://127.0.0.1:{free_port}")
        browser.wait("document.querySelector('#photo input[type=file]')")
        root = browser.do("DOM.getDocument")["root"]["nodeId"]
        field = browser.do("DOM.querySelector", nodeId=root, selector="#photo input[type=file]")
        browser.do("DOM.setFileInputFiles", nodeId=field["nodeId"], files=[str(photo)])
        browser.wait("document.querySelector('#photo img')?.naturalWidth === 200")
        browser.click("#photo img")  # its middle
        browser.wait("document.querySelector('#tagged img')?.naturalWidth === 200")
        browser.run("document.querySelector('#instruction').querySelector('textarea, input').focus()")
        browser.do("Input.insertText", text="Move the cup")
        browser.click("#plan")
        browser.wait("document.querySelector('#steps textarea').value === '1. pick 1\\n2. place to 2'")
        browser.wait("document.querySelector('#drawing img')")
        addresses = [url for url in browser.requests if not url.startswith(("data:", "blob:"))]
        assert {url.split("/")[2] for url in addresses} == {f"127.0.0.1:{free_port}"}
    finally:
        browser.close()
        page.close()
    words, pictures = shown(server.requests[0])
    assert "Move the cup" in words
    assert len(pictures) == 2
