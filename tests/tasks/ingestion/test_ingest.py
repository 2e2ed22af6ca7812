import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.operations.malformed_files import write_malformed
from curation.chat import parse
from curation.splitting import IngestSettings, is_held_out
from flows.config.site import Site
from storage.artifacts.artifact import AbsentError, Artifact, read_manifest, read_table
from storage.artifacts.ids import human_id, text_digest
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.readers.discovery import find_files, read_sources
from storage.runs.run import Attempt, Run
from tasks.ingestion.ingest import ingest, pinned_human
from tasks.ingestion.read import Spills, columns_of, read_blocks
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
    reserve, heldout = _texts(made["reserve"]), _texts(made["heldout"])
    assert sorted(reserve + heldout) == sorted(texts)
    assert not set(reserve) & set(heldout)
    assert read_table(made["set_aside"].folder).num_rows == 0


def test_a_record_says_where_it_comes_from(tmp_path: Path) -> None:
    texts = human_texts(100)
    made = ingest(tmp_path / "store", "letters", [_written(tmp_path / "a.jsonl", texts)], IngestSettings())
    row = read_table(made["reserve"].folder).to_pylist()[0]
    assert (row["id"], row["origin"], row["born"], row["source"]) == (human_id(row["text"]), "human", 0, "a.jsonl")


def test_repeated_documents_are_set_aside_with_their_keeper(tmp_path: Path) -> None:
    texts = human_texts(100)
    near = texts[7].replace(" It was", " Then it was")
    source = _written(tmp_path / "a.jsonl", [*texts, texts[3].upper(), near, "", "?!"])
    made = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    aside = {row["place"]: row for row in read_table(made["set_aside"].folder).to_pylist()}
    assert set(aside) == {100, 101, 102, 103}
    assert (aside[100]["stage"], aside[100]["keeper"], aside[100]["evidence"]) == ("exact", human_id(texts[3]), 1.0)
    assert (aside[101]["stage"], aside[101]["keeper"]) == ("minhash", human_id(texts[7]))
    assert 0.7 <= aside[101]["evidence"] < 1
    assert aside[103]["reason"] == "holds no word"
    assert read_manifest(made["reserve"].folder)["rows"] + read_manifest(made["heldout"].folder)["rows"] == 100


def test_splitting_by_source_keeps_a_file_on_one_side(tmp_path: Path) -> None:
    texts = human_texts(200)
    names = [f"{place}.jsonl" for place in range(40)]
    for place, name in enumerate(names):
        _written(tmp_path / "letters" / name, texts[place * 5 : place * 5 + 5])
    settings = IngestSettings(split_by="source", heldout_fraction=0.3)
    made = ingest(tmp_path / "store", "letters", [str(tmp_path / "letters")], settings)
    sides = {side: set(read_table(made[side].folder)["source"].to_pylist()) for side in ("reserve", "heldout")}
    assert sides["heldout"] == {name for name in names if is_held_out(name, 0.3)}
    assert sides["reserve"] == set(names) - sides["heldout"]


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
    ingest(tmp_path / "store", "letters", [source], IngestSettings(heldout_records=50))
    assert newest_snapshot(tmp_path / "store", "letters") == 2


def test_a_second_ingest_keeps_the_earlier_records_on_their_sides(tmp_path: Path) -> None:
    texts = human_texts(220)
    one, two = _written(tmp_path / "a.jsonl", texts[:120]), _written(tmp_path / "b.jsonl", texts[110:])
    first = ingest(tmp_path / "store", "letters", [one], IngestSettings())
    bytes_before = (first["reserve"].folder / "part-00000.parquet").read_bytes()
    second = ingest(tmp_path / "store", "letters", [two], IngestSettings())
    assert newest_snapshot(tmp_path / "store", "letters") == 2
    for side in ("reserve", "heldout"):
        earlier, later = _texts(first[side]), _texts(second[side])
        assert later[: len(earlier)] == earlier
        assert len(later) > len(earlier)
    assert sorted(_texts(second["reserve"]) + _texts(second["heldout"])) == sorted(texts)
    assert read_manifest(second["set_aside"].folder)["rows"] == 10
    assert (first["reserve"].folder / "part-00000.parquet").read_bytes() == bytes_before


def test_a_full_reserve_sets_the_rest_aside(tmp_path: Path) -> None:
    source = _written(tmp_path / "a.jsonl", human_texts(100))
    settings = IngestSettings(reserve_records=30, heldout_records=6)
    made = ingest(tmp_path / "store", "letters", [source], settings)
    assert (len(_texts(made["reserve"])), len(_texts(made["heldout"]))) == (30, 6)
    aside = read_table(made["set_aside"].folder).to_pylist()
    assert len(aside) == 64
    assert {row["reason"] for row in aside} == {"the reserve is full", "the heldout is full"}


def test_documents_can_be_cut_into_passages(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("\n\n".join(human_texts(200)))
    settings = IngestSettings(passage_characters=(60, 200))
    made = ingest(tmp_path / "store", "book", [str(tmp_path / "book.txt")], settings)
    texts = _texts(made["reserve"]) + _texts(made["heldout"])
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
    assert "half a face ? and words" in _texts(made["reserve"]) + _texts(made["heldout"])


def test_other_documents_can_follow_an_ingest_that_was_interrupted(tmp_path: Path) -> None:
    root = tmp_path / "store"
    made = ingest(root, "letters", [_written(tmp_path / "a.jsonl", human_texts(100))], IngestSettings())
    # The reserve is published last; a kill before it leaves the other two.
    for path in made["reserve"].folder.iterdir():
        path.unlink()
    made["reserve"].folder.rmdir()
    texts = human_texts(100, seed=1)
    again = ingest(root, "letters", [_written(tmp_path / "b.jsonl", texts)], IngestSettings())
    assert sorted(_texts(again["reserve"]) + _texts(again["heldout"])) == sorted(texts)
    assert newest_snapshot(root, "letters") == 2


def test_the_same_documents_finish_an_ingest_that_was_interrupted(tmp_path: Path) -> None:
    root, source = tmp_path / "store", _written(tmp_path / "a.jsonl", human_texts(100))
    made = ingest(root, "letters", [source], IngestSettings())
    expected = _texts(made["reserve"])
    for path in made["reserve"].folder.iterdir():
        path.unlink()
    made["reserve"].folder.rmdir()
    assert _texts(ingest(root, "letters", [source], IngestSettings())["reserve"]) == expected
    assert newest_snapshot(root, "letters") == 1


def test_a_run_is_measured_on_the_held_out_set_it_began_with(ingested: Site, tmp_path: Path) -> None:
    run = Run(ingested.store, "tiny")
    run.begin({}, set(), {})
    before = pinned_human(Attempt(run, 0), "letters")
    ingest(ingested.store, "letters", [_written(tmp_path / "b.jsonl", human_texts(120, seed=1))], IngestSettings())
    again, later = (pinned_human(Attempt(run, generation), "letters") for generation in (0, 1))
    assert again == before
    assert later["heldout"] == before["heldout"]
    assert later["reserve"].folder == human_folder(ingested.store, "letters", 2) / "reserve"
    assert later["reserve"].finished()


def test_human_text_that_was_never_ingested_is_refused(ingested: Site) -> None:
    run = Run(ingested.store, "tiny")
    run.begin({}, set(), {})
    with pytest.raises(AbsentError, match="there is no human text 'diaries'"):
        pinned_human(Attempt(run, 0), "diaries")


def test_a_text_that_was_forgotten_does_not_come_back(tmp_path: Path, letters: Path) -> None:
    from storage.artifacts.artifact import read_table
    from storage.artifacts.tombstones import bury

    first = ingest(tmp_path / "store", "letters", [str(letters)], IngestSettings())
    gone = read_table(first["reserve"].folder).to_pylist()[0]
    bury(tmp_path / "store", {gone["id"]: gone["digest"]}, "")
    again = ingest(tmp_path / "store", "again", [str(letters)], IngestSettings())
    assert gone["id"] not in read_table(again["reserve"].folder)["id"].to_pylist()
    aside = [row for row in read_table(again["set_aside"].folder).to_pylist() if row["stage"] == "forget"]
    assert [(row["id"], row["reason"]) for row in aside] == [(gone["id"], "was forgotten")]
    more = ingest(tmp_path / "store", "letters", [str(letters)], IngestSettings(heldout_fraction=0.3))
    assert more["reserve"].folder != first["reserve"].folder
    assert gone["id"] not in read_table(more["reserve"].folder)["id"].to_pylist()


def test_a_newcomer_that_nearly_repeats_the_other_side_is_dropped_whichever_side_it_is_for(tmp_path: Path) -> None:
    texts = human_texts(120)
    first = ingest(tmp_path / "store", "letters", [_written(tmp_path / "a.jsonl", texts)], IngestSettings())
    near = [text.replace(" It was", " Then it was") for text in texts]
    source = _written(tmp_path / "b.jsonl", [*near, *human_texts(40, seed=1)])
    second = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    stored = {side: set(_texts(second[side])) for side in ("reserve", "heldout")}
    assert not (stored["reserve"] | stored["heldout"]) & set(near)
    assert {side: set(_texts(first[side])) <= stored[side] for side in stored} == {"reserve": True, "heldout": True}
    crossed = [text for text in near if is_held_out(text_digest(text), 0.15) != is_held_out(_twin(text), 0.15)]
    assert len(crossed) > 5


def _twin(text: str) -> str:
    return text_digest(text.replace(" Then it was", " It was"))


def test_a_group_stays_on_its_side_when_another_share_is_held_out(tmp_path: Path) -> None:
    texts = human_texts(400)
    folder = tmp_path / "letters"
    for place in range(40):
        _written(folder / f"{place}.jsonl", texts[place * 5 : place * 5 + 5])
    first = ingest(tmp_path / "store", "x", [str(folder)], IngestSettings(split_by="source", heldout_fraction=0.2))
    for place in range(40):
        _written(folder / f"{place}.jsonl", texts[place * 10 : place * 10 + 10])
    later = ingest(tmp_path / "store", "x", [str(folder)], IngestSettings(split_by="source", heldout_fraction=0.7))
    for side in ("reserve", "heldout"):
        before, after = (set(read_table(made[side].folder)["source"].to_pylist()) for made in (first, later))
        assert before == after


def test_a_conversation_is_stored_as_text_and_as_its_turns(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {number}.", "answer": text} for number, text in enumerate(human_texts(100))]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = IngestSettings(column="prompt", response_column="answer")
    made = ingest(tmp_path / "store", "pairs", [str(tmp_path / "pairs.jsonl")], settings)
    row = read_table(made["reserve"].folder).to_pylist()[0]
    assert row["messages"] == parse(row["text"])
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
    assert many["reserve"].settings == one["reserve"].settings
    for side in ("reserve", "heldout", "set_aside"):
        assert read_table(many[side].folder).equals(read_table(one[side].folder))


def test_why_documents_were_set_aside_is_counted(tmp_path: Path) -> None:
    texts = human_texts(100)
    source = _written(tmp_path / "a.jsonl", [*texts, texts[0], texts[1], "?!"])
    made = ingest(tmp_path / "store", "letters", [source], IngestSettings())
    assert read_manifest(made["set_aside"].folder)["facts"]["reasons"] == {"says the same": 2, "holds no word": 1}


def test_a_file_without_the_column_is_refused(tmp_path: Path) -> None:
    source = _written(tmp_path / "a.jsonl", human_texts(100))
    with pytest.raises(ValueError, match="has no column 'body' with text; name another with --column"):
        ingest(tmp_path / "store", "letters", [source], IngestSettings(column="body"))
    with pytest.raises(ValueError, match="cannot name human text"):
        ingest(tmp_path / "store", "../letters", [source], IngestSettings())
    assert _stored(tmp_path / "store") == []


def test_malformed_files_are_refused_in_a_sentence_or_accounted_for(tmp_path: Path) -> None:
    settings = IngestSettings(longest_document_bytes=100_000, repeats="exact")
    (tmp_path / "all").mkdir()
    files = [write_malformed(tmp_path / "all", number) for number in range(300)]
    for file in files:
        listed = [(str(file), find_files(str(file)))]
        said = ""
        try:
            for numbered in enumerate(read_sources(listed, columns_of(settings))):
                read_blocks(Spills.under(tmp_path / "spills" / file.name), settings, numbered)
        except ValueError as refused:
            said = str(refused)
        assert len(said.encode().splitlines()) <= 1
    _written(tmp_path / "all" / "good.jsonl", human_texts(100))
    made = ingest(tmp_path / "store", "odd", [str(tmp_path / "all")], settings)
    heard = {row for side in made.values() for row in read_table(side.folder)["source"].to_pylist()}
    silent = {file.name for file in files} - heard
    assert all(_holds_nothing(tmp_path / "all" / name) for name in silent)
    assert set(human_texts(100)) <= set(_texts(made["reserve"])) | set(_texts(made["heldout"]))


def _holds_nothing(path: Path) -> bool:
    """Whether a file has no row: it is empty, or blank, or a header alone."""
    content = path.read_bytes()
    if path.suffix in (".gz", ".zst"):
        content = pa.input_stream(io.BytesIO(content), compression={".gz": "gzip", ".zst": "zstd"}[path.suffix]).read()
    if ".parquet" in path.name.lower():
        return pq.read_metadata(path).num_rows == 0
    return len([line for line in content.splitlines() if line.strip()]) <= 1
