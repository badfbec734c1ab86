"""A budget of image tokens decides how large pictures are shown."""

import pytest
from PIL import Image

from leap.models.image_budget import set_pixel_budget, visual_tokens
from leap.models.loading import load_processor


@pytest.mark.parametrize(("fewest", "most"), [(1, 4), (4, 16), (20, 40)])
def test_the_pixel_budget_decides_the_real_grid(demo, fewest, most):
    processor = load_processor(demo / "models" / "tiny-planner")
    set_pixel_budget(processor, fewest, most)
    grid = processor.image_processor(images=[Image.new("RGB", (200, 70), "blue")])["image_grid_thw"]
    tokens = int(grid.prod()) // processor.image_processor.merge_size**2
    assert fewest <= tokens <= most
    assert tokens == visual_tokens(processor, 200, 70)
