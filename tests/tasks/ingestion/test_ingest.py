import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.operations.malformed_files import write_malformed
from curation.dedup.minhash import MinHashSettings
from curation.splitting import DedupSettings, IngestSettings, is_held_out
from curation.text import Normalization
from flows.config.site import Site
from heirloom.chat import parse_chat_text
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, ArtifactMissingError, read_manifest, read_table
from storage.artifacts.ids import human_id, text_hash
from storage.artifacts.tombstones import add_tombstones
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.readers.discovery import find_files, read_sources
from storage.runs.run import Attempt, Run
from tasks.ingestion.ingest import ingest, load_pinned_human
from tasks.ingestion.read import BlockBatch, ScratchTables, input_columns, read_blocks
from tasks.ingestion.split import OUTPUTS, SPLITS
from tests.conftest import human_texts


def _write_jsonl(path: Path, texts: list[str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def _texts(artifact: Artifact) -> list[str]:
    return read_table(artifact.folder, ["text"])["text"].to_pylist()


def _stored_paths(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) if root.exists() else []


def test_every_document_is_in_the_training_set_the_held_out_set_or_rejected(tmp_path: Path) -> None:
    texts = human_texts(100)
    snapshot = ingest(tmp_path / "store", "letters", [_write_jsonl(tmp_path / "a.jsonl", texts)], IngestSettings())
    train, heldout = _texts(snapshot["human_train"]), _texts(snapshot["human_heldout"])
    assert sorted(train + heldout) == sorted(texts)
    assert not set(train) & set(heldout)
    assert read_table(snapshot["rejected_documents"].folder).num_rows == 0


def test_a_record_has_its_source(tmp_path: Path) -> None:
    texts = human_texts(100)
    snapshot = ingest(tmp_path / "store", "letters", [_write_jsonl(tmp_path / "a.jsonl", texts)], IngestSettings())
    row = read_table(snapshot["human_train"].folder).to_pylist()[0]
    assert (row["id"], row["origin"], row["source_generation"], row["source"]) == (
        human_id(row["text"]),
        "human",
        0,
        "a.jsonl",
    )


def test_duplicate_documents_are_rejected_with_the_record_that_is_kept(tmp_path: Path) -> None:
    texts = human_texts(100)
    near = texts[7].replace(" It was", " Then it was")
    source = _write_jsonl(tmp_path / "a.jsonl", [*texts, f"{texts[3]} \n", near, "", "?!"])
    snapshot = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    rejected = {row["row_number"]: row for row in read_table(snapshot["rejected_documents"].folder).to_pylist()}
    assert set(rejected) == {100, 101, 102, 103}
    assert (rejected[100]["filter"], rejected[100]["duplicate_of"], rejected[100]["score"]) == (
        "exact",
        human_id(texts[3]),
        1.0,
    )
    assert (rejected[101]["filter"], rejected[101]["duplicate_of"]) == ("minhash", human_id(texts[7]))
    assert 0.7 <= rejected[101]["score"] < 1
    assert rejected[103]["reason"] == "no words"
    assert (
        read_manifest(snapshot["human_train"].folder)["rows"] + read_manifest(snapshot["human_heldout"].folder)["rows"]
        == 100
    )


@pytest.mark.parametrize(("normalization", "count"), [("text", 2), ("code", 0)])
def test_near_duplicates_that_differ_in_what_prose_ignores_are_counted(
    normalization: Normalization, count: int, tmp_path: Path
) -> None:
    texts = human_texts(60)
    source = _write_jsonl(tmp_path / "a.jsonl", [*texts, texts[3].upper(), texts[5].replace(".", "!")])
    dedup = DedupSettings(minhash=MinHashSettings(normalization=normalization))
    snapshot = ingest(tmp_path / "store", "letters", [source], IngestSettings(dedup=dedup))
    facts = read_manifest(snapshot["rejected_documents"].folder)["facts"]
    assert facts["equal_shingles"] == count


def test_splitting_by_source_keeps_a_file_in_one_split(tmp_path: Path) -> None:
    texts = human_texts(200)
    names = [f"{number}.jsonl" for number in range(40)]
    for number, name in enumerate(names):
        _write_jsonl(tmp_path / "letters" / name, texts[number * 5 : number * 5 + 5])
    settings = IngestSettings(split_by="source", heldout_fraction=0.3)
    snapshot = ingest(tmp_path / "store", "letters", [str(tmp_path / "letters")], settings)
    sources = {split: set(read_table(snapshot[split].folder)["source"].to_pylist()) for split in SPLITS}
    assert sources["human_heldout"] == {name for name in names if is_held_out(name, 0.3)}
    assert sources["human_train"] == set(names) - sources["human_heldout"]


def test_the_same_documents_and_settings_make_no_second_snapshot(tmp_path: Path) -> None:
    source = _write_jsonl(tmp_path / "a.jsonl", human_texts(100))
    first = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    before = _stored_paths(tmp_path / "store")
    assert ingest(tmp_path / "store", "letters", [source], IngestSettings()) == first
    assert _stored_paths(tmp_path / "store") == before


def test_other_settings_make_a_second_snapshot(tmp_path: Path) -> None:
    source = _write_jsonl(tmp_path / "a.jsonl", human_texts(100))
    ingest(tmp_path / "store", "letters", [source], IngestSettings())
    ingest(tmp_path / "store", "letters", [source], IngestSettings(max_heldout_records=50))
    assert newest_snapshot(tmp_path / "store", "letters") == 2


def test_a_second_ingest_keeps_the_earlier_records_in_their_splits(tmp_path: Path) -> None:
    texts = human_texts(220)
    first_source = _write_jsonl(tmp_path / "a.jsonl", texts[:120])
    second_source = _write_jsonl(tmp_path / "b.jsonl", texts[110:])
    first = ingest(tmp_path / "store", "letters", [first_source], IngestSettings())
    bytes_before = (first["human_train"].folder / "part-00000.parquet").read_bytes()
    second = ingest(tmp_path / "store", "letters", [second_source], IngestSettings())
    assert newest_snapshot(tmp_path / "store", "letters") == 2
    for split in SPLITS:
        earlier, later = _texts(first[split]), _texts(second[split])
        assert later[: len(earlier)] == earlier
        assert len(later) > len(earlier)
    assert sorted(_texts(second["human_train"]) + _texts(second["human_heldout"])) == sorted(texts)
    assert read_manifest(second["rejected_documents"].folder)["rows"] == 10
    assert (first["human_train"].folder / "part-00000.parquet").read_bytes() == bytes_before


def test_records_beyond_the_maximum_are_rejected(tmp_path: Path) -> None:
    source = _write_jsonl(tmp_path / "a.jsonl", human_texts(100))
    settings = IngestSettings(max_train_records=30, max_heldout_records=6)
    snapshot = ingest(tmp_path / "store", "letters", [source], settings)
    assert (len(_texts(snapshot["human_train"])), len(_texts(snapshot["human_heldout"]))) == (30, 6)
    rejected = read_table(snapshot["rejected_documents"].folder).to_pylist()
    assert len(rejected) == 64
    assert {row["reason"] for row in rejected} == {"`max_train_records` reached", "`max_heldout_records` reached"}


def test_documents_can_be_split_into_passages(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("\n\n".join(human_texts(200)))
    settings = IngestSettings(passage_length_chars=(60, 200))
    snapshot = ingest(tmp_path / "store", "book", [str(tmp_path / "book.txt")], settings)
    texts = _texts(snapshot["human_train"]) + _texts(snapshot["human_heldout"])
    assert len(texts) > 100
    assert all(60 <= len(text) <= 200 for text in texts)


@pytest.mark.parametrize("count", [0, 3, 22])
def test_too_few_records_are_refused_and_nothing_is_written(tmp_path: Path, count: int) -> None:
    source = _write_jsonl(tmp_path / "a.jsonl", human_texts(count))
    message = (
        rf"^{count} documents yield \d+ records for `human_(train|heldout)`; at least \d+ are needed. "
        "Add documents, or split long ones into passages"
    )
    with pytest.raises(HeirloomError, match=message):
        ingest(tmp_path / "store", "letters", [source], IngestSettings())
    assert _stored_paths(tmp_path / "store") == []


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HeirloomError, match="does not exist"):
        ingest(tmp_path / "store", "letters", [str(tmp_path / "nothing.jsonl")], IngestSettings())


def test_a_lone_surrogate_is_stored_as_a_question_mark(tmp_path: Path) -> None:
    source = _write_jsonl(tmp_path / "a.jsonl", [*human_texts(100), "half a face \ud83d and words"])
    snapshot = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    assert "half a face ? and words" in _texts(snapshot["human_train"]) + _texts(snapshot["human_heldout"])


def test_other_documents_can_be_ingested_after_an_interrupted_ingest(tmp_path: Path) -> None:
    root = tmp_path / "store"
    snapshot = ingest(root, "letters", [_write_jsonl(tmp_path / "a.jsonl", human_texts(100))], IngestSettings())
    # The training set is published last; a kill before it leaves the other two artifacts.
    for path in snapshot["human_train"].folder.iterdir():
        path.unlink()
    snapshot["human_train"].folder.rmdir()
    texts = human_texts(100, seed=1)
    second = ingest(root, "letters", [_write_jsonl(tmp_path / "b.jsonl", texts)], IngestSettings())
    assert sorted(_texts(second["human_train"]) + _texts(second["human_heldout"])) == sorted(texts)
    assert newest_snapshot(root, "letters") == 2


def test_the_same_documents_complete_an_interrupted_ingest(tmp_path: Path) -> None:
    root, source = tmp_path / "store", _write_jsonl(tmp_path / "a.jsonl", human_texts(100))
    snapshot = ingest(root, "letters", [source], IngestSettings())
    expected = _texts(snapshot["human_train"])
    for path in snapshot["human_train"].folder.iterdir():
        path.unlink()
    snapshot["human_train"].folder.rmdir()
    assert _texts(ingest(root, "letters", [source], IngestSettings())["human_train"]) == expected
    assert newest_snapshot(root, "letters") == 1


def test_a_run_keeps_the_held_out_set_that_it_began_with(ingested: Site, tmp_path: Path) -> None:
    run = Run(ingested.store, "tiny")
    run.initialize({}, set(), {})
    before = load_pinned_human(Attempt(run, 0), "letters")
    ingest(ingested.store, "letters", [_write_jsonl(tmp_path / "b.jsonl", human_texts(120, seed=1))], IngestSettings())
    reloaded, later = (load_pinned_human(Attempt(run, generation), "letters") for generation in (0, 1))
    assert reloaded == before
    assert later.heldout == before.heldout
    assert later.train.folder == human_folder(ingested.store, "letters", 2) / "human_train"
    assert later.protected["human_heldout"].folder == later.train.folder.with_name("human_heldout")
    assert later.train.exists()


def test_an_unknown_dataset_is_refused(ingested: Site) -> None:
    run = Run(ingested.store, "tiny")
    run.initialize({}, set(), {})
    with pytest.raises(ArtifactMissingError, match="'diaries'"):
        load_pinned_human(Attempt(run, 0), "diaries")


def test_an_erased_text_is_not_ingested_again(tmp_path: Path, sample_documents: Path) -> None:
    first = ingest(tmp_path / "store", "letters", [str(sample_documents)], IngestSettings())
    erased = read_table(first["human_train"].folder).to_pylist()[0]
    add_tombstones(tmp_path / "store", {erased["id"]: erased["text_hash"]}, "")
    second = ingest(tmp_path / "store", "second", [str(sample_documents)], IngestSettings())
    assert erased["id"] not in read_table(second["human_train"].folder)["id"].to_pylist()
    rejected = read_table(second["rejected_documents"].folder).to_pylist()
    assert [(row["id"], row["reason"]) for row in rejected if row["filter"] == "erase"] == [
        (erased["id"], "erased text")
    ]
    more = ingest(tmp_path / "store", "letters", [str(sample_documents)], IngestSettings(heldout_fraction=0.3))
    assert more["human_train"].folder != first["human_train"].folder
    assert erased["id"] not in read_table(more["human_train"].folder)["id"].to_pylist()


def test_a_near_duplicate_of_the_other_split_is_rejected(tmp_path: Path) -> None:
    texts = human_texts(120)
    first = ingest(tmp_path / "store", "letters", [_write_jsonl(tmp_path / "a.jsonl", texts)], IngestSettings())
    near = [text.replace(" It was", " Then it was") for text in texts]
    source = _write_jsonl(tmp_path / "b.jsonl", [*near, *human_texts(40, seed=1)])
    second = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    stored = {split: set(_texts(second[split])) for split in SPLITS}
    assert not (stored["human_train"] | stored["human_heldout"]) & set(near)
    assert {split: set(_texts(first[split])) <= stored[split] for split in stored} == {
        "human_train": True,
        "human_heldout": True,
    }
    # Without the search, some of the near-duplicates would be in the split that their original is not in.
    crossed = [text for text in near if is_held_out(text_hash(text), 0.15) != is_held_out(_original_hash(text), 0.15)]
    assert len(crossed) > 5


def _original_hash(text: str) -> str:
    return text_hash(text.replace(" Then it was", " It was"))


def test_a_source_stays_in_its_split_when_the_held_out_fraction_changes(tmp_path: Path) -> None:
    texts = human_texts(400)
    folder = tmp_path / "letters"
    for number in range(40):
        _write_jsonl(folder / f"{number}.jsonl", texts[number * 5 : number * 5 + 5])
    first = ingest(tmp_path / "store", "x", [str(folder)], IngestSettings(split_by="source", heldout_fraction=0.2))
    for number in range(40):
        _write_jsonl(folder / f"{number}.jsonl", texts[number * 10 : number * 10 + 10])
    later = ingest(tmp_path / "store", "x", [str(folder)], IngestSettings(split_by="source", heldout_fraction=0.7))
    for split in SPLITS:
        before, after = (set(read_table(artifacts[split].folder)["source"].to_pylist()) for artifacts in (first, later))
        assert before == after


def test_a_conversation_is_stored_as_text_and_as_messages(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {number}.", "answer": text} for number, text in enumerate(human_texts(100))]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = IngestSettings(text_column="prompt", response_column="answer")
    snapshot = ingest(tmp_path / "store", "pairs", [str(tmp_path / "pairs.jsonl")], settings)
    row = read_table(snapshot["human_train"].folder).to_pylist()[0]
    messages = json.loads(row["messages"])
    assert messages == parse_chat_text(row["text"])
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert row["tools"] is None


@pytest.mark.slow
def test_one_process_and_many_processes_make_the_same_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f"{text} {number}"} for number in range(8) for text in human_texts(3000)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text(lines)
    settings = IngestSettings(dedup=DedupSettings(method="exact"))
    monkeypatch.setattr("storage.readers.base.CHUNK_BYTES", 200_000)
    many = ingest(tmp_path / "store", "many", [str(tmp_path / "many" / "a.jsonl")], settings)
    monkeypatch.setattr("tasks.orchestration.parallel._SERIAL_ITEMS", 10_000)
    one = ingest(tmp_path / "store", "one", [str(tmp_path / "one" / "a.jsonl")], settings)
    assert many["human_train"].settings == one["human_train"].settings
    for split in OUTPUTS:
        assert read_table(many[split].folder).equals(read_table(one[split].folder))


def test_rejected_documents_are_counted_by_reason(tmp_path: Path) -> None:
    texts = human_texts(100)
    source = _write_jsonl(tmp_path / "a.jsonl", [*texts, texts[0], texts[1], "?!"])
    snapshot = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    assert read_manifest(snapshot["rejected_documents"].folder)["facts"]["reasons"] == {
        "exact duplicate": 2,
        "no words": 1,
    }


def test_a_file_without_the_text_column_is_refused(tmp_path: Path) -> None:
    source = _write_jsonl(tmp_path / "a.jsonl", human_texts(100))
    with pytest.raises(
        HeirloomError,
        match=r"has no text in column `body` \(100 no text in column body\)\. Name the text column with "
        r"`--text-column`; other columns: .*'text'",
    ):
        ingest(tmp_path / "store", "letters", [source], IngestSettings(text_column="body"))
    assert _stored_paths(tmp_path / "store") == []


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "id,text\n0,Café one\n1,Café two\n".encode("latin-1"), r"\(2 not UTF-8\)\. Convert it to UTF-8"),
        ("a.jsonl", b'[{"text": "one"}, {"text": "two"}]', r"\(1 a JSON array of objects, .* Write one object a line"),
        ("a.csv", "id,text\n0,one\n".encode("utf-16"), r"is UTF-16; convert it to UTF-8: iconv -f UTF-16"),
        ("a.csv", b"id,text\n0,one, two\n", r"\(1 more cells than the header\)\. Check the file"),
    ],
)
def test_a_file_without_readable_rows_is_refused_with_advice_for_its_cause(
    name: str, content: bytes, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HeirloomError, match=sentence):
        ingest(tmp_path / "store", "letters", [str(tmp_path / name)], IngestSettings())


def test_columns_that_are_not_read_are_counted_by_rows(tmp_path: Path) -> None:
    rows = [
        {"text": text, "url": "x"} | ({"score": 1} if number < 7 else {})
        for number, text in enumerate(human_texts(100))
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.csv").write_text("text,url\nA text of a table,x\n")
    snapshot = ingest(
        tmp_path / "store", "letters", [str(tmp_path)], IngestSettings(dedup=DedupSettings(method="exact"))
    )
    facts = read_manifest(snapshot["rejected_documents"].folder)["facts"]
    assert (facts["unread_columns"], facts["num_unread_columns"]) == ({"url": 101, "score": 7}, 2)


def test_a_dataset_name_that_is_not_a_folder_name_is_refused(tmp_path: Path) -> None:
    source = _write_jsonl(tmp_path / "a.jsonl", human_texts(100))
    with pytest.raises(HeirloomError, match="cannot name a dataset"):
        ingest(tmp_path / "store", "../letters", [source], IngestSettings())
    assert _stored_paths(tmp_path / "store") == []


@pytest.mark.slow
def test_a_malformed_file_is_refused_in_one_sentence_or_listed(tmp_path: Path) -> None:
    settings = IngestSettings(max_document_bytes=100_000, dedup=DedupSettings(method="exact"))
    (tmp_path / "all").mkdir()
    files = [write_malformed(tmp_path / "all", number) for number in range(300)]
    for file in files:
        listed = [(str(file), find_files(str(file)))]
        message = ""
        try:
            for number, blocks in enumerate(read_sources(listed, input_columns(settings))):
                tables = ScratchTables.in_folder(tmp_path / "scratch" / file.name)
                read_blocks(tables, settings, BlockBatch(number=number, blocks=blocks))
        except HeirloomError as error:
            message = str(error)
        assert len(message.encode().splitlines()) <= 1
    _write_jsonl(tmp_path / "all" / "good.jsonl", human_texts(100))
    snapshot = ingest(tmp_path / "store", "odd", [str(tmp_path / "all")], settings)
    sources = {row for artifact in snapshot.values() for row in read_table(artifact.folder)["source"].to_pylist()}
    unlisted = {file.name for file in files} - sources
    assert all(_is_empty(tmp_path / "all" / name) for name in unlisted)
    assert set(human_texts(100)) <= set(_texts(snapshot["human_train"])) | set(_texts(snapshot["human_heldout"]))


def _is_empty(path: Path) -> bool:
    """Return whether a file has no row: it is empty, blank, or has a header only."""
    content = path.read_bytes()
    if path.suffix in (".gz", ".zst"):
        content = pa.input_stream(io.BytesIO(content), compression={".gz": "gzip", ".zst": "zstd"}[path.suffix]).read()
    if ".parquet" in path.name.lower():
        return pq.read_metadata(path).num_rows == 0
    return len([line for line in content.splitlines() if line.strip()]) <= 1


def test_conversations_are_named_by_their_shape_and_their_other_fields_counted(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "say", "parameters": {"type": "object"}}}]
    rows = []
    for number, text in enumerate(human_texts(100)):
        call = {"id": f"c{number}", "type": "function", "function": {"name": "say", "arguments": '{"n": 1}'}}
        messages = [
            {"role": "user", "content": f"Say {number}.", "weight": 1},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": text, "tool_call_id": f"c{number}"},
            {"role": "assistant", "content": text, "reasoning_content": "It is short."},
        ]
        rows.append({"messages": messages, "tools": tools})
    rows.append({"messages": rows[0]["messages"][:2] + rows[0]["messages"][3:]})
    (tmp_path / "calls.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    snapshot = ingest(tmp_path / "store", "calls", [str(tmp_path / "calls.jsonl")], IngestSettings())
    facts = read_manifest(snapshot["human_train"].folder)["facts"]
    assert facts["shapes"] == {"OpenAI messages": 101}
    assert facts["unread_columns"] == {"messages[].weight": 100}
    reasons = read_manifest(snapshot["rejected_documents"].folder)["facts"]["reasons"]
    assert reasons["a tool call without a result"] == 1
    row = read_table(snapshot["human_train"].folder).to_pylist()[0]
    assert json.loads(row["tools"]) == tools
    _, called, _, answered = json.loads(row["messages"])
    assert called["tool_calls"][0]["function"] == {"name": "say", "arguments": {"n": 1}}
    assert answered["reasoning"] == "It is short."
