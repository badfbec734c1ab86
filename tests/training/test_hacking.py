"""A reward that rises while held-out plans get worse is called so; noise is not."""

from leap.training.hacking import hacking, reward_trend, success_trend


def log(rewards, successes, rows=100):
    records = [{"step": step, "reward": value} for step, value in enumerate(rewards, 1)]
    marks = [len(rewards) * (i + 1) // len(successes) for i in range(len(successes))]
    return records + [
        {"step": step, "eval_grounded_plan_success": value, "eval_grounded_rows": rows}
        for step, value in zip(marks, successes, strict=True)
    ]


RISING = [0.3 + 0.02 * step + 0.01 * (step % 2) for step in range(20)]


def test_a_rising_reward_with_falling_plans_is_called_hacking_with_its_numbers():
    text = hacking(log(RISING, [40, 60, 35, 20]))
    assert text.startswith("REWARD HACKING: ")
    assert "held-out success fell from 60.0% to 20.0%" in text


def test_a_rising_reward_with_rising_plans_is_not():
    assert hacking(log(RISING, [40, 50, 60, 70])) is None


def test_a_fall_within_the_noise_of_few_rows_is_not():
    assert hacking(log(RISING, [40, 60, 50], rows=10)) is None
    assert success_trend(log(RISING, [40, 60, 50], rows=10)).errors > -1


def test_a_reward_that_does_not_rise_is_not_even_where_plans_fall():
    assert hacking(log([0.5, 0.6] * 12, [60, 20])) is None
    assert reward_trend(log([0.5, 0.6] * 12, [60, 20])).errors == 0


def test_numbered_steps_are_watched_by_their_f1():
    records = [{"step": step, "reward": value} for step, value in enumerate(RISING, 1)]
    records += [{"step": 10 * i, "eval_plan_step_f1": f1, "eval_plan_rows": 200} for i, f1 in ((1, 0.8), (2, 0.4))]
    assert "from 80.0% to 40.0%" in hacking(records)


def test_a_log_that_a_resumed_run_wrote_twice_counts_its_later_lines():
    records = log(RISING, [40, 60, 20])
    assert hacking([{**record, "reward": 0.9} for record in records if "reward" in record] + records) == hacking(
        records
    )


def test_a_log_too_short_says_nothing():
    assert reward_trend(log(RISING[:7], [40])) is None
    assert success_trend(log(RISING[:7], [40])) is None
    assert hacking([]) is None
