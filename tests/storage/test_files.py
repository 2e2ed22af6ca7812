import hashlib
from pathlib import Path

import pytest

from storage.files import atomic_file, atomic_folder, file_info, folder_size, fsync, manifest_digest, write_atomically


def test_file_info_holds_size_and_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"seven b")
    assert file_info(tmp_path / "a") == {"bytes": 7, "sha256": hashlib.sha256(b"seven b").hexdigest()}


def test_folder_size_counts_hidden_and_nested_files(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/.c").write_bytes(b"123")
    (tmp_path / "a/d").write_bytes(b"4567")
    assert folder_size(tmp_path) == 7
    assert folder_size(tmp_path / "nowhere") == 0


def test_files_and_folders_can_be_synced(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    fsync(tmp_path / "a")
    fsync(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_manifest_digest_depends_on_every_entry_but_itself() -> None:
    manifest = {"rows": 3, "settings": {"window": (1, 2)}}
    assert manifest_digest(manifest) == manifest_digest(
        {**manifest, "manifest_digest": "anything", "settings": {"window": [1, 2]}}
    )
    assert manifest_digest(manifest) != manifest_digest({**manifest, "rows": 4})


def test_a_file_is_replaced_completely_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "first é")
    assert path.read_text(encoding="utf-8") == "first é"
    write_atomically(path, b"second")
    with pytest.raises(KeyError), atomic_file(path) as hidden:
        _write_half(hidden)
    assert path.read_bytes() == b"second"
    assert [child.name for child in tmp_path.iterdir()] == ["file"]


def test_a_folder_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    with atomic_folder(folder) as hidden:
        (hidden / "a").write_text("1")
        assert not folder.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    with pytest.raises(ValueError, match=r"exported exists already\. Name another folder"), atomic_folder(folder):
        pass
    with pytest.raises(KeyError), atomic_folder(tmp_path / "torn"):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def _write_half(path: Path) -> None:
    path.write_bytes(b"half of the thi")
    raise KeyError
