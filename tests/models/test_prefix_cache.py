"""The text that all prompts begin with is computed once, and no answer changes."""

from leap.planners import Query
from tests.planners.lively import answers, planner_of


def test_a_prefix_computed_once_gives_the_answers_of_one_computed_each_time(lively, planner, queries):
    """A long text that all prompts begin with, and prompts of unequal length behind it."""
    start = {"type": "text", "text": "".join(f"Rule {i}: one object at a time. " for i in range(30))}
    long = [Query(q.key, q.task, [{"role": "user", "content": [start, *q.messages[0]["content"]]}]) for q in queries]
    fresh = planner_of(lively, max_new_tokens=24, reuse_prefix=False)
    reusing = planner_of(lively, max_new_tokens=24)
    batches = [long[:5], long[5:], [long[0]]]
    assert answers(reusing, batches) == answers(fresh, batches)
    assert len(reusing._prefixes.tokens) > 100
    assert answers(planner, [queries]) == answers(planner, [queries[::-1]])  # and it does not outlive its prompts
