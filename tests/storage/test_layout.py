"""How tables lie in files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from storage.layout import write_parquet
from storage.records import embeddings


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
    table = pa.table([pa.array(["a"]), pa.array([[1.0, 0.0]], pa.list_(pa.float16(), 2))], schema=embeddings(2))
    write_parquet(table, tmp_path / "vectors.parquet")
    assert pq.read_table(tmp_path / "vectors.parquet").schema == embeddings(2)
    assert pq.ParquetFile(tmp_path / "vectors.parquet").metadata.row_group(0).column(1).compression == "UNCOMPRESSED"
