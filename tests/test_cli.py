import errno
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from configs.errors import UserError
from leap.cli import as_plain, as_words, knob, parse_knobs, run
from leap.training.recipes import TrainingRecipe


@dataclass(frozen=True)
class Knobs:
    rate: float = knob(0.5, "a rate", check="> 0")
    steps: int = knob(10, "a count", flags=("--max-steps",))
    limit: int | None = knob(3, "a limit, or none")
    folder: Path = knob(Path("data"), "a folder")
    names: list[str] = knob([], "names")
    files: list[Path] = knob([], "files")
    fast: bool = knob(True, "a switch")
    mode: str = knob("a", "a choice", choices=("a", "b"))


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("LEAP_WORKSPACE", str(tmp_path / "root"))
    return tmp_path / "recipe.yaml"


def parse(*argv, recipe=None):
    return parse_knobs(Knobs, list(argv), "Test.", recipe=recipe)


def test_command_line_beats_recipe_beats_default(recipe):
    recipe.write_text("rate: 2e-4\nsteps: 7\nlimit: null\n")
    knobs = parse("--steps", "9", recipe=recipe)
    assert (knobs.rate, knobs.steps, knobs.limit, knobs.mode) == (2e-4, 9, None, "a")


@dataclass(frozen=True)
class Training:
    """Knobs that have old names, as the scripts have them."""

    model_name_or_path: Path = knob(Path("models/x"), "the base")
    train_file: Path = knob(Path("data/x"), "rows")
    lora_target_modules: list[str] = knob([], "modules", choices=("q_proj", "v_proj"))
    seeds: list[int] = knob([1], "seeds", free=True)
    num_train_epochs: float = knob(2.0, "passes")
    load_in_4bit: bool = knob(False, "in 4 bits")
    bf16: bool = knob(True, "mixed precision")
    lora_r: int = knob(16, "rank")
    per_device_train_batch_size: int = knob(6, "rows at once", flags=("--lr",))


def trained(*argv, recipe=None):
    return parse_knobs(Training, list(argv), "Train.\n\n    python train.py\n\nMore words.\n", recipe=recipe)


@pytest.mark.parametrize(
    ("argv", "knob_name", "value"),
    [
        (["--base_model", "/m"], "model_name_or_path", Path("/m")),
        (["--model-name-or-path", "/m"], "model_name_or_path", Path("/m")),
        (["--rows", "/r"], "train_file", Path("/r")),
        (["--lora_target_modules", "q_proj,v_proj"], "lora_target_modules", ["q_proj", "v_proj"]),
        (["--lora_target_modules", "q_proj", "v_proj"], "lora_target_modules", ["q_proj", "v_proj"]),
        (["--seeds", "1,2", "3"], "seeds", [1, 2, 3]),
        (["--epochs", "3"], "num_train_epochs", 3.0),
        (["--batch-size", "8"], "per_device_train_batch_size", 8),
        (["--load_in", "4bit"], "load_in_4bit", True),
    ],
)
def test_a_knob_goes_by_its_one_name_and_by_its_old_ones(recipe, argv, knob_name, value):
    assert getattr(trained(*argv), knob_name) == value


def test_a_recipe_may_use_the_one_name_too(recipe):
    recipe.write_text("base_model: /m\nrows: /r\n")
    assert trained(recipe=recipe).model_name_or_path == Path("/m")


def test_a_flag_of_the_original_that_changes_nothing_is_accepted_with_a_line(recipe, capsys):
    assert trained("--fp16", "--epochs", "1").num_train_epochs == 1.0
    assert capsys.readouterr().err.startswith("note: --fp16 changes nothing here: ")


def test_a_flag_of_the_original_that_is_done_otherwise_says_how(recipe):
    with pytest.raises(UserError, match=r"--deepspeed is not here\. Use instead: ACCELERATE_CONFIG="):
        trained("--deepspeed", "zero3.json")
    with pytest.raises(UserError, match="unrecognized arguments: --deepspeed"):
        parse("--deepspeed", "zero3.json")


def test_help_shows_one_name_a_knob_in_groups_and_examples_under_one_heading(recipe, capsys):
    with pytest.raises(SystemExit):
        trained("--help")
    text = capsys.readouterr().out
    order = ["Train.", "More words.", "files and folders:", "--base_model PATH", "what is done:", "--lora_r INT"]
    order += ["where and how it runs:", "--seeds INT", "examples:", "    python train.py"]
    assert sorted(order, key=text.index) == order
    assert "model_name_or_path" not in text.partition("files and folders")[2]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--lora_rank", "1"], "unrecognized arguments: --lora_rank 1. Did you mean --lora_r?"),
        (["--lora_target_modules", "q_prj"], "invalid choice: 'q_prj'.* Did you mean q_proj?"),
        (["--base_model"], "argument --base_model: expected one argument"),
    ],
)
def test_what_is_nearly_right_is_named(recipe, argv, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        trained(*argv)


def test_paths_are_anchored_where_they_are_written(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse(recipe=None).folder == tmp_path / "root" / "data"
    recipe.write_text("folder: x/../y\n")
    assert parse(recipe=recipe).folder == tmp_path / "root" / "y"
    assert parse("--folder", "here", recipe=recipe).folder == tmp_path / "here"


def test_dashes_underscores_lists_switches_and_none(recipe):
    knobs = parse("--names", "a", "b", "--no-fast", "--limit", "none", "--max-steps", "4")
    assert (knobs.names, knobs.fast, knobs.limit, knobs.steps) == (["a", "b"], False, None, 4)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rat", "1"], "unrecognized arguments: --rat"),
        (["--rate", "fast"], "invalid float value: 'fast'"),
        (["--rate", "0"], "rate must be > 0, found 0.0"),
        (["--mode", "c"], "invalid choice: 'c'"),
    ],
)
def test_a_wrong_flag_is_an_error_that_names_it(recipe, argv, words):
    with pytest.raises(UserError, match=words):
        parse(*argv)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning: 1", "unknown key 'learning'; known keys: rate, steps"),
        ("steps: many", "steps must be int, found 'many'"),
        ("steps: true", "steps must be int, found True"),
        ("fast: 1", "fast must be bool, found 1"),
        ("mode: z", "mode is 'z'; choose from a, b"),
        ("- rate", "must map knobs to values"),
        ("rate: [", "not valid YAML"),
    ],
)
def test_a_wrong_recipe_is_an_error_that_names_the_file_and_key(recipe, text, words):
    recipe.write_text(text)
    with pytest.raises(UserError, match=words) as error:
        parse(recipe=recipe)
    assert str(recipe) in str(error.value)


@dataclass(frozen=True)
class KnobsWithWords:
    words: str = knob("", "what to do", positional=True)
    picture: list[Path] = knob([], "a picture", repeated=True)
    steps: int = knob(1, "a count")


@pytest.mark.parametrize(
    "argv",
    [
        ("do it", "--picture", "a", "--picture", "b", "--steps", "2"),
        ("--picture", "a", "--picture", "b", "do it", "--steps", "2"),
        ("--steps", "2", "--picture", "a", "--picture", "b", "do it"),
    ],
)
def test_a_word_without_a_flag_stands_anywhere_beside_flags_that_are_repeated(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    knobs = parse_knobs(KnobsWithWords, list(argv), "Test.")
    assert (knobs.words, knobs.picture, knobs.steps) == ("do it", [tmp_path / "a", tmp_path / "b"], 2)


def test_words_and_repeated_flags_that_are_left_out_have_their_defaults():
    assert parse_knobs(KnobsWithWords, [], "Test.") == KnobsWithWords()
    with pytest.raises(UserError, match="unrecognized arguments: it"):
        parse_knobs(KnobsWithWords, ["do", "it"], "Test.")


def test_a_ready_recipe_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    knobs = parse_knobs(TrainingRecipe, ["--config", "configs/training/quickstart.yaml"], "Test.", recipe=Path("x"))
    assert knobs.model_name_or_path.name == "tiny-planner"
    with pytest.raises(UserError, match="recipe not found: configs/none.yaml. Ready recipes are in /"):
        parse_knobs(TrainingRecipe, ["--config", "configs/none.yaml"], "Test.", recipe=Path("x"))


def test_a_saved_recipe_can_be_read_back(recipe):
    import yaml

    knobs = parse("--folder", "/some/where", "--names", "x", "--files", "/a.jsonl", "/b.jsonl")
    recipe.write_text(yaml.safe_dump(as_plain(knobs)))
    assert parse(recipe=recipe) == knobs


def test_knobs_as_words_are_a_command_line_of_what_is_not_at_its_default(tmp_path, monkeypatch):
    assert as_words(parse()) == []
    knobs = parse("--folder", "some where", "--names", "x", "--files", "/a.jsonl", "/b.jsonl")
    words = as_words(knobs)
    monkeypatch.chdir(tmp_path)
    assert parse(*words) == knobs


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EEXIST, errno.ENOTDIR, errno.EISDIR])
def test_a_folder_that_cannot_be_written_is_one_line(number, capsys):
    def main():
        raise OSError(number, os.strerror(number), "/read/only")

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {os.strerror(number)}: /read/only\n"
