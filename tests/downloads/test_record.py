"""The record of what was fetched: one repository, what its files were at earlier commits; damage is named."""

from leap.downloads.fetch import RECORD
from tests.conftest import assert_one_line_error
from tests.downloading import fetch, holds
from tests.downloads.test_run import BASE, FILES, MODEL, WANTED
from tests.hub_server import Trouble


def test_a_folder_of_another_repository_is_refused(hub, space):
    hub.add("model", BASE, FILES)
    hub.add("model", "me/Qwen3-VL-2B-Instruct", FILES)
    assert fetch(hub, MODEL).returncode == 0
    assert_one_line_error(fetch(hub, MODEL, "me/Qwen3-VL-2B-Instruct"), BASE, "--local_dir")


def test_an_edit_is_kept_from_a_new_commit_and_what_the_hub_had_before_is_not(hub, space):
    repo = hub.add("model", BASE, FILES)
    assert fetch(hub, MODEL).returncode == 0
    folder = space / "models" / "Qwen3-VL-2B-Instruct"
    (folder / "config.json").write_bytes(b'{"edited": "for a day"}')
    # A run that records the commit and ends before its files are there, and another commit after that.
    repo.commit(FILES | {"config.json": b"{2}", "chat_template.json": b"{2}"})
    hub.troubles += [Trouble("/resolve/", status=500, turns=99)]
    assert fetch(hub, MODEL, "--revision", "main", "--tries", "1").returncode == 1
    hub.troubles.clear()
    changed = {"config.json": b"{3}", "chat_template.json": b"{3}", ".gitattributes": b"3"}
    repo.commit(FILES | changed)
    done = fetch(hub, MODEL, "--revision", "main")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "what was there stays as config.json.changed-1" in done.stdout
    holds(folder, WANTED | changed | {"config.json.changed-1": b'{"edited": "for a day"}'})
    assert "earlier" not in (folder / RECORD).read_text()


def test_a_damaged_record_is_one_line(hub, space):
    hub.add("model", BASE, FILES)
    assert fetch(hub, MODEL).returncode == 0
    (space / "models" / "Qwen3-VL-2B-Instruct" / RECORD).write_text("[]")
    assert_one_line_error(fetch(hub, MODEL), RECORD, "Delete it")
