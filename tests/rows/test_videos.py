"""Video items: sampled as they say, counted as they are, supervised and packed like pictures."""

import av
import numpy as np
import pytest
import torch
from PIL import Image

from configs.errors import UserError
from leap.models.loading import load_processor, load_weights
from leap.rows.records import row_from_record
from leap.training.packing import ISOLATED_SDPA, Packer
from leap.training.supervision import IGNORED, PlanningCollator
from leap.training.trainer import for_loss, supervised_loss

STEPS = "1) Pick up the cup."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four frames as pictures, and a film of four seconds at ten frames a second whose brightness rises."""
    folder = tmp_path_factory.mktemp("films")
    for i in range(4):
        Image.new("RGB", (96, 64), (60 * i, 0, 0)).save(folder / f"{i}.png")
    with av.open(str(folder / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 6 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return folder


@pytest.fixture
def collator(demo, folder):
    return PlanningCollator(load_processor(demo / "models" / "tiny-planner"), folder, folder, video_tokens=64)


def row(folder, *items, steps=STEPS):
    content = [*items, {"type": "text", "text": "Plan it."}]
    return row_from_record(
        {"messages": [{"role": "user", "content": content}], "target": {"steps": steps}}, "v:1", folder
    )


def film(**options):
    return {"type": "video", "video": "film.mp4"} | options


FRAMES = {"type": "video", "video": ["0.png", "1.png", "2.png", "3.png"]}


def grid(collator, item):
    return collator([item])["video_grid_thw"].tolist()


def test_frame_rate_and_count_decide_the_frames(collator, folder):
    pytest.importorskip("decord")
    assert [g[0] for g in grid(collator, row(folder, film(fps=2.0)))] == [4]  # eight frames in pairs
    assert [g[0] for g in grid(collator, row(folder, film(nframes=4)))] == [2]
    [(frames, metadata)] = collator.videos(row(folder, film(nframes=4)))
    assert list(metadata["frames_indices"]) == [0, 13, 26, 39]
    brightness = frames.mean(dim=(1, 2, 3)).tolist()
    assert brightness == pytest.approx([0, 78, 156, 234], abs=6)


def test_pixel_bounds_are_honoured_and_the_budget_caps_a_video(collator, folder):
    [_, height, width] = grid(collator, row(folder, FRAMES | {"max_pixels": 4 * 32 * 32}))[0]
    assert height * width <= 4 * 4
    [frames, height, width] = grid(collator, row(folder, FRAMES))[0]
    assert frames * height * width // 4 <= 64


@pytest.mark.parametrize("item", [FRAMES, FRAMES | {"max_pixels": 4 * 32 * 32}], ids=["frames", "small frames"])
def test_a_video_row_is_counted_and_supervised_as_it_is_computed(collator, folder, item):
    picture = {"type": "image", "image": "0.png"}
    rows = [row(folder, item), row(folder, picture, item)]
    for one in rows:
        length, batch = collator.length(one), collator([one])
        assert length.total == batch["input_ids"].shape[1]
        assert length.visual == (batch["mm_token_type_ids"] > 0).sum()
        kept = batch["labels"][batch["labels"] != IGNORED]
        assert collator.processor.tokenizer.decode(kept) == STEPS + "<|im_end|>"


def test_packed_videos_have_the_loss_of_padded_ones(demo, collator, folder):
    base = demo / "models" / "tiny-planner"
    picture = {"type": "image", "image": "0.png"}
    rows = [row(folder, picture, FRAMES), row(folder, picture), row(folder, FRAMES, steps=STEPS * 3)]
    packing = PlanningCollator(collator.processor, folder, folder, Packer(base, "sdpa"), video_tokens=64)
    losses = []
    for batch, kernel in ((collator(rows), "sdpa"), (packing(rows), ISOLATED_SDPA)):
        inputs = for_loss(batch)
        targets = inputs.pop("labels")
        with torch.no_grad():
            losses.append(supervised_loss(load_weights(base, "float32", kernel).eval()(**inputs), targets).item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_what_is_wrong_with_a_video_is_said_with_its_row(collator, folder):
    with pytest.raises(UserError, match="v:1: video not found: gone.mp4"):
        collator.media_paths(row(folder, film(video="gone.mp4")))
    (folder / "broken.mp4").write_bytes(b"no film")
    with pytest.raises(UserError, match=r"v:1: .*broken.mp4"):
        collator.length(row(folder, film(video="broken.mp4")))
