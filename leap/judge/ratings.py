"""Ratings by people: a sheet that shows plans without their models, the key to it, and the ratings read back.

rating_sheet.html is one file that works offline. It shows each row's task, pictures and reference plan, then what the
models wrote in a shuffled order, in one form, each under an id. It holds no model's name, no path and no file name, and
its pictures are encoded anew without metadata. A plan that several models wrote alike for a row is shown once, and its
rating counts for each of them.

An id is made of the seed, of all that the row shows and of the plan: it tells nothing about the model, and stays when
other models are added, so that earlier ratings stay valid.

rating_key.json, which raters should not see:

    {"seed": 0, "plans": {"<id>": {"sample": 0, "models": ["baseline", "checkpoint-200"], "text_sha256": "..."}},
     "rows": {"0": {"shows": "<hash of the task and the reference>", "pictures": ["<SHA-256 of each that is shown>"]}}}

ratings.csv, which the sheet exports and spreadsheet programs may have saved anew (semicolons or tabs, a byte order
mark, other line ends), has the columns of CSV_COLUMNS, one line a rater and plan, scores 1 to 5. Raters' exports may be
put together in one file, under one header, or lie as *.csv in one folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from configs.errors import UserError
from leap.blind.outputs import Item, picture_files
from leap.files import csv_reader, read_json, sha256_json, write_json
from leap.judge.judged import ReviewRow, judged_hash, review_row, row_hash
from leap.judge.judgements import HIGHEST, LOWEST, PEOPLE, RUBRIC, SCALES, Judgement
from leap.judge.plan_text import normalised
from leap.judge.rubric import ANCHORS, TITLES
from leap.pages.page import PICTURES_AN_ISLAND, Assets, packed, page_parts, write_page
from leap.pages.pictures import FORMAT
from leap.rows.images import decode_image

SHEET_FILE, KEY_FILE, RATINGS_FILE = "rating_sheet.html", "rating_key.json", "ratings.csv"
CSV_COLUMNS = ("rater", "plan_id", *SCALES, "comment")

PICTURE_SIDE, PICTURE_QUALITY = 1024, 80  # longest side in pixels; quality from 0 to 100

_TITLE = "Rate the plans"
_DELIMITERS = ",;\t"
_SHEET = Assets(
    "judge/assets/rating_sheet.html",
    "judge/assets/rating_sheet.css",
    ("pages/assets/dom.js", "pages/assets/data.js", "judge/assets/rating_sheet.js"),
)


RatedPlans = dict[str, tuple[str, list[str]]]  # by id: the text, and the models that wrote it


@dataclass(frozen=True)
class SheetCounts:
    """What was written: `plans` are shown, over `items` rows; `missing` pictures were not found or do not decode;
    `failed` outputs hold no plan and are left out."""

    items: int
    plans: int
    missing: int
    failed: int


class _Rating(NamedTuple):
    rater: str
    plan: str
    scores: dict[str, float]
    comment: str


def write_sheet(
    path: Path, items: Sequence[Item], models: Sequence[str], seed: int, image_root: Path | None, workspace: Path
) -> SheetCounts:
    """Write the sheet of what `models` wrote for `items` to `path`, and the key beside it.

    Pictures are looked for as leap.rows.chat does, in `image_root` alone if it is given. UserError if there is no plan.
    """
    rows = [review_row(item, image_root, workspace) for item in items]
    rated = [(row, plans) for row in rows if (plans := _plans_of(row, models, seed))]
    if not rated:
        raise UserError("there is no plan to rate: every output failed. See the reasons in outputs.jsonl")
    pictures = _SheetPictures()
    entries = []
    for row, plans in rated:
        numbers = [pictures.number(source) for source in picture_files(row.item, image_root, workspace)]
        entries.append(_entry(row.item, plans, numbers))
    key = {
        plan: {"sample": row.item.sample, "models": authors, "text_sha256": _sha256(text)}
        for row, plans in rated
        for plan, (text, authors) in plans.items()
    }
    # The key first: a sheet without its key would be work for nothing.
    key_rows = {str(row.item.sample): {"shows": row_hash(row.item), "pictures": row.hashes} for row, _ in rated}
    write_json(path.with_name(KEY_FILE), {"seed": seed, "plans": key, "rows": key_rows})
    sheet = {"sheet": packed(_sheet_data(entries, key))}
    write_page(path, page_parts(_TITLE, sheet, {}, pictures.encoded, assets=_SHEET))
    missing = sum(entry["pictures"].count(-1) for entry in entries)
    failed = sum(item.outputs[name].text is None for item in items for name in models if name in item.outputs)
    return SheetCounts(len(rated), len(key), missing, failed)


def _entry(item: Item, plans: RatedPlans, pictures: list[int]) -> dict[str, Any]:
    """A row as the sheet shows it."""
    return {
        "task": item.task_name or item.prompt.strip(),
        "pictures": pictures,
        "reference": normalised(item.reference),
        "plans": [{"id": plan, "text": text} for plan, (text, _) in plans.items()],
    }


def _sheet_data(entries: Sequence[Mapping[str, Any]], plans: Iterable[str]) -> dict[str, Any]:
    scales = [
        {"name": name, "title": TITLES[name], "anchors": sorted(ANCHORS[name].items(), reverse=True)} for name in SCALES
    ]
    return {
        "sheet": sha256_json(sorted(plans))[:16],
        "columns": CSV_COLUMNS,
        "file": RATINGS_FILE,
        "scales": scales,
        "items": entries,
        "pictures": {"folder": None, "names": [], "format": FORMAT, "an_island": PICTURES_AN_ISLAND},
    }


def read_ratings(csv_path: Path, key_path: Path, items: Sequence[Item]) -> list[Judgement]:
    """The ratings of a CSV file, or of all *.csv in a folder, as judgements of PEOPLE; `repeat` numbers the raters by
    sorted name, `reasoning` is the comment.

    UserError names file and line of an unknown id, a score that is none, or a plan that a rater rated twice; the file
    that lacks a column; and a key that does not belong to `items`.
    """
    by_sample = {item.sample: item for item in items}
    key, pictures = _read_key(key_path, by_sample)
    files = sorted(csv_path.glob("*.csv")) if csv_path.is_dir() else [csv_path]
    if not files:
        raise UserError(f"no ratings: {csv_path} has no *.csv. Export them from {SHEET_FILE}")
    ratings = _ratings_in(files, key, key_path)
    if not ratings:
        raise UserError(f"no ratings in {csv_path}. Export them from {SHEET_FILE}")
    raters = sorted({rating.rater for rating in ratings})
    return [
        Judgement(
            PEOPLE,
            RUBRIC,
            model,
            sample,
            raters.index(rating.rater),
            scores=rating.scores,
            reasoning=rating.comment.strip(),
            judged=judged_hash(by_sample[sample], model),
            pictures=pictures[sample],
        )
        for rating in ratings
        for sample in (key[rating.plan]["sample"],)
        for model in key[rating.plan]["models"]
    ]


def _ratings_in(files: Sequence[Path], key: Mapping[str, Any], key_path: Path) -> list[_Rating]:
    places: dict[tuple[str, str], str] = {}  # file:line of each rater's rating of each plan
    ratings = []
    for path in files:
        for where, row in _rows(path):
            rater, plan = row["rater"].strip(), row["plan_id"].strip()
            if not rater:
                raise UserError(f"{where}: the rating has no rater. Write a name into its first column")
            if plan not in key:
                raise UserError(
                    f"{where}: {key_path} knows no plan {plan!r}. Ratings belong to the key that was written with "
                    "their sheet; name that one with --human_key, or remove the line"
                )
            if (rater, plan) in places:
                raise UserError(
                    f"{where}: {rater} rated plan {plan} in {places[rater, plan]} already. Remove one of them"
                )
            places[rater, plan] = where
            scores = {name: _score(row[name], f"{where}: {name}") for name in SCALES}
            ratings.append(_Rating(rater, plan, scores, row["comment"]))
    return ratings


def _plans_of(row: ReviewRow, models: Sequence[str], seed: int) -> RatedPlans:
    """The different plans for a row in a shuffled order."""
    item = row.item
    shows = "\n".join([row_hash(item), *row.hashes])
    authors: dict[str, list[str]] = {}
    for name in models:
        output = item.outputs.get(name)
        if output is not None and output.text is not None:
            authors.setdefault(normalised(output.text), []).append(name)
    # Sorted first, so that neither the order of the models nor that of the file decides.
    # The "p" keeps spreadsheet programs from taking an id for a number.
    plans = sorted(("p" + _sha256(f"{seed}\n{item.sample}\n{shows}\n{text}")[:10], text) for text in authors)
    random.Random(f"{seed} {item.sample}").shuffle(plans)
    return {plan: (text, authors[text]) for plan, text in plans}


class _SheetPictures:
    """The pictures of a sheet, each once."""

    def __init__(self) -> None:
        self.encoded: list[bytes] = []
        self._numbers: dict[Path, int] = {}

    def number(self, source: Path | None) -> int:
        """A picture's place in `encoded`; -1 for one that is missing or does not decode."""
        if source is None:
            return -1
        if source not in self._numbers:
            self._numbers[source] = len(self.encoded)
            self.encoded.append(_encoded_anew(source))
        return self._numbers[source] if self.encoded[self._numbers[source]] else -1


def _encoded_anew(path: Path) -> bytes:
    """The picture's pixels alone, scaled down to PICTURE_SIDE; b"" if it does not decode."""
    try:
        picture = decode_image(path.read_bytes())
    except (OSError, ValueError):
        return b""
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    bare = Image.new("RGB", picture.size)  # Pillow writes some of what a picture carries along into the new file
    bare.paste(picture)
    out = io.BytesIO()
    bare.save(out, FORMAT, quality=PICTURE_QUALITY)
    return out.getvalue()


def _read_key(path: Path, items: Mapping[int, Item]) -> tuple[dict[str, dict[str, Any]], dict[int, list[str]]]:
    """The plans by id, and the hashes of the pictures that each row of the sheet shows."""
    if not path.is_file():
        raise UserError(
            f"no key to the ratings: {path} is not there. It is written beside the sheet by "
            "scripts/evaluation/make_rating_sheet.py; name one that lies elsewhere with --human_key"
        )
    key = read_json(path)

    def refused(why: str) -> UserError:
        return UserError(
            f"{path} belongs to other outputs: {why}. Name the outputs of its sheet, or make the sheet and the key "
            "anew with: python scripts/evaluation/make_rating_sheet.py"
        )

    try:
        for plan, entry in key["plans"].items():
            sample = entry["sample"]
            shows = key["rows"][str(sample)]["shows"]
            for model in entry["models"]:
                output = items[sample].outputs.get(model) if sample in items else None
                text = output.text if output else None
                if text is None or _sha256(normalised(text)) != entry["text_sha256"]:
                    raise refused(f"plan {plan} is not what {model} wrote for row {sample}")
            if row_hash(items[sample]) != shows:
                raise refused(f"row {sample} has another task or reference than on the sheet")
        return key["plans"], {int(sample): row["pictures"] for sample, row in key["rows"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is no key of a rating sheet ({type(error).__name__}: {error})") from error


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(file:line, row) of a CSV file, empty rows passed over."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}). Save it as CSV in UTF-8") from error
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    # Line ends stay as they are, so that those inside a quoted comment are kept.
    reader = csv_reader(io.StringIO(text, newline=""), delimiter)
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        absent = [name for name in CSV_COLUMNS if name not in columns]
        if absent:
            raise UserError(f"{path} has no column {absent[0]}; it needs {', '.join(CSV_COLUMNS)}")
        reader.fieldnames = columns
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if not any((row[name] or "").strip() for name in CSV_COLUMNS):
                continue
            if any(row[name] is None for name in CSV_COLUMNS) or None in row:
                raise UserError(f"{where}: not as many fields as columns; a text with {delimiter!r} needs quotes")
            yield where, row
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not CSV ({error})") from error


def _score(text: str, where: str) -> float:
    scores = [str(score) for score in range(LOWEST, HIGHEST + 1)]
    plain = text.strip().removesuffix(".0")
    if plain not in scores:
        raise UserError(f"{where} must be a whole number from {LOWEST} to {HIGHEST}, found {text!r}")
    return int(plain)


def _sha256(text: str) -> str:
    # A model's text may hold lone surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
