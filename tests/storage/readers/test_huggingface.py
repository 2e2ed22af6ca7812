from pathlib import Path

import pytest

from storage.readers.base import Columns
from storage.readers.documents import documents
from storage.readers.huggingface import HF_PREFIX, read_dataset


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A data set as `save_to_disk` writes it, with two splits."""
    try:
        import datasets
    except ImportError:
        pytest.skip("datasets is not installed")
    columns = {"text": ["one", "two", None], "id": [1, 2, 3]}
    whole = datasets.DatasetDict(
        {"train": datasets.Dataset.from_dict(columns), "test": datasets.Dataset.from_dict({"text": ["held"]})}
    )
    whole.save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_data_set_from_disk_gives_its_rows(saved: Path) -> None:
    columns = Columns(document_id="id")
    found = [one for block in read_dataset(f"{HF_PREFIX}{saved}", columns) for one in documents(block, columns)]
    assert [(one.content, one.document_id, one.error) for one in found] == [
        ("one", "1", ""),
        ("two", "2", ""),
        ("", "3", "no text in column text"),
    ]


def test_a_split_can_be_asked_for(saved: Path) -> None:
    (block,) = read_dataset(f"{HF_PREFIX}{saved}?split=test", Columns())
    assert [one.content for one in documents(block, Columns())] == ["held"]


def test_what_a_data_set_does_not_have_is_refused_in_one_sentence(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"has no split 'dev'\. Its splits: train, test"):
        list(read_dataset(f"{HF_PREFIX}{saved}?split=dev", Columns()))
    with pytest.raises(ValueError, match="has no column 'body'; its columns: 'text', 'id'"):
        list(read_dataset(f"{HF_PREFIX}{saved}", Columns("body")))
    with pytest.raises(ValueError, match="cannot be opened"):
        list(read_dataset(f"{HF_PREFIX}{saved.parent}", Columns()))
