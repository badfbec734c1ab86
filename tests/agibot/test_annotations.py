"""Annotations of AgiBot episodes: every published form, and what is refused with a reason."""

import json

import pytest

from configs.errors import UserError
from leap.agibot.annotations import AGIBOT_LICENCE, AnnotatedEpisode, RejectedEntry, annotation_files, read_annotations

TEXTS = ("Pick up the cup.", "Pour  water\ninto it.", "Put it down.")


def actions(*changes):
    """Three actions in disorder, with changes by index."""
    config = [
        {"start_frame": 100 * i, "end_frame": 100 * i + 80, "action_text": text, "skill": skill}
        for i, (text, skill) in enumerate(zip(TEXTS, ("Pick", "Pour", "Place"), strict=True))
    ]
    for index, change in changes:
        config[index] |= change
    return [config[2], config[0], config[1]]


def entry(episode=648642, config=None, label="label_info", **fields):
    return {
        "episode_id": episode,
        "task_id": 327,
        "task_name": "Serving water",
        "init_scene_text": "A cup stands on the table.",
        label: {"action_config": actions() if config is None else config},
    } | fields


def read(tmp_path, content, name="task_327.json"):
    path = tmp_path / "task_info" / name
    path.parent.mkdir(exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return list(read_annotations(path))


@pytest.mark.parametrize("label", ["label_info", "lable_info"])
def test_an_agibotworld_entry_gives_its_steps_by_time(tmp_path, label):
    (episode,) = read(tmp_path, [entry(label=label)])
    assert episode == AnnotatedEpisode(
        "327",
        "648642",
        "Serving water",
        ["Pick up the cup.", "Pour water into it.", "Put it down."],
        "task_info/task_327.json[0]",
        ["Pick", "Pour", "Place"],
        [[0, 80], [100, 180], [200, 280]],
        "A cup stands on the table.",
        AGIBOT_LICENCE,
    )


def test_whole_numbers_may_be_written_as_floats_and_other_floats_are_none(tmp_path):
    config = actions((0, {"start_frame": 0.0, "end_frame": 80.0}))
    (episode,) = read(tmp_path, [entry(config=config, task_id=327.0, episode=648642.0)])
    assert (episode.task_id, episode.episode_id, episode.frames[0]) == ("327", "648642", [0, 80])
    for number in (80.5, float("inf"), 1e300):
        (rejected,) = read(tmp_path, [entry(config=actions((0, {"end_frame": number})))])
        assert "no whole numbers" in rejected.reason


def test_empty_texts_and_repetitions_are_dropped(tmp_path):
    config = actions((0, {"action_text": "  "}), (2, {"action_text": "Pour water into it. "}))
    (episode,) = read(tmp_path, [entry(config=config)])
    assert (episode.steps, episode.skills, episode.frames) == (["Pour water into it."], ["Pour"], [[100, 280]])


ROW = {
    "episode_dir": "Agiot_processed/327/648642",
    "first_frame_path": "Agiot_processed/327/648642/00000.png",
    "task_general": "Serving water",
    "task_detail": "1) Pick up the cup. 2) Pour water into it. 3) Put it down.",
}
STEPS = ["Pick up the cup.", "Pour water into it.", "Put it down."]


@pytest.mark.parametrize(
    "detail",
    [
        ROW["task_detail"],
        "steps: " + ROW["task_detail"],
        "1. Pick up the cup.\n2. Pour water into it.\n3. Put it down.",
        "Pick up the cup.\n\nPour water into it.\nPut it down.\n",
        [*TEXTS, TEXTS[2], " "],
        [ROW["task_detail"]],
        ["1) Pick up the cup.", "", "2) Pour water into it.", "3) Pour water into it.", "4) Put it down."],
        ["Step 1: Pick up the cup.", "step 2: Pour water into it.", "(3) Put it down."],
        ["- Pick up the cup.", "* Pour water into it.", "\u2022Put it down.", "-  "],
        "- Pick up the cup.\n- Pour water into it.\n - Put it down.",
        "* 1. Pick up the cup.\n* 2. Pour water into it.\n* 3. Put it down.",
        ["\u6b65\u9aa41\uff1aPick up the cup.", "2\u3001Pour water into it.", "Put it down."],
    ],
)
def test_first_frame_rows_tell_their_steps_as_text_or_list(tmp_path, detail):
    (episode,) = read(tmp_path, [ROW | {"task_detail": detail}], "output_327.json")
    assert (episode.task_id, episode.episode_id, episode.task_name) == ("327", "648642", "Serving water")
    assert episode.steps == STEPS
    assert episode.licence is None


def test_a_number_that_begins_no_list_stays(tmp_path):
    texts = ["1.5 litres: pour them.", "2 cups: fill them.", "Put (3) on shelf 3.", "10:30 is the time.", "-5 degrees."]
    (episode,) = read(tmp_path, [ROW | {"task_detail": texts}])
    assert episode.steps == texts


@pytest.mark.parametrize(
    "texts", [["1) {}", "2) {}", "3) {}"], ["Step 1: {}", "Step 2: {}", "Step 3: {}"], ["- {}", "- {}", "- {}"]]
)
def test_the_texts_of_actions_lose_the_numbers_that_steps_get_anyway(tmp_path, texts):
    config = actions(*((i, {"action_text": text.format(TEXTS[i])}) for i, text in enumerate(texts)))
    (episode,) = read(tmp_path, [entry(config=config)])
    assert episode.steps == STEPS
    assert episode.skills == ["Pick", "Pour", "Place"]


WITHOUT_PATHS = {"task_name": "Serving water", "steps": list(TEXTS)}


@pytest.mark.parametrize(
    "content",
    [
        ROW,
        {"data": [ROW]},
        {"episodes": {"648642": WITHOUT_PATHS}},
        {"task_id": 327, "task_name": "Serving water", "episodes": [{"episode_id": "648642", "steps": list(TEXTS)}]},
        {"648642": WITHOUT_PATHS},
        {"327-648642": WITHOUT_PATHS},
        {"data/images/327-648642.png": WITHOUT_PATHS},
        {"/data/2024/327/648642/00000.png": WITHOUT_PATHS},
        [{"image": "data/images/327-648642.png", **WITHOUT_PATHS}],
        [
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "image": "data/images/327-648642.png"},
                            {"type": "text", "text": "Task name: Serving water. Based on the above description, go."},
                        ],
                    }
                ],
                "target": {"steps": ROW["task_detail"]},
            }
        ],
        json.dumps(ROW) + "\n\n" + json.dumps(ROW | {"x": 1}),
    ],
)
@pytest.mark.parametrize("name", ["output_327.json", "output_327.jsonl"])
def test_entries_may_be_a_list_an_object_or_lines(tmp_path, content, name):
    first, *others = read(tmp_path, content, name)
    assert (first.task_id, first.episode_id, first.task_name, first.steps) == ("327", "648642", "Serving water", STEPS)
    assert len(others) == (isinstance(content, str))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([entry(config=[])], "has no steps"),
        ([entry(config=None) | {"label_info": {}}], "has no steps"),
        (
            [entry(config=actions((0, {"action_text": ""}), (1, {"action_text": " "}), (2, {"action_text": None})))],
            "no st",
        ),
        ([entry(config=actions((1, {"start_frame": 200})))], "frames do not increase"),
        ([entry(config=actions((1, {"end_frame": 100})))], "frames do not increase"),
        ([entry(config=actions((0, {"start_frame": -1})))], "frames do not increase"),
        ([entry(config=actions((1, {"end_frame": "180"})))], "no whole numbers"),
        ([entry(config=actions((1, {"start_frame": None})))], "no whole numbers"),
        ([entry(config=actions((1, {"action_text": 7})))], "no text"),
        ([entry(task_id=328)], "task id is 327 by the file's name, 328 by task_id"),
        ([entry(task_id="pick")], "task_id is no number"),
        ([entry(episode=True)], "episode_id is no number"),
        ([entry(episode=None)], "says no episode id"),
        ([entry(task_name=" ")], "says no task name"),
        ([entry(lable_info={"action_config": []})], "differ"),
        (["text"], "is no object but str"),
        ([ROW | {"episode_dir": "x/327/1"}], "episode id is 1 by episode_dir, 648642 by first_frame_path"),
        ([ROW | {"task_detail": "1) Pick it up. 3) Put it down."}], "not numbered 1, 2, 3"),
        ([ROW | {"task_detail": ["1) Pick it up.", "3) Put it down."]}], "not numbered 1, 2, 3: step 2 is '3) Put it"),
        ([ROW | {"task_detail": ["0) Pick it up.", "1) Put it down."]}], "not numbered 1, 2, 3"),
        ([entry(config=actions((0, {"action_text": "2) Pick"}), (1, {"action_text": "1) Pour"})))], "not numbered"),
        ([ROW | {"task_detail": ["1)", "-"]}], "has no steps"),
        ([ROW | {"task_detail": ""}], "has no steps"),
        ([ROW | {"task_detail": [1, 2]}], "no texts"),
        ({"648642": "1) Go."}, "is no object"),
        ("[1, 2", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (b"\xff\xfe[]", "not UTF-8"),
    ],
)
def test_what_cannot_be_an_episode_is_refused_with_its_reason(tmp_path, content, reason):
    (rejected,) = read(tmp_path, content)
    assert isinstance(rejected, RejectedEntry)
    assert reason in rejected.reason
    assert rejected.where.startswith("task_info/task_327.json")


def test_a_bad_line_does_not_spoil_the_others(tmp_path):
    found = read(tmp_path, json.dumps(ROW) + "\n{torn\n" + json.dumps(ROW), "rows.jsonl")
    assert [type(one) for one in found] == [AnnotatedEpisode, RejectedEntry, AnnotatedEpisode]
    assert found[1].where == "task_info/rows.jsonl:2"


def test_files_are_named_one_by_one_or_by_folder(tmp_path):
    for name in ("b.json", "a.jsonl", "c.txt"):
        (tmp_path / name).write_text("[]")
    assert annotation_files([tmp_path]) == [tmp_path / "a.jsonl", tmp_path / "b.json"]
    assert annotation_files([tmp_path / "c.txt"]) == [tmp_path / "c.txt"]
    with pytest.raises(UserError, match="not found"):
        annotation_files([tmp_path / "d.json"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no .json"):
        annotation_files([tmp_path / "empty"])
