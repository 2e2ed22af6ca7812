import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.operations.malformed_files import write_malformed
from curation.chat import parse_chat_text
from curation.splitting import IngestSettings, is_held_out
from flows.config.site import Site
from storage.artifacts.artifact import Artifact, ArtifactMissingError, read_manifest, read_table
from storage.artifacts.ids import human_id, text_hash
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.readers.discovery import find_files, read_sources
from storage.runs.run import Attempt, Run
from tasks.ingestion.ingest import ingest, load_pinned_human
from tasks.ingestion.read import ScratchTables, input_columns, read_blocks
from tests.conftest import human_texts


def _written(path: Path, texts: list[str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def _texts(artifact: Artifact) -> list[str]:
    return read_table(artifact.folder, ["text"])["text"].to_pylist()


def _stored(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) if root.exists() else []


def test_every_document_is_in_the_reserve_or_held_out_or_set_aside(tmp_path: Path) -> None:
    texts = human_texts(100)
    made = ingest(tmp_path / "store", "letters", [_written(tmp_path / "a.jsonl", texts)], IngestSettings())
    reserve, heldout = _texts(made["human_train"]), _texts(made["human_heldout"])
    assert sorted(reserve + heldout) == sorted(texts)
    assert not set(reserve) & set(heldout)
    assert read_table(made["rejected_documents"].folder).num_rows == 0


def test_a_record_says_where_it_comes_from(tmp_path: Path) -> None:
    texts = human_texts(100)
    made = ingest(tmp_path / "store", "letters", [_written(tmp_path / "a.jsonl", texts)], IngestSettings())
    row = read_table(made["human_train"].folder).to_pylist()[0]
    assert (row["id"], row["origin"], row["source_generation"], row["source"]) == (
        human_id(row["text"]),
        "human",
        0,
        "a.jsonl",
    )


def test_repeated_documents_are_set_aside_with_their_keeper(tmp_path: Path) -> None:
    texts = human_texts(100)
    near = texts[7].replace(" It was", " Then it was")
    source = _written(tmp_path / "a.jsonl", [*texts, texts[3].upper(), near, "", "?!"])
    made = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    aside = {row["row_number"]: row for row in read_table(made["rejected_documents"].folder).to_pylist()}
    assert set(aside) == {100, 101, 102, 103}
    assert (aside[100]["filter"], aside[100]["duplicate_of"], aside[100]["score"]) == ("exact", human_id(texts[3]), 1.0)
    assert (aside[101]["filter"], aside[101]["duplicate_of"]) == ("minhash", human_id(texts[7]))
    assert 0.7 <= aside[101]["score"] < 1
    assert aside[103]["reason"] == "holds no word"
    assert (
        read_manifest(made["human_train"].folder)["rows"] + read_manifest(made["human_heldout"].folder)["rows"] == 100
    )


def test_splitting_by_source_keeps_a_file_on_one_side(tmp_path: Path) -> None:
    texts = human_texts(200)
    names = [f"{place}.jsonl" for place in range(40)]
    for place, name in enumerate(names):
        _written(tmp_path / "letters" / name, texts[place * 5 : place * 5 + 5])
    settings = IngestSettings(split_by="source", heldout_fraction=0.3)
    made = ingest(tmp_path / "store", "letters", [str(tmp_path / "letters")], settings)
    sides = {
        side: set(read_table(made[side].folder)["source"].to_pylist()) for side in ("human_train", "human_heldout")
    }
    assert sides["human_heldout"] == {name for name in names if is_held_out(name, 0.3)}
    assert sides["human_train"] == set(names) - sides["human_heldout"]


def test_the_same_documents_make_no_second_snapshot(tmp_path: Path) -> None:
    source = _written(tmp_path / "a.jsonl", human_texts(100))
    once = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    before = _stored(tmp_path / "store")
    again = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    assert again == once
    assert _stored(tmp_path / "store") == before


def test_other_settings_make_a_second_snapshot(tmp_path: Path) -> None:
    source = _written(tmp_path / "a.jsonl", human_texts(100))
    ingest(tmp_path / "store", "letters", [source], IngestSettings())
    ingest(tmp_path / "store", "letters", [source], IngestSettings(max_heldout_records=50))
    assert newest_snapshot(tmp_path / "store", "letters") == 2


def test_a_second_ingest_keeps_the_earlier_records_on_their_sides(tmp_path: Path) -> None:
    texts = human_texts(220)
    one, two = _written(tmp_path / "a.jsonl", texts[:120]), _written(tmp_path / "b.jsonl", texts[110:])
    first = ingest(tmp_path / "store", "letters", [one], IngestSettings())
    bytes_before = (first["human_train"].folder / "part-00000.parquet").read_bytes()
    second = ingest(tmp_path / "store", "letters", [two], IngestSettings())
    assert newest_snapshot(tmp_path / "store", "letters") == 2
    for side in ("human_train", "human_heldout"):
        earlier, later = _texts(first[side]), _texts(second[side])
        assert later[: len(earlier)] == earlier
        assert len(later) > len(earlier)
    assert sorted(_texts(second["human_train"]) + _texts(second["human_heldout"])) == sorted(texts)
    assert read_manifest(second["rejected_documents"].folder)["rows"] == 10
    assert (first["human_train"].folder / "part-00000.parquet").read_bytes() == bytes_before


def test_a_full_reserve_sets_the_rest_aside(tmp_path: Path) -> None:
    source = _written(tmp_path / "a.jsonl", human_texts(100))
    settings = IngestSettings(max_train_records=30, max_heldout_records=6)
    made = ingest(tmp_path / "store", "letters", [source], settings)
    assert (len(_texts(made["human_train"])), len(_texts(made["human_heldout"]))) == (30, 6)
    aside = read_table(made["rejected_documents"].folder).to_pylist()
    assert len(aside) == 64
    assert {row["reason"] for row in aside} == {"the human_train is full", "the human_heldout is full"}


def test_documents_can_be_cut_into_passages(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("\n\n".join(human_texts(200)))
    settings = IngestSettings(passage_length_chars=(60, 200))
    made = ingest(tmp_path / "store", "book", [str(tmp_path / "book.txt")], settings)
    texts = _texts(made["human_train"]) + _texts(made["human_heldout"])
    assert len(texts) > 100
    assert all(60 <= len(text) <= 200 for text in texts)


@pytest.mark.parametrize("count", [0, 3, 22])
def test_too_little_text_is_refused_and_nothing_is_written(tmp_path: Path, count: int) -> None:
    source = _written(tmp_path / "a.jsonl", human_texts(count))
    with pytest.raises(
        ValueError, match=rf"^{count} documents left \d+ records for the (reserve|heldout), and at least"
    ):
        ingest(tmp_path / "store", "letters", [source], IngestSettings())
    assert _stored(tmp_path / "store") == []


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        ingest(tmp_path / "store", "letters", [str(tmp_path / "nothing.jsonl")], IngestSettings())


def test_a_lone_surrogate_is_stored_as_a_question_mark(tmp_path: Path) -> None:
    source = _written(tmp_path / "a.jsonl", [*human_texts(100), "half a face \ud83d and words"])
    made = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    assert "half a face ? and words" in _texts(made["human_train"]) + _texts(made["human_heldout"])


def test_other_documents_can_follow_an_ingest_that_was_interrupted(tmp_path: Path) -> None:
    root = tmp_path / "store"
    made = ingest(root, "letters", [_written(tmp_path / "a.jsonl", human_texts(100))], IngestSettings())
    # The reserve is published last; a kill before it leaves the other two.
    for path in made["human_train"].folder.iterdir():
        path.unlink()
    made["human_train"].folder.rmdir()
    texts = human_texts(100, seed=1)
    again = ingest(root, "letters", [_written(tmp_path / "b.jsonl", texts)], IngestSettings())
    assert sorted(_texts(again["human_train"]) + _texts(again["human_heldout"])) == sorted(texts)
    assert newest_snapshot(root, "letters") == 2


def test_the_same_documents_finish_an_ingest_that_was_interrupted(tmp_path: Path) -> None:
    root, source = tmp_path / "store", _written(tmp_path / "a.jsonl", human_texts(100))
    made = ingest(root, "letters", [source], IngestSettings())
    expected = _texts(made["human_train"])
    for path in made["human_train"].folder.iterdir():
        path.unlink()
    made["human_train"].folder.rmdir()
    assert _texts(ingest(root, "letters", [source], IngestSettings())["human_train"]) == expected
    assert newest_snapshot(root, "letters") == 1


def test_a_run_is_measured_on_the_held_out_set_it_began_with(ingested: Site, tmp_path: Path) -> None:
    run = Run(ingested.store, "tiny")
    run.initialize({}, set(), {})
    before = load_pinned_human(Attempt(run, 0), "letters")
    ingest(ingested.store, "letters", [_written(tmp_path / "b.jsonl", human_texts(120, seed=1))], IngestSettings())
    again, later = (load_pinned_human(Attempt(run, generation), "letters") for generation in (0, 1))
    assert again == before
    assert later["human_heldout"] == before["human_heldout"]
    assert later["human_train"].folder == human_folder(ingested.store, "letters", 2) / "human_train"
    assert later["human_train"].exists()


def test_human_text_that_was_never_ingested_is_refused(ingested: Site) -> None:
    run = Run(ingested.store, "tiny")
    run.initialize({}, set(), {})
    with pytest.raises(ArtifactMissingError, match="there is no human text 'diaries'"):
        load_pinned_human(Attempt(run, 0), "diaries")


def test_a_text_that_was_forgotten_does_not_come_back(tmp_path: Path, letters: Path) -> None:
    from storage.artifacts.artifact import read_table
    from storage.artifacts.tombstones import add_tombstones

    first = ingest(tmp_path / "store", "letters", [str(letters)], IngestSettings())
    gone = read_table(first["human_train"].folder).to_pylist()[0]
    add_tombstones(tmp_path / "store", {gone["id"]: gone["text_hash"]}, "")
    again = ingest(tmp_path / "store", "again", [str(letters)], IngestSettings())
    assert gone["id"] not in read_table(again["human_train"].folder)["id"].to_pylist()
    aside = [row for row in read_table(again["rejected_documents"].folder).to_pylist() if row["filter"] == "forget"]
    assert [(row["id"], row["reason"]) for row in aside] == [(gone["id"], "was forgotten")]
    more = ingest(tmp_path / "store", "letters", [str(letters)], IngestSettings(heldout_fraction=0.3))
    assert more["human_train"].folder != first["human_train"].folder
    assert gone["id"] not in read_table(more["human_train"].folder)["id"].to_pylist()


def test_a_newcomer_that_nearly_repeats_the_other_side_is_dropped_whichever_side_it_is_for(tmp_path: Path) -> None:
    texts = human_texts(120)
    first = ingest(tmp_path / "store", "letters", [_written(tmp_path / "a.jsonl", texts)], IngestSettings())
    near = [text.replace(" It was", " Then it was") for text in texts]
    source = _written(tmp_path / "b.jsonl", [*near, *human_texts(40, seed=1)])
    second = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    stored = {side: set(_texts(second[side])) for side in ("human_train", "human_heldout")}
    assert not (stored["human_train"] | stored["human_heldout"]) & set(near)
    assert {side: set(_texts(first[side])) <= stored[side] for side in stored} == {
        "human_train": True,
        "human_heldout": True,
    }
    crossed = [text for text in near if is_held_out(text_hash(text), 0.15) != is_held_out(_twin(text), 0.15)]
    assert len(crossed) > 5


def _twin(text: str) -> str:
    return text_hash(text.replace(" Then it was", " It was"))


def test_a_group_stays_on_its_side_when_another_share_is_held_out(tmp_path: Path) -> None:
    texts = human_texts(400)
    folder = tmp_path / "letters"
    for place in range(40):
        _written(folder / f"{place}.jsonl", texts[place * 5 : place * 5 + 5])
    first = ingest(tmp_path / "store", "x", [str(folder)], IngestSettings(split_by="source", heldout_fraction=0.2))
    for place in range(40):
        _written(folder / f"{place}.jsonl", texts[place * 10 : place * 10 + 10])
    later = ingest(tmp_path / "store", "x", [str(folder)], IngestSettings(split_by="source", heldout_fraction=0.7))
    for side in ("human_train", "human_heldout"):
        before, after = (set(read_table(made[side].folder)["source"].to_pylist()) for made in (first, later))
        assert before == after


def test_a_conversation_is_stored_as_text_and_as_its_turns(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {number}.", "answer": text} for number, text in enumerate(human_texts(100))]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = IngestSettings(text_column="prompt", response_column="answer")
    made = ingest(tmp_path / "store", "pairs", [str(tmp_path / "pairs.jsonl")], settings)
    row = read_table(made["human_train"].folder).to_pylist()[0]
    assert row["messages"] == parse_chat_text(row["text"])
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]


def test_many_processes_and_one_make_the_same_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f"{text} {number}"} for number in range(8) for text in human_texts(3000)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text(lines)
    settings = IngestSettings(repeats="exact")
    monkeypatch.setattr("storage.readers.base.CHUNK_BYTES", 200_000)
    many = ingest(tmp_path / "store", "many", [str(tmp_path / "many" / "a.jsonl")], settings)
    monkeypatch.setattr("tasks.orchestration.parallel._ALONE", 10_000)
    one = ingest(tmp_path / "store", "one", [str(tmp_path / "one" / "a.jsonl")], settings)
    assert many["human_train"].settings == one["human_train"].settings
    for side in ("human_train", "human_heldout", "rejected_documents"):
        assert read_table(many[side].folder).equals(read_table(one[side].folder))


def test_why_documents_were_set_aside_is_counted(tmp_path: Path) -> None:
    texts = human_texts(100)
    source = _written(tmp_path / "a.jsonl", [*texts, texts[0], texts[1], "?!"])
    made = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    assert read_manifest(made["rejected_documents"].folder)["facts"]["reasons"] == {
        "says the same": 2,
        "holds no word": 1,
    }


def test_a_file_without_the_column_is_refused(tmp_path: Path) -> None:
    source = _written(tmp_path / "a.jsonl", human_texts(100))
    with pytest.raises(ValueError, match="has no column 'body' with text; name another with --text-column"):
        ingest(tmp_path / "store", "letters", [source], IngestSettings(text_column="body"))
    with pytest.raises(ValueError, match="cannot name a dataset"):
        ingest(tmp_path / "store", "../letters", [source], IngestSettings())
    assert _stored(tmp_path / "store") == []


def test_malformed_files_are_refused_in_a_sentence_or_accounted_for(tmp_path: Path) -> None:
    settings = IngestSettings(max_document_bytes=100_000, repeats="exact")
    (tmp_path / "all").mkdir()
    files = [write_malformed(tmp_path / "all", number) for number in range(300)]
    for file in files:
        listed = [(str(file), find_files(str(file)))]
        said = ""
        try:
            for numbered in enumerate(read_sources(listed, input_columns(settings))):
                read_blocks(ScratchTables.in_folder(tmp_path / "spills" / file.name), settings, numbered)
        except ValueError as refused:
            said = str(refused)
        assert len(said.encode().splitlines()) <= 1
    _written(tmp_path / "all" / "good.jsonl", human_texts(100))
    made = ingest(tmp_path / "store", "odd", [str(tmp_path / "all")], settings)
    heard = {row for side in made.values() for row in read_table(side.folder)["source"].to_pylist()}
    silent = {file.name for file in files} - heard
    assert all(_holds_nothing(tmp_path / "all" / name) for name in silent)
    assert set(human_texts(100)) <= set(_texts(made["human_train"])) | set(_texts(made["human_heldout"]))


def _holds_nothing(path: Path) -> bool:
    """Whether a file has no row: it is empty, or blank, or a header alone."""
    content = path.read_bytes()
    if path.suffix in (".gz", ".zst"):
        content = pa.input_stream(io.BytesIO(content), compression={".gz": "gzip", ".zst": "zstd"}[path.suffix]).read()
    if ".parquet" in path.name.lower():
        return pq.read_metadata(path).num_rows == 0
    return len([line for line in content.splitlines() if line.strip()]) <= 1
