"""Make the report: results and benchmark in, one HTML file out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from configs.errors import UserError
from leap.pages.page import PICTURES_AN_ISLAND, Assets, packed, page_parts, write_page
from leap.pages.palette import looks_of_models
from leap.pages.pictures import FORMAT, Pictures, find_pictures, make_thumbnails, place_pictures
from leap.progress import say
from leap.provenance import code_revision, utc_now
from leap.report.examples import Examples, collect_examples
from leap.report.overview import overview_of
from leap.report.review import Review
from leap.rows.sharing import why_not_shared, why_outside
from leap.vlabench.draws import draw_notes

_REPORT = Assets(
    "report/assets/report.html",
    "report/assets/report.css",
    (
        "pages/assets/dom.js",
        "pages/assets/data.js",
        "report/assets/route.js",
        "report/assets/models.js",
        "report/assets/tables.js",
        "report/assets/figures.js",
        "report/assets/overview.js",
        "report/assets/wrong.js",
        "report/assets/list.js",
        "report/assets/example.js",
        "report/assets/examples.js",
        "report/assets/review_summary.js",
        "report/assets/review.js",
        "report/assets/main.js",
    ),
)

MEGABYTE = 1_000_000


def build_report(
    results: Path,
    models: Sequence[str],
    benchmark: Path,
    output: Path,
    title: str,
    max_megabytes: float,
    images_folder: bool,
    review: Review | None = None,
) -> list[str]:
    """Write the page of `models`, and of a blind `review` if there is one, to `output`, no larger than `max_megabytes`
    (of 10^6 bytes). Returns the notes that it gives its reader.

    Without `models` the page is of the review alone. Pictures become thumbnails of the finest size that fits, or with
    `images_folder` whole files beside the page; a file that is no picture, or really lies outside of the benchmark and
    of the review's roots, is left out and named. Without a benchmark folder the page has no pictures, instructions and
    ground truth, and says so. UserError if it cannot fit.
    """
    examples = collect_examples(results, models, benchmark if benchmark.is_dir() else None)
    review_pictures = review.pictures if review else []
    paths = [path for group in (*examples.pictures, *review_pictures) for path in group if path is not None]
    left_out = _left_out(paths, [benchmark, *(review.roots if review else [])], decode=images_folder)
    pictures = find_pictures(path for path in paths if path not in left_out)
    examples.index["examples"]["pictures"] = [
        [-1 if path is None else pictures.number.get(path, -1) for path in pair] for pair in examples.pictures
    ]
    examples.index["pictures"] = {"folder": None, "names": [], "format": FORMAT, "an_island": PICTURES_AN_ISLAND}
    if images_folder:
        folder = output.with_name(f"{output.stem}_images")
        examples.index["pictures"] |= {"folder": quote(folder.name), "names": place_pictures(pictures, folder)}
        say(f"{len(pictures.files)} different pictures are in {folder}, which belongs beside the page")
    notes = _notes(examples, benchmark) + draw_notes(results, models) if models else []
    overview = overview_of(results, models, examples.diagnoses, examples.lengths)
    overview |= {"made": utc_now(), "code_revision": code_revision()}
    details = {f"details-{number}": entries for number, entries in enumerate(examples.details)}
    examples.index["review"] = review is not None
    reviewed = [name for name, number in review.value["models"] if number >= len(models)] if review else []
    examples.index["looks"] = list(looks_of_models([*models, *reviewed]).values())
    if review is not None:
        review.place_pictures(pictures.number)
        details["review"] = packed(review.value)

    def parts(thumbnails: Sequence[bytes]) -> Iterator[str]:
        first = {"overview": packed(overview | {"notes": notes}), "index": packed(examples.index)}
        return page_parts(title, first, details, thumbnails, assets=_REPORT, has_picture_files=images_folder)

    room = max_megabytes * MEGABYTE - sum(map(len, parts([])))
    if room < 0:
        raise UserError(
            f"the page has {max_megabytes - room / MEGABYTE:.1f} MB of text alone. Raise --max-megabytes, which is "
            f"{max_megabytes:g}, or name fewer --models"
        )
    write_page(output, parts([] if images_folder else _thumbnails(pictures, room, max_megabytes)))
    return notes + (review.value["notes"] if review else [])


def _left_out(paths: Iterable[Path], roots: Sequence[Path], *, decode: bool) -> dict[Path, str]:
    """{file: reason} of those that must not go into a page for others; all are printed. A thumbnail is made of what
    decodes alone, a whole file has to `decode` first."""
    why_not = why_not_shared if decode else why_outside
    left_out = {path: reason for path in dict.fromkeys(paths) if (reason := why_not(path, roots))}
    for path, reason in left_out.items():
        say(f"left out: {path} {reason}")
    return left_out


def _thumbnails(pictures: Pictures, room: float, max_megabytes: float) -> list[bytes]:
    if not pictures.files:
        return []
    made = make_thumbnails(pictures.files, room)
    if made is None:
        raise UserError(
            f"{len(pictures.files)} pictures do not fit into {room / MEGABYTE:.1f} MB. Raise --max-megabytes, which is "
            f"{max_megabytes:g}, name fewer --models, or put the pictures beside the page with --images-folder"
        )
    total = sum(map(len, made.encoded)) / MEGABYTE
    say(
        f"thumbnails: {len(made.encoded)} different pictures, {made.side} pixels at most, {FORMAT} quality "
        f"{made.quality}, {total:.1f} MB" + (f"; {made.unreadable} cannot be read" if made.unreadable else "")
    )
    return made.encoded


def _notes(examples: Examples, benchmark: Path) -> list[str]:
    """What the reader of the page should know before the numbers."""
    if not benchmark.is_dir():
        return [
            f"The benchmark folder {benchmark} is not there, so this page has no pictures, no instructions, no ground "
            "truth and no comparison of plans. Make it again with --data_path."
        ]
    notes = []
    if examples.absent:
        notes.append(
            f"{examples.absent} examples of the results are not in the benchmark folder {benchmark}; they are shown "
            "without pictures and ground truth."
        )
    if examples.rescored:
        notes.append(
            f"{examples.rescored} answers score otherwise against the benchmark folder {benchmark} than the results "
            "say: it, or the scorer, changed since. The scores shown are those of the results; the comparisons are of "
            "now."
        )
    return notes
