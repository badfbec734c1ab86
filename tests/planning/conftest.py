"""Photos to plan for, and an endpoint that answers with a plan."""

import base64
import socket

import pytest
from PIL import Image

from tests.endpoint_server import Reply, completion

SKILLS = (
    '```json\n[{"name": "pick", "params": {"target_entity_name": 1}}, '
    '{"name": "place", "params": {"target_container_name": 2}}]\n```'
)
STEPS = "1) Pick up the cup. 2) Put it on the shelf."


@pytest.fixture
def photo(tmp_path):
    """A picture of 200 x 100 pixels, red on the left and blue on the right."""
    picture = Image.new("RGB", (200, 100), "red")
    picture.paste("blue", (100, 0, 200, 100))
    path = tmp_path / "photo one.png"
    picture.save(path)
    return path


@pytest.fixture
def served(server):
    """Knobs that ask the endpoint, which answers prompts of two pictures with skills and others with steps."""

    def reply(number, body):
        pictures = [part for part in body["messages"][-1]["content"] if part["type"] == "image_url"]
        return Reply(completion(SKILLS if len(pictures) == 2 else STEPS))

    server.reply = reply
    return {"planner": "openai", "base_url": server.url, "model": "served"}


@pytest.fixture
def free_port():
    """A port at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def shown(body):
    """(words, pictures as bytes) of a request to the endpoint."""
    parts = body["messages"][-1]["content"]
    words = "".join(part["text"] for part in parts if part["type"] == "text")
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return words, [base64.b64decode(url.split(",")[1]) for url in urls]
