"""How tables lie in files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.artifacts.parquet_io import DamagedError, read_parquet, write_parquet
from storage.artifacts.schemas import embeddings_schema


def test_long_tables_are_written_in_row_groups(tmp_path: Path) -> None:
    write_parquet(pa.table({"number": range(40_000)}), tmp_path / "long.parquet")
    written = pq.ParquetFile(tmp_path / "long.parquet").metadata
    assert [written.row_group(group).num_rows for group in range(written.num_row_groups)] == [16_384, 16_384, 7_232]


def test_only_repeating_columns_have_a_dictionary_and_text_is_packed(tmp_path: Path) -> None:
    write_parquet(pa.table({"source": ["a"] * 100, "text": ["b"] * 100}), tmp_path / "some.parquet")
    group = pq.ParquetFile(tmp_path / "some.parquet").metadata.row_group(0)
    assert [group.column(place).has_dictionary_page for place in range(2)] == [True, False]
    assert {group.column(place).compression for place in range(2)} == {"ZSTD"}


def test_vectors_are_fixed_half_precision_lists_and_not_packed(tmp_path: Path) -> None:
    table = pa.table([pa.array(["a"]), pa.array([[1.0, 0.0]], pa.list_(pa.float16(), 2))], schema=embeddings_schema(2))
    write_parquet(table, tmp_path / "vectors.parquet")
    assert pq.read_table(tmp_path / "vectors.parquet").schema == embeddings_schema(2)
    assert pq.ParquetFile(tmp_path / "vectors.parquet").metadata.row_group(0).column(1).compression == "UNCOMPRESSED"


def _table() -> pa.Table:
    return pa.table({"id": [str(row) for row in range(3000)], "text": [f"text {row * 7919}" for row in range(3000)]})


def test_what_is_written_is_read_back_and_columns_are_as_asked(tmp_path: Path) -> None:
    write_parquet(_table(), tmp_path / "part.parquet")
    assert read_parquet(tmp_path / "part.parquet").equals(_table())
    assert read_parquet(tmp_path / "part.parquet", ["text"]).column_names == ["text"]


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    folder = tmp_path / "generation=3"
    folder.mkdir()
    write_parquet(_table(), folder / "part.parquet")
    assert read_parquet(folder / "part.parquet").column_names == ["id", "text"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_no_flipped_bit_is_read_as_if_nothing_had_happened(share: float, tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write_parquet(_table(), path)
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)
    message = ""
    try:
        unharmed = read_parquet(path).equals(_table())
    except DamagedError as error:
        message = str(error)
    assert unharmed if not message else str(path) in message and "heirloom verify" in message


def test_a_cut_off_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write_parquet(_table(), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedError, match=r"part\.parquet is damaged"):
        read_parquet(path)
    with pytest.raises(FileNotFoundError):
        read_parquet(tmp_path / "absent.parquet")


def test_pages_carry_checksums(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write_parquet(_table(), path)
    content = bytearray(path.read_bytes())
    offset = pq.read_metadata(path).row_group(0).column(1).data_page_offset
    content[offset + 200] ^= 255
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="checksum"):
        read_parquet(path)
