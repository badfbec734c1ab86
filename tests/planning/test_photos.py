"""One plan at a time: by the script, in Python, from the tiny planner and from an endpoint."""

import io
import json

import pytest
from PIL import Image

from leap.planners import MachineFailure
from leap.planning import PhotoPlan, PhotoPlanner, plan
from leap.planning.requests import PlanRequest
from leap.vlabench.examples import find_examples
from tests.conftest import assert_one_line_error, run_script
from tests.endpoint_server import Reply
from tests.planners.lively import answers, planner_of, queries_of, write_adapter, write_lively
from tests.planning.conftest import SKILLS, STEPS, shown

SCRIPT = "evaluation/plan.py"


@pytest.fixture(scope="module")
def lively(demo, tmp_path_factory):
    return write_lively(demo / "models" / "tiny-planner", tmp_path_factory.mktemp("lively"))


def test_a_photo_with_tags_gets_the_answer_that_an_evaluation_gets(demo, workspace, lively):
    knobs = {"device": "cpu", "max_new_tokens": 24}
    planner = planner_of(lively, **knobs)
    queries = queries_of(demo, shots=(0,))
    expected = answers(planner, planner.batches(queries))
    photo_planner = PhotoPlanner.opened(lively, prompt="builtin", **knobs)
    examples = find_examples(demo / "dataset" / "vlm_evaluation_v1.0", ["Spatial"])["Spatial"]
    texts = set()
    for query, example in zip(queries[:2], examples[:2], strict=True):
        written = photo_planner.plan(example.instruction(), example.plain_image, tagged_image=example.tagged_image)
        answer = expected[query.key]
        assert (written.text, written.stop, written.new_tokens) == (answer.text, answer.stop, answer.new_tokens)
        texts.add(written.text)
    assert len(texts) == 2


def test_an_adapter_plans_too(demo, workspace, lively, tmp_path):
    adapter = write_adapter(lively, tmp_path / "adapter")
    picture = next((demo / "data" / "images").glob("*.png"))
    knobs = {"device": "cpu", "max_new_tokens": 12}
    assert (
        plan("Put it away", picture, checkpoint=adapter, base_model=lively, **knobs).text
        != plan("Put it away", picture, checkpoint=lively, **knobs).text
    )


def test_a_plan_knows_its_steps_its_skills_and_what_is_no_tag(space, served, photo):
    photo_plan = plan("Move the cup", photo, tags={1: (50, 50), 4: (150, 50)}, **served)
    assert photo_plan.text == SKILLS
    assert photo_plan.steps == ["pick 1", "place to 2"]
    assert photo_plan.unknown_tags() == [2]
    assert photo_plan.record()["skills"] == [
        {"name": "pick", "entity": 1, "container": None},
        {"name": "place", "entity": None, "container": 2},
    ]
    assert photo_plan.drawing().width > 640
    in_words = plan("Move the cup", photo, **served)
    assert (in_words.steps, in_words.skills) == (["Pick up the cup.", "Put it on the shelf."], [])


@pytest.mark.parametrize("text", ["", '```json\n[{"name": "pick", "params": {"target_entity_name":', "[{]"])
def test_an_answer_without_a_plan_has_no_steps_and_says_so(text):
    photo_plan = PhotoPlan(PlanRequest("Move the cup"), "some", text)
    assert (photo_plan.steps, photo_plan.skills) == ([], [])
    assert photo_plan.problems() == ["the answer holds no plan that can be read"]


def test_an_endpoint_is_shown_the_photo_and_its_tags(space, served, photo, server):
    plan("Move the cup", photo, tags={1: (50, 50)}, **served)
    words, [plain, tagged] = shown(server.requests[0])
    assert "Move the cup" in words
    assert plain == photo.read_bytes()
    with Image.open(io.BytesIO(tagged)) as picture:
        assert picture.convert("RGB").getpixel((45, 45)) != (255, 0, 0)


def test_a_machine_that_fails_gives_no_plan(space, served, photo, server):
    server.reply = lambda number, body: Reply({"error": "no"}, status=500)
    with pytest.raises(MachineFailure):
        plan("Move the cup", photo, max_retries=0, **served)


def ask(server, *arguments):
    return run_script(SCRIPT, "--planner", "openai", "--base_url", server.url, "--model", "served", *arguments)


def test_the_script_prints_numbered_steps(space, served, server, photo):
    done = ask(server, "--image", photo, "Put the cup on the shelf")
    assert (done.returncode, done.stdout) == (0, "1. Pick up the cup.\n2. Put it on the shelf.\n"), done.stderr
    assert ask(server, "Put the cup on the shelf", "--image", photo).stdout == done.stdout
    assert "Put the cup on the shelf" in shown(server.requests[0])[0]


def test_the_script_prints_json_and_draws(space, served, server, photo, tmp_path):
    target = tmp_path / "new" / "plan.png"
    done = ask(
        *(server, "--image", photo, "--tag", "50,50", "--tag", "9=150,50", "--format", "json"),
        *("--drawing", target, "Move the cup"),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["text"], record["tags"]) == (SKILLS, {"1": [50, 50], "9": [150, 50]})
    assert "the plan names 2, which is no tag" in done.stderr
    with Image.open(target) as drawing:
        assert drawing.format == "PNG"


def test_several_pictures_are_shown_in_their_order(space, served, server, photo):
    other = photo.with_name("other.png")
    Image.new("RGB", (30, 20)).save(other)
    done = ask(server, "--image", other, "--image", photo, "--image", other, "Compare")
    assert done.returncode == 0, done.stderr
    assert shown(server.requests[0])[1] == [path.read_bytes() for path in (other, photo, other)]


def test_several_models_plan_one_after_the_other(workspace, demo, lively, photo, tmp_path):
    target = tmp_path / "plan.png"
    done = run_script(
        *(SCRIPT, "--checkpoint", lively, "--checkpoint", demo / "models" / "tiny-planner", "--image", photo),
        *("--max_new_tokens", "8", "--device", "cpu", "--drawing", target, "Move the cup"),
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line in (lively.name, "tiny-planner")] == [
        lively.name,
        "tiny-planner",
    ]
    assert (tmp_path / "plan-tiny-planner.png").is_file()
    assert "cut by --max_new_tokens" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what the robot should do"),
        (("Move the cup",), "name a picture"),
        (("--image", "none.png", "Move the cup"), "picture not found"),
        (("--image", "{photo}", "{photo}"), "is a file and no instruction"),
        (("--image", "{photo}", "--tag", "1", "Move the cup"), "is no X,Y"),
        (("--image", "{photo}", "--tag", "900,1", "Move the cup"), "lies outside"),
        (("--rows", "none.jsonl", "Move the cup"), "leave out"),
        (("--rows", "none.jsonl"), "rows not found"),
    ],
)
def test_a_command_that_cannot_be_answered_is_one_line(space, server, photo, arguments, words):
    arguments = [word.format(photo=photo) for word in arguments]
    assert_one_line_error(ask(server, *arguments), words)
    assert server.requests == []


def test_a_failed_machine_is_status_1(space, server, photo):
    server.reply = lambda number, body: Reply({"error": "no"}, status=500)
    done = ask(server, "--max_retries", "0", "--image", photo, "Move the cup")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: no plan of served: " in done.stderr


def test_what_a_model_wrote_does_not_steer_the_terminal(space, server, photo):
    from tests.endpoint_server import completion

    server.reply = lambda number, body: Reply(completion("1) Pick \x1b[31mit up. 2) \x07Stop."))
    done = ask(server, "--image", photo, "Move the cup")
    assert done.returncode == 0
    assert not set("\x1b\x07") & set(done.stdout)
    assert STEPS not in done.stdout


def test_plans_that_are_drawn_differ_and_come_again_by_their_seed(workspace, lively, photo):
    knobs = {"device": "cpu", "max_new_tokens": 16, "temperature": 2.0}
    request = PlanRequest("Move the cup", (photo,))
    three = PhotoPlanner.opened(lively, **knobs).answers(request, 3)
    assert len({drawn.text for drawn in three}) == 3
    assert [drawn.record()["sample"] for drawn in three] == [0, 1, 2]
    again = PhotoPlanner.opened(lively, **knobs).answers(request, 2)
    assert [drawn.text for drawn in again] == [drawn.text for drawn in three[:2]]
    other = PhotoPlanner.opened(lively, seed=1, **knobs).answer(request)
    assert other.text not in {drawn.text for drawn in three}


def test_the_script_prints_and_draws_each_plan(space, served, server, photo, tmp_path):
    drawing = ("--temperature", "0.5", "--top_p", "0.9", "--num_samples", "2", "--drawing", tmp_path / "plan.png")
    done = ask(server, "--image", photo, *drawing, "Move the cup")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("plan")] == ["plan 1 of 2", "plan 2 of 2"]
    assert [(tmp_path / f"plan-{number}.png").is_file() for number in (1, 2)] == [True, True]
    assert {(body["temperature"], body["top_p"]) for body in server.requests} == {(0.5, 0.9)}
    assert len({body["seed"] for body in server.requests}) == 2


def test_several_plans_of_greedy_decoding_are_refused(space, server, photo):
    done = ask(server, "--image", photo, "--num_samples", "2", "Move the cup")
    assert_one_line_error(done, "--num_samples", "without --temperature")
