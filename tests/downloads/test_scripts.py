"""The benchmark and the planning rows from the Hub: fetched, checked, mended, unpacked."""

import io
import json
import shlex
import tarfile
from pathlib import Path

import pytest

from configs.config import next_line
from leap.demo.build import build_benchmark
from leap.downloads.fetch import RECORD
from leap.vlabench.fix import can_mend
from leap.vlabench.verify import EXAMPLES_A_TASK, TASKS, verify
from tests.agibot.archives import task_archive
from tests.conftest import assert_one_line_error, run_script
from tests.downloading import fetch, holds
from tests.hub_server import Trouble

BENCHMARK, DATASET = "download/download_vlabench_with_retry.py", "download/download_dataset.py"
VERIFY = "utils/verify_dataset.py"


@pytest.fixture
def benchmark(hub, tmp_path) -> dict[str, bytes]:
    """A benchmark on the Hub (2 examples a task) under another name than VLABench's; its files."""
    build_benchmark(tmp_path / "made", 2, seed=0)
    files = {p.relative_to(tmp_path / "made").as_posix(): p.read_bytes() for p in (tmp_path / "made").rglob("*.*")}
    hub.add("dataset", "me/bench", files | {"README.md": b"a card"})
    return files


@pytest.mark.slow
def test_a_benchmark_arrives_and_is_checked(hub, space, benchmark):
    done = fetch(hub, BENCHMARK, "--repo_id", "me/bench", "--dimension", "Spatial", "PhysicsLaw")
    assert done.returncode == 0, done.stdout + done.stderr
    some = {path: content for path, content in benchmark.items() if path.startswith(("Spatial/", "PhysicsLaw/"))}
    holds(space / "dataset/vlm_evaluation_v1.0", some)
    command = "python scripts/evaluation/run_vlm_evaluation.py --dimension Spatial PhysicsLaw"
    assert f"no defects\n{next_line(command)}" in done.stdout
    done = fetch(hub, BENCHMARK, "--repo_id", "me/bench")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("run_vlm_evaluation.py --dimension all\n")
    holds(space / "dataset/vlm_evaluation_v1.0", benchmark)
    assert all(hub.fetched(path) <= 2 for path in some), "what was there is not fetched again"
    done = run_script("evaluation/run_vlm_evaluation.py", "--planner", "constant", "--dimension", "all")
    assert done.returncode == 0, done.stderr


def test_the_commands_it_prints_name_what_was_asked_for_and_work(hub, space, benchmark, tmp_path):
    folder = tmp_path / "else where"
    these = ["--dimension", "M&T", "Complex", "--data_path", str(folder)]
    done = fetch(hub, BENCHMARK, "--repo_id", "me/bench", *these)
    assert done.returncode == 0, done.stdout
    command = done.stdout.splitlines()[-1]
    assert command == next_line(f"python scripts/evaluation/run_vlm_evaluation.py {shlex.join(these)}")
    done = run_script("evaluation/run_vlm_evaluation.py", *these, "--planner", "constant")
    assert done.returncode == 0, done.stderr
    hub.troubles += [Trouble("input.png", status=500, turns=9)]
    picture = next(folder.rglob("Complex/*/*/input/input.png"))
    picture.unlink()
    done = fetch(hub, BENCHMARK, "--repo_id", "me/bench", "--tries", "1", *these)
    assert done.returncode == 1
    command = done.stdout.splitlines()[-1]
    assert command == f"mend with: python scripts/utils/verify_dataset.py --fix {shlex.join(these)}"
    hub.troubles.clear()
    done = fetch(hub, VERIFY, *shlex.split(command.partition("verify_dataset.py ")[2]))
    assert done.returncode == 0, done.stdout
    assert picture.is_file()


@pytest.mark.slow
def test_a_new_commit_forgets_none_of_what_was_fetched_before(hub, space, benchmark):
    assert fetch(hub, BENCHMARK, "--repo_id", "me/bench", "--dimension", "Spatial").returncode == 0
    folder = space / "dataset/vlm_evaluation_v1.0"
    spatial = [path for path in benchmark if path.startswith("Spatial/")]
    texts = [path for path in spatial if path.endswith("instruction.txt")]
    new = benchmark | {texts[0]: b"Take the other book."}
    hub.repos["dataset", "me/bench"].commit({path: content for path, content in new.items() if path != texts[1]})
    options = ("--repo_id", "me/bench", "--revision", "main")
    done = fetch(hub, BENCHMARK, *options, "--dimension", "PhysicsLaw")
    assert done.returncode == 0, done.stdout
    assert "1 files of the earlier commit" in done.stdout
    assert f"though this one does not list them: {texts[1]}" in done.stdout
    assert "1 files that were fetched before, and are not asked for now, are new or others at commit" in done.stdout
    assert (folder / texts[0]).read_bytes() == benchmark[texts[0]]
    lost = folder / next(path for path in spatial if path.endswith("input.png"))
    lost.unlink()
    done = fetch(hub, VERIFY, "--fix", "--dimension", "Spatial", "PhysicsLaw")
    assert done.returncode == 0, done.stdout
    assert lost.is_file()
    assert (folder / texts[0]).read_bytes() == b"Take the other book."
    assert not list(folder.rglob("*.changed-*")), "the old text was the Hub's"
    assert "not among what was fetched" in fetch(hub, VERIFY, "--fix", "--dimension", "Complex").stdout


def test_the_exit_status_tells_that_examples_are_missing(hub, space, benchmark):
    hub.add("dataset", "VLABench/vlm_evaluation_v1.0", benchmark)
    done = fetch(hub, BENCHMARK, "--dimension", "Complex")
    assert done.returncode == 1
    assert "cook_dishes: has 2 examples, 100 expected" in done.stdout
    assert "mend with" not in done.stdout  # the Hub has no more


def test_the_table_of_vlabench_is_the_published_one():
    assert [len(tasks) for tasks in TASKS.values()] == [9, 8, 9, 8, 6, 5]
    assert sum(map(len, TASKS.values())) * EXAMPLES_A_TASK == 4500
    assert len({task for tasks in TASKS.values() for task in tasks}) == 45


def test_a_benchmark_of_ones_own_is_sound_and_for_machines_there_is_json(demo, tmp_path):
    folder = demo / "dataset/vlm_evaluation_v1.0"
    done = run_script(VERIFY, "--data_path", folder)
    assert done.returncode == 0, done.stdout
    assert "counts are not compared" in done.stdout
    done = run_script(VERIFY, "--data_path", folder, "--json", "-")
    report = json.loads(done.stdout)
    assert report["sound"]
    assert (report["tasks"], report["examples"]) == (14, 28)
    done = run_script(VERIFY, "--data_path", folder, "--expected", "vlabench", "--json", tmp_path / "found.json")
    assert done.returncode == 1
    assert "M&T                  4/9         8/900" in done.stdout
    report = json.loads((tmp_path / "found.json").read_text())
    assert not report["sound"]
    defects = {Path(d["path"]).name: d["reason"] for part in report["dimensions"] for d in part["defects"]}
    assert defects["thermal_expansion_qa"] == "has 0 examples, 100 expected"


def damage(folder: Path) -> None:
    """A picture cut off, an instruction of the right length that says something else, a file and an example missing."""
    first, second = sorted(folder.glob("Spatial/*/example*"))[:2]
    picture = first / "input/input.png"
    picture.write_bytes(picture.read_bytes()[:100])
    text = first / "input/instruction.txt"
    text.write_bytes(text.read_bytes()[:-1] + b"!")
    (second / "output/operation_sequence.json").unlink()
    example = sorted(folder.glob("Complex/*/example*"))[0]
    for path in sorted(example.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    example.rmdir()


@pytest.mark.slow
def test_what_is_broken_or_missing_is_fetched_again_from_the_recorded_commit(hub, space, benchmark):
    assert fetch(hub, BENCHMARK, "--repo_id", "me/bench").returncode == 0
    folder = space / "dataset/vlm_evaluation_v1.0"
    changed = dict.fromkeys(benchmark, b"changed since")
    hub.repos["dataset", "me/bench"].commit(changed)
    damage(folder)
    done = run_script(VERIFY, "--data_path", folder)
    assert done.returncode == 1
    assert "7 defects" in done.stdout
    assert "instruction.txt" not in done.stdout.replace("Complex", "").partition("Spatial")[0]
    assert "8 defects" in run_script(VERIFY, "--data_path", folder, "--hash").stdout
    hub.requests.clear()
    # While the Hub sends something wrong, the broken file stays.
    broken = {p: p.read_bytes() for p in folder.rglob("*.png")}
    hub.troubles += [Trouble("input.png", corrupt=True, turns=99)]
    done = fetch(hub, VERIFY, "--fix", "--hash")
    assert done.returncode == 1
    assert all(path.read_bytes() == content for path, content in broken.items())
    hub.troubles.clear()
    done = fetch(hub, VERIFY, "--fix", "--hash")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "no defects"
    (saved,) = folder.rglob("instruction.txt.changed-1")
    holds(folder, benchmark | {saved.relative_to(folder).as_posix(): saved.read_bytes()})
    assert len({request for request in hub.requests if request.startswith("HEAD")}) == 8


def test_for_machines_there_is_json_alone_while_it_is_mended_too(hub, space, benchmark):
    assert fetch(hub, BENCHMARK, "--repo_id", "me/bench", "--dimension", "Spatial").returncode == 0
    next((space / "dataset").rglob("input.png")).unlink()
    done = fetch(hub, VERIFY, "--dimension", "Spatial", "--fix", "--json", "-")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["sound"]
    assert "fetching 1 files of me/bench" in done.stderr


@pytest.mark.slow
def test_a_file_that_is_broken_on_the_hub_too_is_named_as_such(hub, space, benchmark):
    path = next(path for path in benchmark if path.endswith("operation_sequence.json"))
    hub.add("dataset", "me/bench", benchmark | {path: b"{torn"})
    assert fetch(hub, BENCHMARK, "--repo_id", "me/bench").returncode == 1
    done = fetch(hub, VERIFY, "--fix")
    assert done.returncode == 1
    assert f"{path} is as the Hub has it" in done.stdout


def test_mending_a_task_of_another_count_fetches_what_lacks_and_names_no_sound_file(hub, space, benchmark):
    hub.add("dataset", "VLABench/vlm_evaluation_v1.0", benchmark)
    assert fetch(hub, BENCHMARK, "--dimension", "Complex").returncode == 1
    folder = space / "dataset/vlm_evaluation_v1.0"
    assert not can_mend(verify(folder, ["Complex"]))
    task = folder / "Complex/cook_dishes"
    lost = task / "example0/input/input.png"
    lost.unlink()
    assert can_mend(verify(folder, ["Complex"]))
    hub.requests.clear()
    done = fetch(hub, VERIFY, "--fix", "--dimension", "Complex")
    assert done.returncode == 1
    assert lost.read_bytes() == benchmark[lost.relative_to(folder).as_posix()]
    assert len({request for request in hub.requests if "/resolve/" in request}) == 1
    hub.requests.clear()
    done = fetch(hub, VERIFY, "--fix", "--dimension", "Complex")
    assert done.returncode == 1
    assert not hub.requests
    files = sum(path.startswith("Complex/cook_dishes/") for path in benchmark)
    assert done.stdout.count(f"{task} has 2 examples, 100 expected: all {files} files that commit") == 1
    assert "fetching it again" not in done.stdout
    assert "input.png" not in done.stdout


def test_mending_without_a_record_says_how_to_get_one(demo, tmp_path):
    build_benchmark(tmp_path / "bench", 1, seed=0)
    next((tmp_path / "bench").rglob("input.png")).unlink()
    assert_one_line_error(
        run_script(VERIFY, "--fix", "--data_path", tmp_path / "bench"), RECORD, "download_vlabench_with_retry.py"
    )


def packed(members: dict[str, bytes]) -> bytes:
    """A .tar.gz of regular files, whatever their names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


ROWS = b'{"messages": [{"role": "user", "content": [{"type": "image", "image": "images/1-2.png"}]}]}\n'
PICTURES = {"images/1-2.png": b"one", "./images/3-44.jpg": b"two"}
OTHERS = {"images/1-2.txt": b"no", "images/../../5-6.png": b"no"}


def test_rows_arrive_with_their_pictures_unpacked_once(hub, space):
    files = {"train_1.jsonl": ROWS, "images.tar.gz": packed(PICTURES | OTHERS)}
    hub.add("dataset", "EvanSirius/leap-agibot-processed", files)
    done = fetch(hub, DATASET)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = (space / "data/images.tar.gz.contents.json.gz").read_bytes()
    present = {"train_1.jsonl": ROWS, "images/1-2.png": b"one", "images/3-44.jpg": b"two"}
    present["images.tar.gz.contents.json.gz"] = listed
    holds(space / "data", present)
    assert "2 members that are no pictures were left out" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(next_line("python scripts/training/validate_data.py --rows "))
    hub.requests.clear()
    done = fetch(hub, DATASET)
    assert done.returncode == 0
    assert "unpacking" not in done.stdout
    assert not hub.requests
    # A picture that went away comes back.
    (space / "data/images/1-2.png").unlink()
    assert fetch(hub, DATASET, "--keep_archive").returncode == 0
    holds(space / "data", present | {"images.tar.gz": files["images.tar.gz"]})


def test_an_archive_that_the_user_fetched_himself_is_verified_and_unpacked_without_fetching_it_again(hub, space):
    files = {"train_1.jsonl": ROWS, "images.tar.gz": packed(PICTURES)}
    hub.add("dataset", "EvanSirius/leap-agibot-processed", files)
    for name, content in files.items():
        (space / "data").mkdir(parents=True, exist_ok=True)
        (space / "data" / name).write_bytes(content)
    done = fetch(hub, DATASET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (space / "data/images/1-2.png").read_bytes() == b"one"
    assert hub.fetched("images.tar.gz") == 0


def test_a_lost_picture_is_missed_among_pictures_from_elsewhere(hub, space):
    hub.add("dataset", "EvanSirius/leap-agibot-processed", {"a.jsonl": ROWS, "images.tar.gz": packed(PICTURES)})
    assert fetch(hub, DATASET).returncode == 0
    images = space / "data/images"
    for number in range(5):
        (images / f"9-{number}.png").write_bytes(b"from elsewhere")
    (images / "1-2.png").unlink()
    (images / "3-44.jpg").write_bytes(b"t")
    done = fetch(hub, DATASET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of the 2 pictures of images.tar.gz are missing or damaged" in done.stdout
    assert (images / "1-2.png").read_bytes() == b"one"
    assert (images / "3-44.jpg").read_bytes() == b"two"
    assert (images / "9-0.png").read_bytes() == b"from elsewhere"
    assert not (space / "data/images.tar.gz").exists()
    hub.requests.clear()
    assert "unpacking" not in fetch(hub, DATASET).stdout
    assert not hub.requests


def test_pictures_of_an_earlier_archive_are_replaced_by_those_of_a_new_one_and_the_users_stay(hub, space):
    pictures = {f"images/7-{number}.png": b"old %d" % number for number in range(4)}
    repo = hub.add("dataset", "EvanSirius/leap-agibot-processed", {"images.tar.gz": packed(pictures), "a.jsonl": ROWS})
    assert fetch(hub, DATASET).returncode == 0
    images = space / "data/images"
    (images / "7-2.png").write_bytes(b"own 2")
    (images / "8-1.png").write_bytes(b"own 8")
    new = pictures | {f"images/7-{number}.png": b"new %d" % number for number in (1, 2, 9)}
    new["images/8-1.png"] = b"new 8"
    repo.commit({"images.tar.gz": packed(new), "a.jsonl": ROWS})
    done = fetch(hub, DATASET, "--revision", "main")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 that were there differ from the archive's and stay (7-2.png, 8-1.png)" in done.stdout
    contents = {path.name: path.read_bytes() for path in images.iterdir()}
    expected = {name.removeprefix("images/"): content for name, content in new.items()}
    assert contents == expected | {"7-2.png": b"own 2", "8-1.png": b"own 8"}
    hub.requests.clear()
    assert fetch(hub, DATASET, "--verify").returncode == 0
    assert not hub.requests


def test_an_edited_annotation_is_kept_when_it_is_fetched_again(hub, space, tmp_path):
    archive = task_archive(tmp_path / "made", "327", {"1": [0]}).read_bytes()
    hub.add("dataset", "me/agibot", {"image/task_327.tar.gz": archive, "json/output_327.json": b"[]"})
    prepare = ("utils/prepare_love_agibot.py", "--repo_id", "me/agibot")
    assert fetch(hub, *prepare, first_pause_s=None).returncode == 0
    annotations = space / "data/agibot/json/output_327.json"
    annotations.write_bytes(b'[{"corrected": 1}]')
    done = fetch(hub, *prepare, first_pause_s=None)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "what was there stays as output_327.json.changed-1" in done.stdout
    assert annotations.read_bytes() == b"[]"
    assert annotations.with_name("output_327.json.changed-1").read_bytes() == b'[{"corrected": 1}]'


def test_an_archive_that_is_damaged_on_the_hub_unpacks_nothing(hub, space):
    archive = bytearray(packed(PICTURES))
    archive[-6] ^= 1  # in the checksum
    hub.add("dataset", "EvanSirius/leap-agibot-processed", {"a.jsonl": ROWS, "images.tar.gz": bytes(archive)})
    assert_one_line_error(fetch(hub, DATASET), "images.tar.gz", "nothing was unpacked")
    assert not (space / "data/images").exists()
