import hashlib
from pathlib import Path

import pytest

from storage.artifacts.files import atomic_folder, file_info, folder_size, fsync, manifest_digest


def test_a_file_is_its_size_and_its_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"seven b")
    assert file_info(tmp_path / "a") == {"bytes": 7, "sha256": hashlib.sha256(b"seven b").hexdigest()}


def test_bytes_below_a_folder_are_added_up_hidden_ones_too(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/.c").write_bytes(b"123")
    (tmp_path / "a/d").write_bytes(b"4567")
    assert folder_size(tmp_path) == 7
    assert folder_size(tmp_path / "nowhere") == 0


def test_files_and_folders_reach_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    fsync(tmp_path / "a")
    fsync(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_seal_changes_with_all_that_a_manifest_says_and_not_with_itself() -> None:
    manifest = {"rows": 3, "settings": {"window": (1, 2)}}
    assert manifest_digest(manifest) == manifest_digest(
        {**manifest, "manifest_digest": "anything", "settings": {"window": [1, 2]}}
    )
    assert manifest_digest(manifest) != manifest_digest({**manifest, "rows": 4})


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "told"
    with atomic_folder(folder) as hidden:
        (hidden / "a").write_text("1")
        assert not folder.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["told"]
    with pytest.raises(ValueError, match="told is there already; name another folder"), atomic_folder(folder):
        pass
    with pytest.raises(KeyError), atomic_folder(tmp_path / "torn"):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["told"]
