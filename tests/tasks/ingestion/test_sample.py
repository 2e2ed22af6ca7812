"""The look at a source before it is ingested."""

import json
from pathlib import Path

import duckdb
import pytest

from heirloom.errors import HeirloomError
from tasks.ingestion.sample import sample_source


def _jsonl(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_folder_of_texts_is_documents_with_their_median_length(tmp_path: Path) -> None:
    for place, length in enumerate((10, 20, 900)):
        (tmp_path / f"{place}.txt").write_text("a" * length)
    sample = sample_source(str(tmp_path))
    assert (sample.num_files, sample.num_sampled, sample.shape) == (3, 3, "")
    assert sample.median_chars == 20


@pytest.mark.parametrize(
    ("row", "column", "others"),
    [
        ({"text": "one", "title": "a longer one"}, "text", ("title",)),
        ({"id": "x", "body": "one", "notes": "a longer one"}, "body", ("notes", "id")),
        ({"id": "x", "remark": "words and words", "count": 3}, "remark", ("id",)),
    ],
)
def test_the_text_column_is_one_of_the_usual_names_or_the_longest_text(
    tmp_path: Path, row: dict[str, object], column: str, others: tuple[str, ...]
) -> None:
    sample = sample_source(_jsonl(tmp_path / "a.jsonl", row, row))
    assert (sample.text_column, sample.other_columns) == (column, others)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_every_kind_of_file_with_columns_is_looked_at(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"it's [1].{suffix}"
    quoted = str(path).replace("'", "''")
    kind = "json" if suffix == "jsonl" else suffix
    duckdb.execute(f"copy (select 7 as id, 'some words' as body) to '{quoted}' (format {kind})")
    assert sample_source(str(path)).text_column == "body"


def test_conversations_are_recognized_by_their_columns_or_by_their_messages(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    known = sample_source(_jsonl(tmp_path / "a.jsonl", {"instruction": "hi", "input": "", "output": "hello"}))
    assert (known.shape, known.text_column) == ("Alpaca instructions", "text")
    other = sample_source(_jsonl(tmp_path / "b.jsonl", {"title": "a long title", "chat": turns}))
    assert (other.shape, other.text_column) == ("OpenAI messages", "chat")


@pytest.mark.parametrize(
    ("content", "column", "sentence"),
    [
        ('{"id": 3}\n', "", "has no column of text; its columns: id"),
        ('{"body": "words"}\n', "bodi", "has no text in column `bodi`"),
        ("{not json\n", "", "cannot be read"),
    ],
)
def test_a_source_without_text_is_refused(tmp_path: Path, content: str, column: str, sentence: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(HeirloomError, match=sentence):
        sample_source(str(tmp_path / "a.jsonl"), column)
