"""Labels are built structurally; these tests hold them against the processor's own template and model inputs."""

import pytest
import torch
from PIL import Image

from configs.errors import UserError
from leap.models.loading import load_processor
from leap.rows.chat import chat_messages, image_items
from leap.rows.images import load_image
from leap.rows.records import row_from_record
from leap.training.supervision import IGNORED, PlanningCollator
from leap.training.turns import render

STEPS = "1) Pick up the assistant's cup.\n2) Place it on the plate."


def image(name):
    return {"type": "image", "image": name}


def text(words):
    return {"type": "text", "text": words}


CONVERSATIONS = {
    "one image": [{"role": "user", "content": [image("a.png"), text("Plan it.")]}],
    "several images": [{"role": "user", "content": [image("a.png"), text(" then "), image("wide.png"), text("Plan.")]}],
    "text only": [{"role": "user", "content": "Plan it."}],
    "system turn": [
        {"role": "system", "content": "You are an assistant."},
        {"role": "user", "content": [image("a.png"), text("Plan it.")]},
    ],
    "earlier turns": [
        {"role": "user", "content": [image("a.png"), text("What is there?")]},
        {"role": "assistant", "content": "A cup."},
        {"role": "user", "content": [image("wide.png"), text("Plan it.")]},
    ],
    "the word assistant": [
        {
            "role": "user",
            "content": [image("a.png"), text("assistant\nsays <|im_start|>assistant\n: plan it, assistant")],
        }
    ],
}


@pytest.fixture(scope="module")
def processor(demo):
    return load_processor(demo / "models" / "tiny-planner")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    Image.new("RGB", (64, 64), "red").save(folder / "a.png")
    Image.new("RGB", (200, 70), "blue").save(folder / "wide.png")
    return folder


@pytest.fixture
def collator(processor, folder):
    return PlanningCollator(processor, folder, folder)


def row(name, folder, steps=STEPS):
    return row_from_record({"messages": CONVERSATIONS[name], "target": {"steps": steps}}, f"{name}:1", folder)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_tokens_and_labels_are_those_of_the_processors_own_template(name, processor, collator, folder):
    """The whole conversation tokenised at once gives the same ids; the labels are the answer and its end of turn."""
    item = row(name, folder)
    batch = collator([item])
    whole = processor.apply_chat_template(chat_messages(item, item.steps), tokenize=False)
    pictures = [load_image(folder / name, "x") for name in image_items(item)]
    reference = processor(text=[whole], images=pictures or None, return_tensors="pt")

    ids, labels = batch["input_ids"][0], batch["labels"][0]
    # The template ends the turn with a line break that nobody has to predict; all before it is the same.
    assert reference["input_ids"][0].tolist() == ids.tolist() + processor.tokenizer("\n").input_ids
    if pictures:
        assert torch.equal(batch["pixel_values"], reference["pixel_values"])
        assert torch.equal(batch["image_grid_thw"], reference["image_grid_thw"])
    supervised = labels != IGNORED
    assert torch.equal(ids[supervised], labels[supervised])
    assert processor.tokenizer.decode(ids[supervised]) == STEPS + "<|im_end|>"
    first = int(supervised.nonzero()[0])
    assert supervised[first:].all()
    assert not supervised[:first].any()


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_lengths_from_headers_are_the_lengths_of_the_batch(name, collator, folder):
    batch = collator([row(name, folder)])
    length = collator.length(row(name, folder))
    assert length.total == batch["input_ids"].shape[1]
    assert length.supervised == (batch["labels"] != IGNORED).sum()
    assert length.visual == (batch["mm_token_type_ids"] == 1).sum()


def test_a_batch_pads_on_the_right_and_masks_by_length(processor, collator, folder):
    rows = [row(name, folder) for name in CONVERSATIONS]
    batch = collator(rows)
    for i, item in enumerate(rows):
        alone = collator([item])
        size = alone["input_ids"].shape[1]
        for key, filler in (
            ("input_ids", processor.tokenizer.pad_token_id),
            ("labels", IGNORED),
            ("attention_mask", 0),
            ("mm_token_type_ids", 0),
        ):
            assert torch.equal(batch[key][i, :size], alone[key][0])
            assert (batch[key][i, size:] == filler).all()
    assert batch["pixel_values"].shape[0] == batch["image_grid_thw"].prod(dim=1).sum()


def test_the_prompt_is_tokenised_as_it_is_for_generation(processor, collator, folder):
    """An answer trained after other prompt tokens than those seen at generation would be wasted."""
    item = row("one image", folder)
    prompt, _ = render(processor, item)
    generation = processor(text=[prompt], images=[load_image(folder / "a.png", "x")])["input_ids"][0]
    batch = collator([item])
    assert batch["input_ids"][0, : len(generation)].tolist() == generation


def test_a_template_that_does_not_continue_the_prompt_is_refused(demo, folder):
    processor = load_processor(demo / "models" / "tiny-planner")
    processor.chat_template = processor.chat_template.replace(
        "render(message.content)", "render(message.content) | upper"
    )
    with pytest.raises(UserError, match=r"one image:1: the chat template .* cannot tell which tokens to supervise"):
        render(processor, row("one image", folder))


def test_a_missing_or_broken_image_is_named_with_its_row(collator, folder):
    record = {"messages": [{"role": "user", "content": [image("gone.png")]}], "target": {"steps": STEPS}}
    with pytest.raises(UserError, match=r"rows.jsonl:7: image not found: gone.png"):
        collator.length(row_from_record(record, "rows.jsonl:7", folder))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n")
    record["messages"][0]["content"] = [image("broken.png")]
    with pytest.raises(UserError, match=r"rows.jsonl:7: unreadable image: .*broken.png"):
        collator.length(row_from_record(record, "rows.jsonl:7", folder))


def test_images_of_an_overlong_row_shrink_until_it_fits_and_no_further(collator, folder):
    item = row("several images", folder)
    length = collator.length(item)
    assert length.visual == 4 + 12
    fitted = collator.shrink_to_fit(item, length, length.total - 3)
    shorter = collator.length(fitted)
    assert length.total - 3 >= shorter.total > length.total - 8
    assert (shorter.prompt, shorter.supervised) == (length.prompt, length.supervised)
    batch = collator([fitted])
    assert batch["input_ids"].shape[1] == shorter.total
    assert (batch["mm_token_type_ids"] == 1).sum() == shorter.visual
    assert collator.shrink_to_fit(item, length, length.prompt + length.supervised + 1) is None
    assert collator.shrink_to_fit(row("text only", folder), length, 1) is None


def taught(batch, processor, i=0):
    """The words of each stretch of supervised tokens."""
    ids, seen = batch["input_ids"][i].tolist(), (batch["labels"][i] != IGNORED).tolist()
    stretches = [[]]
    for token, learned in zip(ids, seen, strict=True):
        if learned:
            stretches[-1].append(token)
        elif stretches[-1]:
            stretches.append([])
    return [processor.tokenizer.decode(stretch) for stretch in stretches if stretch]


def test_earlier_answers_are_supervised_where_row_or_run_says_so(processor, folder):
    messages = CONVERSATIONS["earlier turns"]
    record = {"messages": messages, "target": {"steps": STEPS}}
    last, both = [STEPS + "<|im_end|>"], ["A cup.<|im_end|>", STEPS + "<|im_end|>"]
    for run, key, expected in (
        ("last", {}, last),
        ("all", {}, both),
        ("last", {"supervise": "all"}, both),
        ("all", {"supervise": "last"}, last),
    ):
        collator = PlanningCollator(processor, folder, folder, supervise=run)
        item = row_from_record(record | key, "rows:1", folder)
        batch = collator([row("text only", folder), item])
        assert taught(batch, processor, 1) == expected
        length = collator.length(item)
        assert length.total == batch["attention_mask"][1].sum()
        assert length.supervised == (batch["labels"][1] != IGNORED).sum()
        assert length.visual == (batch["mm_token_type_ids"][1] == 1).sum()


def test_supervising_earlier_answers_changes_no_token_of_these_rows(processor, folder):
    item = row("earlier turns", folder)
    plain, marked = (PlanningCollator(processor, folder, folder, supervise=how)([item]) for how in ("last", "all"))
    for name in ("input_ids", "attention_mask", "mm_token_type_ids", "pixel_values", "image_grid_thw"):
        assert torch.equal(plain[name], marked[name]), name


def test_a_padding_token_that_prompts_hold_stays_in_them_and_marks_nothing(demo, folder):
    """Of many models the token that ends a turn is that of padding, too."""
    processor = load_processor(demo / "models" / "tiny-planner")
    rows = [row(name, folder) for name in CONVERSATIONS]
    expected = PlanningCollator(processor, folder, folder)(rows)
    processor.tokenizer.pad_token = "<|im_end|>"
    collator = PlanningCollator(processor, folder, folder)
    batch = collator(rows)
    for name in ("attention_mask", "labels"):
        assert torch.equal(batch[name], expected[name])
    mask = batch["attention_mask"].bool()
    assert torch.equal(batch["input_ids"][mask], expected["input_ids"][mask])
    collator.supervise = "all"
    with pytest.raises(UserError, match="earlier turns:1: the prompts of this model hold its padding token"):
        collator([row("earlier turns", folder)])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ({"supervise": "first"}, "'supervise' must be last or all, found 'first'"),
        ({"weight": -1}, "'weight' must be a number from 0 to 1,000,000, found -1"),
        ({"weight": "2"}, "'weight' must be a number .* found '2'"),
        ({"weight": True}, "'weight' must be a number .* found True"),
        ({"weight": float("nan")}, "'weight' must be a number .* found nan"),
        ({"weight": float("inf")}, "'weight' must be a number .* found inf"),
    ],
)
def test_a_row_that_says_what_counts_in_another_way_is_named(key, words, folder):
    with pytest.raises(UserError, match=rf"^rows.jsonl:3: {words}"):
        row_from_record(
            {"messages": CONVERSATIONS["text only"], "target": {"steps": STEPS}} | key, "rows.jsonl:3", folder
        )
