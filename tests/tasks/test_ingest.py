import json
from pathlib import Path

import pytest

from curation.splitting import IngestSettings, is_held_out
from flows.recipe import Site
from storage.artifact import AbsentError, Artifact, read_manifest, read_table
from storage.records import human_id
from storage.run import Attempt, Run, human_folder, newest_snapshot
from tasks.ingest import ingest, pinned_human
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
    from storage.artifact import read_table
    from storage.tombstones import bury

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
