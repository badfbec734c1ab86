import json

import pytest
from PIL import Image

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.planning.options import PlanningOptions
from leap.planning.requests import PlanRequest, RequestWriter, read_requests
from leap.vlabench.prompts import PromptWriter


@pytest.fixture
def writer(space, tmp_path):
    return lambda **knobs: RequestWriter(PlanningOptions(**knobs), WorkspaceConfig(space), tmp_path / "tagged")


@pytest.fixture
def rows(tmp_path):
    def write(*records):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write


def items(query):
    return query.messages[-1]["content"]


def test_a_photo_without_tags_asks_for_numbered_steps(writer, photo):
    query = writer().query(PlanRequest("Put the cup on the shelf.", (photo, photo)))
    assert [item["type"] for item in items(query)] == ["image", "image", "text"]
    assert items(query)[-1]["text"].startswith("Task name: Put the cup on the shelf.\nPlan it")


def test_a_photo_with_tags_is_asked_as_the_benchmark_asks(writer, photo, space):
    requests = RequestWriter(PlanningOptions(prompt="builtin"), WorkspaceConfig(space), space / "tagged")
    tagged = photo.with_name("tagged.png")
    Image.new("RGB", (200, 100)).save(tagged)
    query = requests.query(PlanRequest("Put it away", (photo,), tagged))
    assert items(query) == PromptWriter(WorkspaceConfig(space), "builtin").write_for((photo, tagged), "Put it away")


def test_tags_at_pixels_are_drawn_into_a_picture_of_their_own(writer, photo):
    requests, request = writer(), PlanRequest("Put it away", (photo,), tags={1: (50, 50), 2: (150, 50)})
    plain, tagged = requests.query(request).picture_paths()
    assert plain == photo
    assert tagged == requests.tagged_picture(request)
    with Image.open(tagged) as picture:
        assert picture.size == (200, 100)
        assert picture.convert("RGB").getpixel((45, 45)) != (255, 0, 0)
        assert picture.convert("RGB").getpixel((10, 10)) == (255, 0, 0)


def test_verbatim_words_are_shown_as_they_are(writer, photo):
    query = writer(wording="verbatim").query(PlanRequest("What now?", (photo,)))
    assert items(query)[-1]["text"] == "What now?"


def test_the_key_is_of_what_is_shown(writer, photo):
    request = PlanRequest("Put it away", (photo,))
    key = writer().query(request).key
    copy = photo.with_name("copy.png")
    copy.write_bytes(photo.read_bytes())
    assert writer().query(PlanRequest("Put it away", (copy,))).key == key
    assert writer().query(PlanRequest("Put it here", (photo,))).key != key
    Image.new("RGB", (200, 100)).save(photo)
    assert writer().query(request).key != key


@pytest.mark.parametrize(
    ("request_of", "words"),
    [
        (lambda photo: PlanRequest(" ", (photo,)), "no instruction"),
        (lambda photo: PlanRequest("a", (photo, photo), tags={1: (5, 5)}), "tags belong to one picture, found 2"),
        (lambda photo: PlanRequest("a", (photo,), tags={1: (500, 5)}), "lies outside of the picture, 200 x 100"),
        (lambda photo: PlanRequest("a", (photo.with_name("none.png"),)), "unreadable image: .*none.png"),
    ],
)
def test_what_cannot_be_asked_is_named(writer, photo, request_of, words):
    with pytest.raises(UserError, match=words):
        writer().query(request_of(photo))


def test_skills_without_tags_are_refused(writer, photo):
    with pytest.raises(UserError, match="skills name objects by tags"):
        writer(wording="skills").query(PlanRequest("a", (photo,)))


def test_a_file_of_requests_is_read_with_its_pictures_beside_it(rows, photo, space):
    path = rows(
        {"instruction": "a", "image": photo.name, "tags": {"3": [5, 6]}, "id": 7},
        {"instruction": "b", "images": [photo.name, str(photo)]},
        {"instruction": "c", "images": ["missing.png"]},
    )
    first, second, third = read_requests(path, None, space)
    assert (first.images, first.tags, first.id) == ((photo,), {3: (5, 6)}, "7")
    assert second.images == (photo, photo)
    assert third.images[0].name == "missing.png"


def test_a_planning_row_is_asked_in_its_own_words(rows, photo, space, writer):
    content = [{"type": "image", "image": photo.name}, {"type": "text", "text": "Task name: Fold it.\nPlan!"}]
    path = rows({"messages": [{"role": "user", "content": content}]})
    [request] = read_requests(path, None, space)
    assert (request.instruction, request.images) == ("Fold it", (photo,))
    assert items(writer().query(request)) == [{"type": "image", "image": str(photo)}, content[1]]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"image": "a.png"}, "'instruction' must say"),
        ({"instruction": "a", "picture": "a.png"}, "unknown key 'picture'; known keys: id, instruction"),
        ({"instruction": "a", "images": 3}, "'images' must be a list"),
        ({"instruction": "a", "images": [3]}, "a picture must be named by its path, found 3"),
        ({"instruction": "a", "tags": {"x": [1, 2]}}, "'tags' must be numbers with pixels"),
        ({"instruction": "a", "tags": [[1, 2]]}, "'tags' must be numbers with pixels"),
        ({"messages": []}, "'messages' must be a list with at least one turn"),
    ],
)
def test_a_line_that_is_no_request_is_named_with_its_file_and_line(rows, space, record, words):
    with pytest.raises(UserError, match=rf"rows.jsonl:1: {words}"):
        read_requests(rows(record), None, space)


def test_a_file_without_requests_is_an_error(rows, space):
    with pytest.raises(UserError, match="holds no requests"):
        read_requests(rows(), None, space)
