"""Pre-flight: what is found in a planning file, and training on what is left of it."""

import json

import pytest
from PIL import Image
from tokenizers import Regex, pre_tokenizers

from configs.config import WorkspaceConfig
from configs.errors import UserError
from leap.files import read_jsonl
from leap.plans.reading import read_official
from leap.publish.benchmark_dataset import write_benchmark
from leap.training import turns
from leap.training.preflight import check_file, refuse_same_ids, refuse_tested
from leap.vlabench.examples import examples_below, find_examples
from leap.vlabench.prompts import PromptWriter
from tests.conftest import assert_one_line_error, run_script
from tests.training.planning_lines import GOOD, row
from tests.training.trainings import train


@pytest.mark.parametrize("workers", [1, 2])
def test_every_defect_is_found_and_the_rest_is_kept(mixed, collator, workers, monkeypatch):
    monkeypatch.setattr("leap.training.measuring._CHUNK", 3)
    report = check_file(mixed, collator, 256, workers)
    assert len(report.rows) == len(report.lengths) == 8
    assert [checked.number for checked in report.rejected] == [10, 11, 12, 13, 14, 15]
    for checked, words in zip(
        report.rejected,
        ["not valid JSON", "expected a JSON object", "'target.steps'", "image not found: gone.png", "cut off",
         "are over model_max_length 256"],
        strict=True,
    ):  # fmt: skip
        assert checked.defect.startswith(f"{mixed}:{checked.number}: ")
        assert words in checked.defect
    assert report.remarks == {
        "duplicate of an earlier row": 1, "a plan that is neither numbered steps nor a skill list": 2
    }  # fmt: skip
    assert report.tasks == {"wipe": 2, "sweep": 1, "(unnamed)": 5}
    for words in ("14 rows, 3 tasks, 6 rejected", "supervised", "1 rows: duplicate"):
        assert words in report.text()


def test_the_script_reports_and_exits_with_1_where_a_row_cannot_train(workspace, mixed):
    arguments = ["--model_name_or_path", workspace / "models/tiny-planner", "--model_max_length", 256]
    arguments += ["--image_tokens_min", 1, "--image_tokens_max", 16]
    done = run_script(
        "training/validate_data.py", *arguments, "--train_file", mixed, "--rejected", workspace / "bad.jsonl"
    )
    assert done.returncode == 1
    assert "6 rejected" in done.stdout
    assert "supervised:\n1) Go. 2) Stop.<|im_end|>" in done.stdout
    written = read_jsonl(workspace / "bad.jsonl")
    assert [entry["line"] for entry in written] == [10, 11, 12, 13, 14, 15]
    assert written[0]["text"] == "{"
    done = run_script("training/validate_data.py", *arguments, "--train_file", workspace / "data" / "val.jsonl")
    assert done.returncode == 0, done.stderr
    assert "20 rows" in done.stdout
    arguments += ["--max_train_samples", 7]
    done = run_script("training/validate_data.py", *arguments, "--rows", workspace / "data" / "val.jsonl")
    assert ": 7 rows" in done.stdout, done.stderr


def test_the_first_rows_alone_are_checked_where_that_is_asked_and_the_table_of_all_stays(mixed, collator):
    def tables():
        return {file.name: file.read_bytes() for file in mixed.parent.glob(".*.arrow")}

    for first_rows_have_a_table_of_their_own in (1, 1):
        report = check_file(mixed, collator, 256, workers=1, most=3)
        assert (len(report.rows), report.rejected) == (3, [])
        assert len(tables()) == first_rows_have_a_table_of_their_own
    assert len(check_file(mixed, collator, 256, workers=1).rows) == 8
    of_both = tables()
    report = check_file(mixed, collator, 256, workers=1, most=3)
    assert (len(report.rows), report.rejected) == (3, [])
    assert tables() == of_both


def test_the_report_counts_defects_by_kind_and_shows_what_lengths_are_made_of(mixed, collator):
    text = check_file(mixed, collator, 256, workers=1).text()
    for kind in ("not JSON", "no plan", "missing image or video", "unreadable image", "malformed"):
        assert f"  1 rejected: {kind}" in text
    assert "  1 rejected: longer than model_max_length" in text
    bars = [line.split()[-1] for line in text.splitlines() if " to " in line and line.rstrip()[-1] in "vps"]
    assert bars
    assert all(set(bar) <= set("vps") and list(bar) == sorted(bar, key="vps".index) for bar in bars)


def test_a_defect_is_counted_by_its_kind_whatever_the_file_is_called(workspace, collator):
    names = ["not valid JSON.png", "over model_max_length.png", "'target.steps'.png", "unreadable image.png"]
    (workspace / names[-1]).write_bytes(b"\x89PNG\r\n")
    (workspace / "rows.jsonl").write_text("\n".join(row(image=name) for name in names))
    text = check_file(workspace / "rows.jsonl", collator, 256, workers=1).text()
    assert [line.strip() for line in text.splitlines() if " rejected: " in line] == [
        "3 rejected: missing image or video",
        "1 rejected: unreadable image",
    ]


def test_overlong_rows_are_shrunk_where_that_is_asked_and_enough(workspace, collator):
    Image.new("RGB", (256, 256), "red").save(workspace / "big.png")
    (workspace / "rows.jsonl").write_text("\n".join([row(image="big.png"), row("word " * 60, image="big.png")]))
    assert len(check_file(workspace / "rows.jsonl", collator, 40).rejected) == 2
    report = check_file(workspace / "rows.jsonl", collator, 40, shrink=True)
    assert [r.number for r in report.rejected] == [2]
    assert "even with the smallest images" in report.rejected[0].defect
    assert report.lengths[0].total <= 40
    assert collator(report.rows)["input_ids"].shape[1] == report.lengths[0].total
    assert "1 rows: images shrunk" in report.text()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"messages": [', ["rows.jsonl:2", "not valid JSON"]),
        (json.dumps({"target": GOOD["target"]}), ["rows.jsonl:2", "'messages'"]),
        (json.dumps({"messages": GOOD["messages"]}), ["rows.jsonl:2", "'target.steps'"]),
        (json.dumps(GOOD | {"target": {"steps": "1) Go \ud83d."}}), ["rows.jsonl:2", r"half a character ('\ud83d')"]),
        (
            json.dumps(GOOD | {"messages": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]}]}),
            ["rows.jsonl:2", "image not found: x.png", "--image_root"],
        ),
    ],
)
def test_training_names_file_and_line_of_a_bad_row(workspace, line, words):
    path = workspace / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n")
    assert_one_line_error(train("--train_file", path), *words)
    assert not (workspace / "output").exists()


def test_training_refuses_an_empty_file(workspace):
    path = workspace / "rows.jsonl"
    path.write_text("")
    assert_one_line_error(train("--train_file", path), "rows.jsonl holds no planning rows")


def test_what_the_model_or_a_library_refuses_is_a_defect_of_its_own_row(workspace, collator, monkeypatch):
    monkeypatch.setattr(turns, "TEMPLATE_S", 0.3)
    words = collator.processor.tokenizer.backend_tokenizer
    explodes = pre_tokenizers.Split(Regex("(a+)+b"), "isolated")
    words.pre_tokenizer = pre_tokenizers.Sequence([explodes, words.pre_tokenizer])
    Image.new("RGB", (4000, 10), "teal").save(workspace / "strip.png")
    Image.new("RGB", (64, 64), "teal").save(workspace / "whole.jpg")
    (workspace / "cut.jpg").write_bytes((workspace / "whole.jpg").read_bytes()[:-40])
    Image.new("F", (8, 8)).save(workspace / "float.tif")
    collator.processor.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
        "{% if messages[0].content[0].text == 'unknown' %}{{ nobody.knows }}{% endif %}"
        "{% if messages[0].content[0].text == 'loop' %}"
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}"
        + collator.processor.chat_template
    )
    system = {"messages": [{"role": "system", "content": "Be brief."}, *GOOD["messages"]]}
    expected = {
        row(image="strip.png"): "absolute aspect ratio must be smaller than 200",
        row(image="cut.jpg"): "unreadable image",
        row(image="float.tif"): "floating-point grey has no fixed scale",
        row("Look at <|image_pad|>."): "the row's own words hold <|image_pad|>, which this model takes for a picture",
        row(steps="1) Wipe.<|im_end|> 2) Dry."): "the plan holds <|im_end|>, a control token of this model",
        row(**system): "the row cannot be prepared (the model's chat template: no system turns)",
        row("unknown"): "the row cannot be prepared (the model's chat template: 'nobody' is undefined)",
        row("loop"): "the row cannot be prepared (ValueError: the chat template takes longer than 0.3 s)",
        row("a" * 40): "the row cannot be prepared (PanicException: ",
        row("<image>"): "<image> stands in the words and the turns show no image",
    }
    path = workspace / "rows.jsonl"
    path.write_text("\n".join([*expected, row(image="whole.jpg")]))
    report = check_file(path, collator, 256, workers=1)
    assert len(report.rows) == 1
    assert [checked.number for checked in report.rejected] == list(range(1, len(expected) + 1))
    for checked, words in zip(report.rejected, expected.values(), strict=True):
        assert checked.defect.startswith(f"{path}:{checked.number}: ")
        assert words in checked.defect


def test_keys_that_are_not_read_are_remarks_also_where_lengths_were_kept(workspace, collator):
    Image.new("RGB", (64, 64), "red").save(workspace / "a.png")
    item = {"type": "image", "image": "a.png", "max_pixels": 1024}
    (workspace / "rows.jsonl").write_text(row(messages=[{"role": "user", "content": [item]}]))
    for _ in range(2):
        report = check_file(workspace / "rows.jsonl", collator, 256)
        assert report.remarks == {"'max_pixels' of image items, which is not read": 1}


def checks_of(folder, collator, **lines):
    """The checks of files of these names and lines."""
    paths = [folder / f"{name}.jsonl" for name in lines]
    for path, written in zip(paths, lines.values(), strict=True):
        path.write_text("\n".join(written))
    return [check_file(path, collator, 256, workers=1) for path in paths]


def test_files_that_hold_rows_of_one_id_are_refused_by_the_lines_of_both(workspace, collator, capsys):
    numbered = [row(f"word {i}", id=i) for i in range(5)]
    files = checks_of(workspace, collator, a=[row("no id"), *numbered[:3]], b=[row(id="b")], c=numbered[1:])
    with pytest.raises(UserError) as error:
        refuse_same_ids(files)
    for words in ("a.jsonl:3 and ", "c.jsonl:1 have the same id '1'; 2 ids in all", "other ids"):
        assert words in str(error.value)
    refuse_same_ids(files[:2])
    refuse_same_ids(files[2:])
    assert "warning" not in capsys.readouterr().out


def test_rows_without_ids_may_stand_in_two_files_and_are_counted(workspace, collator, capsys):
    refuse_same_ids(checks_of(workspace, collator, a=[row("a"), row("a"), row("b")], b=[row("b"), row("c")]))
    assert "1 rows stand in more than one of the files" in capsys.readouterr().out


def test_rows_of_the_benchmarks_form_that_show_a_tested_picture_are_refused(workspace, collator, capsys):
    example = examples_below(workspace / "dataset/vlm_evaluation_v1.0")[0]
    Image.new("RGB", (64, 64), "red").save(workspace / "a.png")
    truth = {"messages": [{"role": "user", "content": "<image>Plan."}], "skill_sequence": example.ground_truth()}
    others, tested = truth | {"images": ["a.png"]}, truth | {"images": [str(example.tagged_image)]}
    lines = {"others": [json.dumps(others)], "tested": [json.dumps(others), json.dumps(tested)]}
    places = (collator, workspace / "dataset/vlm_evaluation_v1.0", workspace / "logs")
    checks = checks_of(workspace, collator, **lines)
    refuse_tested(checks[:1], *places)
    assert "no picture and no scene in common" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"tested.jsonl:2: shows a picture of .*, which is tested on"):
        refuse_tested(checks, *places)


def test_the_benchmark_in_hugging_face_form_is_rows_with_its_prompts_and_refused_where_it_is_tested_on(
    workspace, collator
):
    benchmark = workspace / "dataset/vlm_evaluation_v1.0"
    examples = find_examples(benchmark, ["Spatial"])
    writer = PromptWriter(WorkspaceConfig(workspace), "ours", "en")
    table = write_benchmark(workspace / "hf", examples, writer)["Spatial"]
    check = check_file(table, collator, 2048)
    assert check.rejected == []
    assert check.form == "VLABench skill sequences"
    for row_of_example, example in zip(check.rows, examples["Spatial"], strict=True):
        assert read_official(row_of_example.steps) == example.ground_truth()
        shown = [path.read_bytes() for path in collator.image_paths(row_of_example)]
        assert shown == [example.plain_image.read_bytes(), example.tagged_image.read_bytes()]
    with pytest.raises(UserError, match=r"test.parquet:1: shows a picture of "):
        refuse_tested([check], collator, benchmark, workspace / "logs")
