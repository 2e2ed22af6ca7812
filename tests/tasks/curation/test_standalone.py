import importlib.util
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.dedup.semantic import SemanticSettings
from curation.filters.pii import PiiSettings
from curation.pipeline import CurateSettings
from storage.artifacts.artifact import Draft
from storage.artifacts.schemas import DECISIONS
from storage.readers.base import Columns
from tasks.curation.decision_table import KEPT_SCHEMA
from tasks.curation.standalone import curate_corpus
from tests.conftest import human_texts

_SETTINGS = CurateSettings(filters=("exact", "quality", "minhash"), encoder="hashing")
_TEXTS = human_texts(20)


def _written(path: Path, texts: list[object], column: str = "text") -> str:
    path.write_text("".join(json.dumps({column: text}) + "\n" for text in texts))
    return str(path)


def _dropped(folder: Path) -> dict[str, tuple[str, str | None]]:
    rows = pq.read_table(folder / "decisions.parquet").to_pylist()
    return {row["id"].rpartition("#")[2]: (row["filter"], row["duplicate_of"]) for row in rows if not row["kept"]}


def test_what_repeats_itself_or_the_others_goes_and_names_who_stays(tmp_path: Path) -> None:
    near = _TEXTS[1].replace(" It was", " Then it was")
    new = _written(tmp_path / "new.jsonl", [*_TEXTS[:5], f"{_TEXTS[0]} \n", near, _TEXTS[9], "!", 7])
    old = _written(tmp_path / "old.jsonl", [_TEXTS[8], _TEXTS[9] + " Indeed.", _TEXTS[2]])
    facts = curate_corpus(new, [old], Columns("text"), tmp_path / "out", _SETTINGS)
    assert _dropped(tmp_path / "out") == {
        "9": ("read", None),
        "5": ("exact", f"{new}#0"),
        "2": ("exact", f"{old}#2"),
        "8": ("quality", None),
        "6": ("minhash", f"{new}#1"),
        "7": ("minhash", f"{old}#1"),
    }
    kept = pq.read_table(tmp_path / "out/kept.parquet")
    assert kept.schema == KEPT_SCHEMA
    assert kept["text"].to_pylist() == [_TEXTS[0], _TEXTS[1], _TEXTS[3], _TEXTS[4]]
    assert kept["row_number"].to_pylist() == [0, 1, 3, 4]
    assert (facts["texts"], facts["kept"]) == (10, 4)
    assert [(line["filter"], line["dropped"], line["of"]) for line in facts["dropped"]] == [
        ("read", 1, 10),
        ("exact", 2, 9),
        ("quality", 1, 7),
        ("minhash", 2, 6),
    ]


def test_decisions_have_the_columns_of_a_run_but_for_generations(tmp_path: Path) -> None:
    curate_corpus(_written(tmp_path / "new.jsonl", _TEXTS), [], Columns("text"), tmp_path / "out", _SETTINGS)
    found = pq.read_schema(tmp_path / "out/decisions.parquet").names
    assert found == [name for name in DECISIONS.names if name != "duplicate_of_generation"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "_manifest.json",
        "decisions.parquet",
        "kept.parquet",
    ]


def test_examples_are_the_least_alike_with_both_texts(tmp_path: Path) -> None:
    twins = [text + " It was so." for text in _TEXTS[:5]]
    facts = curate_corpus(
        _written(tmp_path / "new.jsonl", [*_TEXTS[:5], *twins]), [], Columns("text"), tmp_path / "out", _SETTINGS
    )
    shown = facts["examples"]
    assert [pair["filter"] for pair in shown] == ["minhash"] * 3
    evidence = [
        row["score"] for row in pq.read_table(tmp_path / "out/decisions.parquet").to_pylist() if not row["kept"]
    ]
    assert [pair["similarity"] for pair in shown] == sorted(evidence)[:3]
    assert all(pair["text"].startswith(pair["duplicate_of_text"]) for pair in shown)


def test_what_is_finished_is_not_made_again_and_other_texts_are_refused(tmp_path: Path) -> None:
    new = _written(tmp_path / "new.jsonl", _TEXTS)
    first = curate_corpus(new, [], Columns("text"), tmp_path / "out", _SETTINGS)
    written = (tmp_path / "out/_manifest.json").read_bytes()
    assert curate_corpus(new, [], Columns("text"), tmp_path / "out", _SETTINGS) == first
    assert (tmp_path / "out/_manifest.json").read_bytes() == written
    _written(tmp_path / "new.jsonl", _TEXTS[1:])
    with pytest.raises(ValueError, match=r"was made differently: settings\.source_hash"):
        curate_corpus(new, [], Columns("text"), tmp_path / "out", _SETTINGS)


def test_a_killed_curation_resumes_after_its_last_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = _written(tmp_path / "new.jsonl", [*_TEXTS, *_TEXTS[:5], "!", _TEXTS[7].replace(" It was", " Then it was")])
    whole = curate_corpus(new, [], Columns("text"), tmp_path / "whole", _SETTINGS)
    write = Draft.write_part
    for most in range(4):
        written: list[int] = []

        def dying(draft: Draft, table: pa.Table, number: int = 0, most: int = most, log: list = written) -> None:
            if number == most:
                raise KeyboardInterrupt
            log.append(number)
            write(draft, table, number)

        folder = tmp_path / f"killed-{most}"
        with monkeypatch.context() as patched:
            patched.setattr(Draft, "write_part", dying)
            with pytest.raises(KeyboardInterrupt):
                curate_corpus(new, [], Columns("text"), folder, _SETTINGS)
        assert not folder.exists()
        assert written == list(range(most))
        assert curate_corpus(new, [], Columns("text"), folder, _SETTINGS) == whole
        for name in ("kept.parquet", "decisions.parquet"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_meaning_is_held_against_the_others_too(tmp_path: Path) -> None:
    new = _written(tmp_path / "new.jsonl", ["the old river runs east", "quantum fields commute here"])
    old = _written(tmp_path / "old.jsonl", ["the old river runs east!!", "something else entirely"])
    settings = CurateSettings(
        filters=("semantic", "diversity"), encoder="hashing", semantic=SemanticSettings(threshold=0.8)
    )
    curate_corpus(new, [old], Columns("text"), tmp_path / "out", settings)
    assert _dropped(tmp_path / "out")["0"] == ("semantic", f"{old}#0")


def test_a_folder_of_files_is_one_corpus_whose_texts_name_their_file(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for place, text in enumerate([_TEXTS[0], _TEXTS[1], _TEXTS[0]]):
        (tmp_path / f"many/{place}.txt").write_text(text)
    curate_corpus(f"{tmp_path}/many/", [], Columns("text"), tmp_path / "out", _SETTINGS)
    (row,) = [row for row in pq.read_table(tmp_path / "out/decisions.parquet").to_pylist() if not row["kept"]]
    assert (row["id"], row["duplicate_of"]) == (f"{tmp_path}/many/2.txt#0", f"{tmp_path}/many/0.txt#0")


@pytest.mark.processes
@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        (("perplexity",), "only candidates of a run have"),
        (("best_of",), "The best_of filter needs .* which only candidates of a run have"),
        (("decontamination",), "name them with --reference"),
        (("importance_resampling",), "name them with --reference"),
        (("semantic",), "Cannot load encoder|needs sentence-transformers"),
    ],
)
def test_a_missing_requirement_is_an_error_before_anything_is_read(
    tmp_path: Path, stages: tuple[str, ...], sentence: str
) -> None:
    settings = CurateSettings.model_validate({"filters": stages, "encoder": str(tmp_path / "no-model")})
    with pytest.raises(ValueError, match=sentence):
        curate_corpus("nowhere.jsonl", [], Columns("text"), tmp_path / "out", settings)


def test_what_is_masked_is_masked_in_what_is_kept_and_counted(tmp_path: Path) -> None:
    if importlib.util.find_spec("phonenumbers") is None or importlib.util.find_spec("stdnum") is None:
        pytest.skip("the extra pii is not installed")
    new = _written(tmp_path / "new.jsonl", [_TEXTS[0], "Write to jane@example.org before Monday."])
    masked = CurateSettings(filters=("pii",), pii=PiiSettings(action="mask"))
    assert curate_corpus(new, [], Columns("text"), tmp_path / "masked", masked)["masked"] == 1
    assert pq.read_table(tmp_path / "masked/kept.parquet")["text"].to_pylist() == [
        _TEXTS[0],
        "Write to [email] before Monday.",
    ]
    dropped = curate_corpus(new, [], Columns("text"), tmp_path / "dropped", CurateSettings(filters=("pii",)))
    assert (dropped["kept"], dropped["masked"]) == (1, 0)


def test_bad_sources_are_one_sentence_and_leave_nothing(tmp_path: Path) -> None:
    new, out = _written(tmp_path / "new.jsonl", _TEXTS), tmp_path / "out"
    empty = _written(tmp_path / "empty.jsonl", [])
    for source, against, column, sentence in (
        ("nowhere.jsonl", [], "text", "does not exist"),
        (new, [], "body", "has no text in column `body`"),
        (empty, [], "text", "has no text"),
        (new, [empty], "text", "has no text"),
        (new, [new], "text", "--reference must differ from the source"),
    ):
        with pytest.raises(ValueError, match=sentence):
            curate_corpus(source, against, Columns(column), out, _SETTINGS)
        assert not out.exists()


@pytest.mark.parametrize("made", [Path.mkdir, Path.touch])
def test_a_place_that_holds_something_else_is_refused(tmp_path: Path, made: object) -> None:
    made(tmp_path / "out")  # type: ignore[operator]
    with pytest.raises(ValueError, match="is not what `heirloom curate` writes"):
        curate_corpus(_written(tmp_path / "new.jsonl", _TEXTS), [], Columns("text"), tmp_path / "out", _SETTINGS)


_ROWS = [
    {
        "id": 2**62 + number,
        "body": text,
        "text": f"title {number}",
        "tags": ["a", "b"][: number % 3],
        "when": None,
        "n": value,
    }
    for number, (text, value) in enumerate(zip(_TEXTS, [1, 2.5, "x", True, {"a": 1}] * 4, strict=True))
]


def test_other_columns_of_json_are_kept_beside_the_text(tmp_path: Path) -> None:
    source = tmp_path / "new.jsonl"
    rows = [_ROWS[0], {**_ROWS[1], "body": 7}, _ROWS[0], *_ROWS[2:]]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    facts = curate_corpus(str(source), [], Columns("body"), tmp_path / "out", _SETTINGS)
    table = pq.read_table(tmp_path / "out/kept.parquet")
    assert table.column_names == [
        "id",
        "text",
        "source",
        "row_number",
        "original_id",
        "original_text",
        "tags",
        "when",
        "n",
    ]
    assert facts["other_columns"]["original_id"] == "id"
    assert table.num_rows == 19
    for row in table.to_pylist():
        written = rows[row["row_number"]]
        assert row["text"] == written["body"]
        assert (row["original_id"], row["original_text"], row["tags"], row["when"]) == (
            *(written["id"], written["text"], written["tags"]),
            None,
        )
        # Values of several types are JSON text.
        assert json.loads(row["n"]) == written["n"]
        assert type(json.loads(row["n"])) is type(written["n"])


def test_other_columns_of_parquet_keep_their_types(tmp_path: Path) -> None:
    other = pa.table(
        {
            "n": pa.array(range(20), pa.int16()),
            "at": pa.array(range(20), pa.timestamp("us", "UTC")),
            "tags": pa.array([["a"]] * 20, pa.list_(pa.large_string())),
            "price": pa.array([None, *range(19)], pa.decimal128(9, 2)),
        }
    )
    table = other.append_column("text", pa.array([*_TEXTS[:19], _TEXTS[0]]))
    pq.write_table(table, tmp_path / "new.parquet", row_group_size=7)
    curate_corpus(str(tmp_path / "new.parquet"), [], Columns(), tmp_path / "out", _SETTINGS)
    kept = pq.read_table(tmp_path / "out/kept.parquet")
    assert kept.select(other.column_names).equals(other.take(kept["row_number"]))
    assert kept["row_number"].to_pylist() == list(range(19))


def test_csv_is_read_with_the_delimiter_that_was_set_and_its_cells_are_kept(tmp_path: Path) -> None:
    rows = [f"{number};'{text}; and so on';n{number}" for number, text in enumerate(_TEXTS)]
    (tmp_path / "a.csv").write_text("\n".join(["id;text;note", *rows, "broken;row", "20;'last; one'"]))
    columns = Columns(delimiter=";", quote="'")
    facts = curate_corpus(str(tmp_path / "a.csv"), [], columns, tmp_path / "out", CurateSettings(filters=("empty",)))
    kept = pq.read_table(tmp_path / "out/kept.parquet")
    assert kept["note"].to_pylist() == [f"n{number}" for number in range(20)]
    assert kept["original_id"].to_pylist() == [str(number) for number in range(20)]
    assert kept["text"].to_pylist() == [f"{text}; and so on" for text in _TEXTS]
    assert (facts["texts"], facts["kept"]) == (22, 20)


def test_columns_of_several_files_become_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps({"text": _TEXTS[0], "n": 1}) + "\n")
    (folder / "b.csv").write_text(f'text,n,more\n"{_TEXTS[1]}",two,x\n')
    (folder / "c.txt").write_text(_TEXTS[2])
    curate_corpus(str(folder), [], Columns(), tmp_path / "out", CurateSettings(filters=("empty",)))
    rows = pq.read_table(tmp_path / "out/kept.parquet").to_pylist()
    assert [(row["text"], row["n"], row["more"]) for row in rows] == [
        (_TEXTS[0], "1", None),
        (_TEXTS[1], '"two"', "x"),
        (_TEXTS[2], None, None),
    ]


def test_masking_masks_other_columns_or_leaves_them_out(tmp_path: Path) -> None:
    if any(importlib.util.find_spec(module) is None for module in ("phonenumbers", "stdnum")):
        pytest.skip("the extra pii is not installed")
    row = {"text": "Write to a@b.org.", "author": "Ada <ada@b.org>", "n": 1, "turns": [{"content": "c@d.org"}]}
    (tmp_path / "new.jsonl").write_text(json.dumps(row) + "\n")
    masked = CurateSettings(filters=("pii",), pii=PiiSettings(action="mask"))
    facts = curate_corpus(str(tmp_path / "new.jsonl"), [], Columns(), tmp_path / "out", masked)
    (kept,) = pq.read_table(tmp_path / "out/kept.parquet").to_pylist()
    assert (kept["text"], kept["author"], kept["n"]) == ("Write to [email].", "Ada <[email]>", 1)
    assert "turns" not in kept
    assert facts["unmasked_columns"] == ["turns"]
