import pyarrow as pa

from storage.readers.base import Block, Columns, Document


def test_a_column_that_is_named_twice_is_read_once_and_the_text_comes_first() -> None:
    assert Columns("prompt", "answer", "id", "id").names == ["prompt", "answer", "id"]


def test_the_size_of_a_block_is_about_its_text_whatever_its_kind() -> None:
    assert Block("a", 0, [b"four", None, b"five"], "lines").size() == 8
    assert Block("a", 0, [Document("four", "a", 0)], "documents").size() == 4
    batch = pa.record_batch({"text": ["four"]})
    assert Block("a", 0, [batch, batch], "batches").size() == 2 * batch.nbytes
