"""Which rows meet: every row once an epoch on one device or several, steps that stay themselves, packs that fit."""

import bisect
import random

import numpy as np
import pytest
import torch

from leap.training.batching import InOrder, PackBatches, RankBatches, RowBatches, Shares, fill_packs

LENGTHS = tuple((7 * i) % 23 + 1 for i in range(50))
VISUAL = tuple(4 if i % 3 else 0 for i in range(50))  # every third row shows no picture


def rows_of(batches):
    return sorted(row for batch in batches for row in batch)


class TestRowBatches:
    def batches(self, epoch=0, seed=1, size=2, a_step=4):
        return RowBatches(LENGTHS, size, a_step, seed).batches(epoch)

    def test_every_row_comes_once_an_epoch_in_an_order_of_its_own(self):
        assert rows_of(self.batches(0)) == rows_of(self.batches(1)) == list(range(50))
        assert self.batches(0) == self.batches(0) != self.batches(1)
        assert self.batches(seed=1) != self.batches(seed=2)
        assert len(RowBatches(LENGTHS, 2, 4, 1)) == len(self.batches()) == 25

    def test_a_step_is_sorted_by_length_and_has_the_same_rows_however_it_is_split(self):
        for start in range(0, 25, 4):
            step = [row for batch in self.batches()[start : start + 4] for row in batch]
            lengths = [LENGTHS[row] for row in step]
            assert lengths == sorted(lengths, reverse=True)
        split = [self.batches(size=size, a_step=8 // size) for size in (1, 2, 4, 8)]
        steps = [
            [rows_of(batches[i : i + 8 // size]) for i in range(0, len(batches), 8 // size)]
            for size, batches in zip((1, 2, 4, 8), split, strict=True)
        ]
        assert steps[0] == steps[1] == steps[2] == steps[3]


class TestPacks:
    def test_every_row_is_in_one_pack_and_no_pack_is_over_its_budget(self):
        packs = fill_packs(LENGTHS, 40, seed=3)
        assert rows_of(packs) == list(range(50))
        assert all(sum(LENGTHS[row] for row in pack) <= 40 for pack in packs)

    def test_packs_are_nearly_full(self):
        lengths = [100 + (37 * i) % 900 for i in range(5000)]
        packs = fill_packs(lengths, 4096, seed=0)
        assert sum(lengths) / (4096 * len(packs)) > 0.98

    def test_packs_depend_on_the_seed_alone_and_their_order_on_the_epoch(self):
        assert fill_packs(LENGTHS, 40, 1) == fill_packs(LENGTHS, 40, 1) != fill_packs(LENGTHS, 40, 2)
        plan = PackBatches(LENGTHS, 40, 1)
        assert plan.batches(0) != plan.batches(1)
        assert sorted(plan.batches(0)) == sorted(plan.batches(1))
        assert len(plan) == len(plan.batches(0))

    def test_a_row_over_the_budget_is_refused(self):
        with pytest.raises(ValueError, match="23 tokens does not fit a pack of 20"):
            fill_packs(LENGTHS, 20, 1)


class TestShares:
    """Two sources of 20 and 30 rows, at 0.3 and 1.5 times an epoch."""

    SHARES = Shares([20, 30], [0.3, 1.5], 7)

    def test_an_epoch_has_each_source_in_its_share_and_no_row_more_often_than_its_weight_says(self):
        for epoch in range(5):
            times = np.bincount(self.SHARES.rows(epoch), minlength=50)
            assert (times[:20].sum(), times[20:].sum(), len(self.SHARES)) == (6, 45, 51)
            assert set(times[:20]) == {0, 1}
            assert set(times[20:]) == {1, 2}

    def test_all_rows_of_a_source_come_equally_often_over_epochs(self):
        times = sum(np.bincount(self.SHARES.rows(epoch), minlength=50) for epoch in range(10))
        assert set(times[:20]) == {3}
        assert set(times[20:]) == {15}

    def test_batches_mix_the_sources_and_depend_on_seed_and_epoch_alone(self):
        def plan(epoch, seed=1):
            return RowBatches(LENGTHS, 3, 4, seed, self.SHARES).batches(epoch)

        assert plan(2) == plan(2) != plan(3)
        assert plan(2) != plan(2, seed=2)
        assert rows_of(plan(2)) == sorted(self.SHARES.rows(2).tolist())
        assert len(RowBatches(LENGTHS, 3, 4, 1, self.SHARES)) == len(plan(0)) == 17
        first_source = [sum(row < 20 for batch in plan(0)[step : step + 4] for row in batch) for step in (0, 4, 8)]
        assert max(first_source) < 6, "a source is not read in one go"

    def test_packs_hold_the_same_rows_in_every_epoch(self):
        plan = PackBatches(LENGTHS, 40, 1, self.SHARES)
        assert rows_of(plan.batches(0)) == rows_of(plan.batches(1)) == sorted(self.SHARES.rows(0).tolist())
        assert all(sum(LENGTHS[row] for row in pack) <= 40 for pack in plan.batches(0))


class TestRunsOfEarlierVersions:
    """Runs that began before lengths were columns go on with the same batches: their rule, in plain Python."""

    LENGTHS = tuple(random.Random(5).choices(range(1, 60), k=3000))

    def order(self, count, seed, epoch):
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)).tolist()

    def longest_first(self, rows):
        return sorted(rows, key=lambda row: -self.LENGTHS[row])

    def packs(self, budget, seed):
        order = list(range(len(self.LENGTHS)))
        random.Random(seed).shuffle(order)
        packs = []
        for start in range(0, len(order), 1024):
            room, first = [], len(packs)
            for row in self.longest_first(order[start : start + 1024]):
                tightest = bisect.bisect_left(room, (self.LENGTHS[row], -1))
                if tightest == len(room):
                    packs.append([])
                    left, pack = budget, len(packs) - first - 1
                else:
                    left, pack = room.pop(tightest)
                packs[first + pack].append(row)
                bisect.insort(room, (left - self.LENGTHS[row], pack))
        return packs

    @pytest.mark.parametrize(("seed", "epoch", "size", "a_step"), [(1, 0, 2, 4), (42, 3, 6, 7), (0, 1, 1, 1)])
    def test_batches_of_rows(self, seed, epoch, size, a_step):
        order, rows = self.order(len(self.LENGTHS), seed, epoch), size * a_step
        steps = [self.longest_first(order[start : start + rows]) for start in range(0, len(order), rows)]
        batches = [step[start : start + size] for step in steps for start in range(0, len(step), size)]
        assert list(RowBatches(self.LENGTHS, size, a_step, seed).batches(epoch)) == batches

    @pytest.mark.parametrize(("seed", "budget"), [(1, 60), (42, 400)])
    def test_packs(self, seed, budget):
        packs = self.packs(budget, seed)
        assert list(fill_packs(self.LENGTHS, budget, seed)) == packs
        in_order = [packs[pack] for pack in self.order(len(packs), seed, 2)]
        assert list(PackBatches(self.LENGTHS, budget, seed).batches(2)) == in_order

    def test_batches_of_validation(self):
        order = self.longest_first(range(len(self.LENGTHS)))
        assert [row for batch in InOrder(self.LENGTHS, 7).batches(0) for row in batch] == order


@pytest.mark.parametrize("plan", [RowBatches(LENGTHS, 3, 8, 1), PackBatches(LENGTHS, 40, 1), InOrder(LENGTHS, 3)])
class TestSeveralDevices:
    @pytest.mark.parametrize("world", [1, 2, 3, 4])
    def test_devices_get_every_row_once_and_equally_many_batches(self, plan, world):
        shares = [list(RankBatches(plan, VISUAL, rank, world)) for rank in range(world)]
        assert {len(share) for share in shares} == {len(RankBatches(plan, VISUAL, 0, world))}
        assert sorted(row for share in shares for batch in share for row in batch if row >= 0) == list(range(50))

    def test_two_devices_see_in_a_step_what_one_sees_with_twice_the_accumulation(self, plan):
        alone = list(RankBatches(plan, VISUAL))
        one, other = (list(RankBatches(plan, VISUAL, rank, 2)) for rank in range(2))
        together = [[row for row in batch if row >= 0] for pair in zip(one, other, strict=True) for batch in pair]
        assert [batch for batch in together if batch] == alone

    def test_no_device_goes_without_a_picture_while_others_see_one(self, plan):
        for rank in range(2):
            for batch in RankBatches(plan, VISUAL, rank, 2):
                assert any(VISUAL[row if row >= 0 else ~row] for row in batch)
        assert all(row >= 0 for batch in RankBatches(plan, VISUAL) for row in batch), "one device needs no filler"
        blind = [batch for rank in range(2) for batch in RankBatches(plan, [0] * 50, rank, 2)]
        assert sum(row < 0 for batch in blind for row in batch) <= 1, "rows without any picture need none either"
