"""What two sides of a split share: tasks, episodes, pictures by content, plans by their words.

A number on a test set means what its overlap with the training set lets it mean.
"""

from __future__ import annotations

from collections.abc import Callable

from leap.data.splits import SplitRow, task_labels


def overlap_report(sides: dict[str, list[SplitRow]], pairs: list[tuple[str, str]]) -> dict:
    """JSON value with the counts of each side and, for each pair (seen, tested), what both hold.

    For tasks, episodes, images and plans of `tested`: `shared` are those that `seen` holds too, `rows` the rows that
    have one of these, `unknown` the rows that cannot tell, `share` = rows / rows that can tell (None if none can).
    Where `seen` has `missing_images`, the numbers for images are lower bounds.
    """
    everything = [row for rows in sides.values() for row in rows]
    labels = dict(zip(map(id, everything), task_labels(everything), strict=True))
    kinds: dict[str, Callable[[SplitRow], set]] = {
        "tasks": lambda row: {labels[id(row)]} - {None},
        "episodes": lambda row: {row.episode} - {None},
        "images": lambda row: {digest for digest in row.digests if digest},
        "plans": lambda row: {row.plan},
    }
    held = {side: {kind: set().union(*map(kinds[kind], rows)) for kind in kinds} for side, rows in sides.items()}
    report: dict = {"sides": {}, "overlap": {}}
    for side, rows in sides.items():
        missing = sum(digest is None for row in rows for digest in row.digests)
        counts = {kind: len(values) for kind, values in held[side].items()}
        report["sides"][side] = {"rows": len(rows)} | counts | {"missing_images": missing}
    for trained, tested in pairs:
        report["overlap"][f"{trained} / {tested}"] = {
            kind: _overlap(held[trained][kind], list(map(kinds[kind], sides[tested]))) for kind in kinds
        }
    return report


def _overlap(trained: set, tested: list[set]) -> dict:
    """What the values of one kind in training have in common with those of each tested row."""
    decidable = sum(map(bool, tested)) if trained else 0
    rows = sum(not values.isdisjoint(trained) for values in tested)
    return {
        "shared": len(trained & set().union(*tested)),
        "rows": rows,
        "unknown": len(tested) - decidable,
        "share": rows / decidable if decidable else None,
    }


def share_text(entry: dict) -> str:
    """How many tested rows hold something that was seen, as text."""
    return "unknown" if entry["share"] is None else f"{entry['rows']:,} ({entry['share']:.1%})"


def report_text(report: dict) -> str:
    """An overlap report as two tables of plain text."""
    columns = ("rows", "tasks", "episodes", "images", "plans", "missing_images")
    width = max(map(len, [*report["sides"], *report["overlap"]])) + 2
    lines = [" " * width + "".join(f"{column.replace('_', ' '):>16}" for column in columns)]
    for side, counts in report["sides"].items():
        lines.append(f"{side:{width}}" + "".join(f"{counts[column]:>16,}" for column in columns))
    lines += ["", f"{'seen / tested':{width}}{'':10}{'shared':>10}{'tested rows that hold one':>28}{'cannot tell':>14}"]
    for pair, kinds in report["overlap"].items():
        for kind, entry in kinds.items():
            lines.append(f"{pair:{width}}{kind:10}{entry['shared']:>10,}{share_text(entry):>28}{entry['unknown']:>14,}")
    return "\n".join(lines)
