import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers.dynamic_module_utils
from PIL import Image
from transformers import AutoTokenizer

from configs.errors import UserError
from leap.blind.options import OutputOptions
from leap.models.answer import Answer
from leap.planners import MachineFailure, Query, open_planner
from leap.planners.remote_code import InternVLChat, MiniCPMChat, tile_grid, tiles
from tests.planners import own_chat


@pytest.fixture(autouse=True)
def _remote_code_is_copied_to_a_folder_of_the_test(tmp_path, monkeypatch):
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def build(demo: Path, folder: Path, kind: type, part: str) -> Path:
    """A model folder with code of its own."""
    tokenizer = AutoTokenizer.from_pretrained(demo / "models" / "tiny-planner")
    torch.manual_seed(0)
    model = kind(own_chat.OwnConfig(part, len(tokenizer)))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    model.config.auto_map = {"AutoConfig": "own_chat.OwnConfig", "AutoModel": f"own_chat.{kind.__name__}"}
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copy(own_chat.__file__, folder)
    return folder


@pytest.fixture(scope="module")
def intern_like(demo, tmp_path_factory):
    return build(demo, tmp_path_factory.mktemp("intern"), own_chat.InternLike, "language_model")


@pytest.fixture(scope="module")
def mini_like(demo, tmp_path_factory):
    return build(demo, tmp_path_factory.mktemp("mini"), own_chat.MiniLike, "llm")


@pytest.fixture
def pictures(tmp_path) -> list[str]:
    for name, size, color in (("small.png", (300, 300), "black"), ("wide.png", (900, 450), "white")):
        Image.new("RGB", size, color).save(tmp_path / name)
    return [str(tmp_path / "small.png"), str(tmp_path / "wide.png")]


def options(**knobs) -> OutputOptions:
    return OutputOptions(**{"device": "cpu"} | knobs)


def query(*items: str, key="k", blank=False) -> Query:
    """A prompt of one user turn; an item that ends in .png is a picture."""
    content = [{"type": "image", "image": i} if i.endswith(".png") else {"type": "text", "text": i} for i in items]
    return Query(key, "task", [{"role": "user", "content": content}], blank)


def ask(planner, *queries):
    found = list(planner.answer(planner.batches(queries)))
    assert [[asked for asked, _ in answered] for answered in found] == [[q] for q in queries]
    return [answer for [(_, answer)] in found]


def test_internvl_gets_placeholders_in_the_words_and_the_tiles_of_each_picture(intern_like, pictures):
    planner = InternVLChat(intern_like, options(max_new_tokens=6))
    [answer] = ask(planner, query("Look: ", pictures[0], "and ", pictures[1], "plan"))
    model, _ = planner._model
    [(pixels, question, generation, history, patches)] = model.seen
    assert question == "Look: <image>\nand <image>\nplan"
    assert (pixels.shape, pixels.dtype, patches, history) == ((4, 3, 448, 448), torch.float32, [1, 3], None)
    assert pixels[0].mean() < 0 < pixels[1].mean()
    assert (generation["do_sample"], generation["max_new_tokens"]) == (False, 6)
    assert isinstance(answer, Answer)
    assert answer.text
    assert (answer.new_tokens <= 6, answer.stop) == (True, "length" if answer.new_tokens == 6 else "end")


def test_earlier_turns_become_internvls_history(intern_like, pictures):
    planner = InternVLChat(intern_like, options(max_new_tokens=2))
    first, last = query(pictures[0], "shot").messages[0], query(pictures[1], "plan").messages[0]
    said = {"role": "assistant", "content": [{"type": "text", "text": "done"}]}
    ask(planner, Query("k", "t", [first, said, last]))
    [(_, question, _, history, patches)] = planner._model[0].seen
    assert (question, history, patches) == ("<image>\nplan", [("<image>\nshot", "done")], [1, 3])
    [failure] = ask(planner, Query("k", "t", [said, last]))
    assert failure.kind == "data"
    assert "takes turns of user and assistant, found assistant, user" in str(failure)


def test_minicpm_gets_pictures_among_the_words_and_decodes_greedily(mini_like, pictures):
    planner = MiniCPMChat(mini_like, options(max_new_tokens=6))
    [answer] = ask(planner, query("Look: ", pictures[0], "plan"))
    [(turns, generation, limit, longest)] = planner._model[0].seen
    [turn] = turns
    assert [type(part) for part in turn["content"]] == [str, Image.Image, str]
    assert turn["content"][1].size == (300, 300)
    assert (generation, limit, longest) == ({"num_beams": 1, "repetition_penalty": 1.0}, 6, 32768)
    assert 0 < answer.new_tokens <= 6


@pytest.mark.parametrize("name", ["intern_like", "mini_like"])
def test_a_drawn_answer_follows_from_the_seed_of_its_query(name, request):
    kind = InternVLChat if name == "intern_like" else MiniCPMChat
    planner = kind(request.getfixturevalue(name), options(max_new_tokens=6, temperature=0.5, top_p=0.9))
    drawn = [replace(query("plan"), seed=seed) for seed in (3, 4, 3)]
    first, other, again = ask(planner, *drawn)
    assert first == again != other
    generation = planner._model[0].seen[0][2 if name == "intern_like" else 1]
    asked = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "top_k": 0, "repetition_penalty": 1.0}
    assert asked.items() <= generation.items()
    assert planner.identity() != kind(planner.folder, options(max_new_tokens=6)).identity()


def test_an_answer_cut_by_the_limit_says_so_and_one_that_ended_does_not(intern_like):
    planner = InternVLChat(intern_like, options(max_new_tokens=9))
    ask(planner, query("plan"))
    [(tokens, _)] = planner._written
    planner._model[0].end_token = tokens[4]
    end = tokens.index(tokens[4]) + 1
    for limit, expected in ((9, (end, "end")), (end, (end, "end")), (end - 1, (end - 1, "length"))):
        planner.options = options(max_new_tokens=limit)
        [answer] = ask(planner, query("plan"))
        assert (answer.new_tokens, answer.stop) == expected


def test_blank_pictures_are_grey(intern_like, pictures):
    planner = InternVLChat(intern_like, options(max_new_tokens=2))
    ask(planner, query(pictures[1], "plan", blank=True))
    pixels = planner._model[0].seen[0][0]
    assert torch.equal(pixels, tiles(Image.new("RGB", (900, 450), "grey")))


def test_what_the_machine_cannot_do_fails_one_example_and_the_next_is_answered(intern_like, pictures):
    planner = InternVLChat(intern_like, options(max_new_tokens=2))
    missing = str(Path(pictures[0]).with_name("missing.png"))
    answers = ask(planner, query("exhaust"), query(missing), query("an <image> in words"), query("plan"))
    for answer, words in zip(answers, ("out of memory", "missing.png", "hold <image>"), strict=False):
        assert isinstance(answer, MachineFailure)
        assert words in str(answer)
    assert isinstance(answers[3], Answer)


def test_the_identity_follows_weights_code_and_decoding(intern_like, tmp_path):
    identity = InternVLChat(intern_like, options()).identity()
    assert identity["planner"] == "internvl-chat"
    copy = tmp_path / "copy"
    shutil.copytree(intern_like, copy)
    assert InternVLChat(copy, options()).identity() == identity
    assert InternVLChat(copy, options(max_new_tokens=9)).identity() != identity
    with open(copy / "own_chat.py", "a") as file:
        file.write("# changed\n")
    changed = InternVLChat(copy, options()).identity()
    assert {key for key in identity if identity[key] != changed[key]} == {"code_sha256"}
    with open(copy / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert InternVLChat(copy, options()).identity()["weights_sha256"] != identity["weights_sha256"]


def test_code_of_a_folder_runs_only_if_the_user_says_so(intern_like, mini_like):
    with pytest.raises(UserError, match="runs the Python files in .* give --trust_remote_code"):
        open_planner(options(planner="internvl-chat"), intern_like)
    for name, folder, kind in (("internvl-chat", intern_like, InternVLChat), ("minicpm-chat", mini_like, MiniCPMChat)):
        trusting = options(planner=name, trust_remote_code=True, max_new_tokens=3)
        planner = open_planner(trusting, folder)
        assert type(planner) is kind
        assert planner.identity()["decoding"]["max_new_tokens"] == 3
        with pytest.raises(UserError, match="needs a model folder"):
            open_planner(trusting, None)


def test_a_folder_without_its_code_is_an_error(demo, intern_like, tmp_path):
    with pytest.raises(UserError, match="holds no Python files.*--planner huggingface"):
        InternVLChat(demo / "models" / "tiny-planner", options())
    copy = tmp_path / "copy"
    shutil.copytree(intern_like, copy)
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"]["AutoModel"] = "someone/else--own_chat.InternLike"
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="names code of another repository"):
        InternVLChat(copy, options())


def test_code_that_does_not_load_is_one_line(intern_like, tmp_path):
    copy = tmp_path / "broken"
    shutil.copytree(intern_like, copy)
    (copy / "own_chat.py").write_text("from transformers import SomethingThatIsGone\n")
    with pytest.raises(UserError, match="does not load with transformers .*SomethingThatIsGone"):
        ask(InternVLChat(copy, options()), query("plan"))


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((448, 448), (1, 1)),
        ((896, 896), (2, 2)),
        ((1344, 1344), (3, 3)),
        ((500, 500), (1, 1)),  # fills less than half of 2 x 2
        ((900, 450), (2, 1)),
        ((1920, 960), (4, 2)),
        ((100, 10), (10, 1)),
        ((10, 1000), (1, 12)),
        ((640, 480), (4, 3)),
    ],
)
def test_the_grid_is_the_nearest_in_shape_that_the_picture_fills(size, grid):
    assert tile_grid(*size) == grid


def test_tiles_are_read_row_by_row_and_the_whole_comes_last():
    picture = Image.new("RGB", (1344, 896), "black")
    picture.paste("white", (896, 0, 1344, 448))  # the third tile of the first row
    found = tiles(picture)
    assert found.shape == (7, 3, 448, 448)
    dark = found[0].mean()
    assert [bool(tile.mean() > dark + 1) for tile in found[:6]] == [False, False, True, False, False, False]
    assert dark < found[6].mean() < found[2].mean()
    white = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(found[2].mean(dim=(1, 2)), white, atol=1e-4)
