"""Names of sources, and the folders beside them."""

from pathlib import Path

from leap.rows.places import is_of_hub, name_of, places_beside, split_of


def test_a_name_of_the_hub_stays_itself_as_a_path():
    path = Path("hf://owner/name#train")
    assert is_of_hub(path)
    assert name_of(path) == "hf://owner/name#train"
    assert split_of(path) == (Path("hf:/owner/name"), "train")
    assert not is_of_hub(Path("data/hf:/x"))


def test_a_split_stands_behind_a_hash_unless_a_file_is_called_so(tmp_path):
    assert split_of(tmp_path / "set#train") == (tmp_path / "set", "train")
    assert split_of(tmp_path / "set") == (tmp_path / "set", None)
    assert split_of(tmp_path / "a#b" / "rows.jsonl") == (tmp_path / "a#b" / "rows.jsonl", None)
    (tmp_path / "rows#1.jsonl").touch()
    assert split_of(tmp_path / "rows#1.jsonl") == (tmp_path / "rows#1.jsonl", None)


def test_nothing_is_kept_beside_a_repository_but_in_the_hubs_cache(tmp_path):
    assert places_beside(tmp_path / "set#train")[0] == tmp_path.resolve()
    [place] = places_beside(Path("hf:/owner/name"))
    assert "leap" in place.parts
    assert "hf:" not in place.parts
