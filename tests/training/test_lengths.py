"""Lengths that an earlier pre-flight computed are used as long as what decides them is the same."""

from PIL import Image

from leap.models.image_budget import set_pixel_budget
from leap.models.loading import load_processor
from leap.training.preflight import check_file
from leap.training.supervision import PlanningCollator


def test_lengths_are_kept_beside_the_data_until_something_that_decides_them_changes(mixed, collator, demo, monkeypatch):
    computed = []
    lengths = PlanningCollator.lengths

    def counted(self, rows, images):
        computed.extend(row.where for row in rows)
        return lengths(self, rows, images)

    monkeypatch.setattr(PlanningCollator, "lengths", counted)

    def checked(used=collator):
        computed.clear()
        report = check_file(mixed, used, 256, workers=1)
        return report, {int(where.rpartition(":")[2]) for where in computed}

    first, fresh = checked()
    assert fresh >= set(range(1, 9))
    again, fresh = checked()
    assert not fresh & set(range(1, 9)), "lengths of good rows are known"
    assert (again.lengths, again.remarks, again.tasks) == (first.lengths, first.remarks, first.tasks)
    assert [r.defect for r in again.rejected] == [r.defect for r in first.rejected]

    Image.new("RGB", (128, 64), "red").save(mixed.parent / "a.png")
    changed, fresh = checked()
    assert 4 in fresh, "the row whose picture changed is measured again"
    assert changed.lengths[3].visual > first.lengths[3].visual

    processor = load_processor(demo / "models" / "tiny-planner")
    set_pixel_budget(processor, 1, 2)
    other, fresh = checked(PlanningCollator(processor, None, demo))
    assert fresh >= set(range(1, 9)), "another picture budget is another cache"
    assert other.lengths[3].visual <= 2

    (mixed.parent / "a.png").unlink()
    assert "image not found: a.png" in checked()[0].rejected[0].defect, "a picture that is gone is noticed"
