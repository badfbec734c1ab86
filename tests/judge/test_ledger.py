import asyncio

import pytest

from configs.config import REPOSITORY
from configs.errors import UserError
from leap.judge.ledger import Budget, BudgetReached, Price, TokenCounts, read_prices


def test_the_price_table_of_the_repository_is_one():
    prices = read_prices(REPOSITORY / "configs" / "judge" / "prices.yaml")
    assert prices["gpt-4o-mini"] == Price(0.15, 0.6, 14167, 48169)


@pytest.mark.parametrize(
    "text",
    [
        "- a",
        "m: 3",
        "m: {input: 1}",
        "m: {input: 1, output: x}",
        "m: {input: 1, output: -1}",
        "m: {input: 1, output: 1, x: 1}",
        "m: {input: true, output: 1}",
        "a: [",
        "\x00",
    ],
)
def test_a_table_that_is_none_is_a_users_error(tmp_path, text):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"prices\.yaml"):
        read_prices(path)


def test_cost_is_per_million_tokens():
    assert TokenCounts(2_000_000, 500_000).cost(Price(0.5, 4.0)) == 3.0
    assert TokenCounts(1, 1).cost(None) is None


def test_a_request_that_might_pass_the_budget_waits_for_those_in_flight():
    async def run():
        budget = Budget(1.0, spent=0.5)
        await budget.hold(0.4)
        waiting = asyncio.create_task(budget.hold(0.3))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await budget.settle(0.4, 0.1)  # it took less than was set aside
        await asyncio.wait_for(waiting, 1)
        await budget.settle(0.3, 0.3)
        with pytest.raises(BudgetReached):
            await budget.hold(0.2)

    asyncio.run(run())


def test_without_a_budget_everything_goes():
    asyncio.run(Budget(None, 1e9).hold(1e9))
