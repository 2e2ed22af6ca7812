"""`heirloom curate`: filters on any corpus."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.cli.app import app
from tests.conftest import human_texts
from tests.support.paths import ROOT


@pytest.fixture
def repeated(tmp_path: Path) -> Path:
    """Thirty texts, ten of which are repeated, and one without a word."""
    texts = human_texts(30)
    path = tmp_path / "repeated.jsonl"
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in [*texts, *texts[:10], "!"]))
    return path


def _curate(path: Path, *arguments: str) -> Path:
    out = path.parent / "out"
    app(["curate", str(path), "--out", str(out), "--text-column", "body", *arguments], standalone_mode=False)
    return out


def test_it_prints_what_was_dropped_and_why_and_a_query_for_more(
    repeated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = _curate(repeated)
    output = capsys.readouterr().out
    assert "exact duplicate" in output
    assert "words below 3" in output
    assert "30 of 41 texts kept" in output
    assert f"{repeated}#30" in output
    assert pq.read_table(out / "kept.parquet").num_rows == 30
    _curate(repeated)
    assert "finished before" in capsys.readouterr().out


@pytest.mark.processes
def test_the_query_that_it_prints_runs(
    repeated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repeated.parent)
    _curate(Path(repeated.name))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("more examples: python ")]
    command = line.removeprefix("more examples: python ")
    result = subprocess.run(f"'{sys.executable}' {command}", shell=True, capture_output=True, text=True, check=True)
    assert "repeated.jsonl#30" in result.stdout


@pytest.mark.parametrize(
    ("texts", "warning"),
    [
        (
            ["!"] * 1 + [f"no {number}" for number in range(9)],
            "quality dropped 10 of 10 texts. Check its reasons above",
        ),
        ([human_texts(1)[0]] * 9, "exact dropped 8 of 9 texts. Check its examples above"),
    ],
)
def test_a_filter_that_drops_most_of_its_input_gets_a_warning(
    texts: list[str], warning: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    _curate(tmp_path / "some.jsonl")
    assert warning in " ".join(capsys.readouterr().out.split())


@pytest.mark.processes
def test_filters_can_be_added_and_limits_changed(repeated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = _curate(repeated, "--filter", "diversity", "--set", "encoder=hashing", "--set", "quality.words=false")
    capsys.readouterr()
    filters = set(pq.read_table(out / "decisions.parquet")["filter"].to_pylist())
    assert filters == {"exact", "quality", "minhash", "diversity"}
    with pytest.raises(
        ValueError,
        match=r"there is no filter `minhsh`\. Did you mean `minhash`\? Known names: empty, checks, best_of, exact",
    ):
        _curate(repeated, "--filter", "minhsh")


def test_repeated_lines_give_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "same.jsonl"
    path.write_text('{"body": "the very same words"}\n' * 5)
    _curate(path)
    assert "warning exact dropped 4 of 5 texts" in capsys.readouterr().out.replace("\n", " ")


def test_a_file_that_loses_more_than_the_others_gets_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "many").mkdir()
    texts = human_texts(80)
    for name, lines in (("plain", texts[:40]), ("twice", [*texts[40:], *texts[40:]])):
        (tmp_path / f"many/{name}.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in lines))
    for _ in ("made", "found finished"):
        _curate(tmp_path / "many")
        output = capsys.readouterr().out
        assert f"warning exact dropped 50.0% of {tmp_path}/many/twice.jsonl (40 of 80); usual is 0.0%" in output
        assert "plain.jsonl (" not in output


def test_a_filter_that_drops_nothing_is_listed_with_its_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text('{"body": "only one small text"}\n')
    _curate(path)
    output = capsys.readouterr().out
    assert "1 of 1 texts kept" in output
    assert [line.split() for line in output.splitlines() if line.startswith("minhash")] == [["minhash", "0", "1"]]


@pytest.mark.processes
def test_it_starts_without_prefect_torch_or_vllm(repeated: Path) -> None:
    heavy = "{'prefect', 'torch', 'vllm', 'transformers', 'sentence_transformers', 'sklearn', 'duckdb'}"
    arguments = ["heirloom", "curate", str(repeated), "--out", str(repeated.parent / "alone"), "--text-column", "body"]
    code = (
        f"import sys; sys.argv = {arguments!r}; from flows.cli.app import main\n"
        f"main()\nprint('heavy:', sorted({heavy} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "heavy: []" in found.stdout


@pytest.mark.parametrize(("normalization", "has_warning"), [("text", True), ("code", False)])
def test_programs_that_differ_in_what_prose_ignores_are_counted_or_kept(
    normalization: str, has_warning: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = "for row in rows:\n    add(row)\n{}report(row)\nclose(all_of_them)"
    texts = [program.format("    "), program.format(""), program.format("    ").upper()]
    path = tmp_path / "programs.jsonl"
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    _curate(path, "--set", f"minhash.normalization={normalization}")
    output = " ".join(capsys.readouterr().out.split())
    assert ("2 near-duplicates have a similarity of 1" in output) == has_warning
    assert ("--set minhash.normalization=code" in output) == has_warning
    assert ("3 of 3 texts kept" in output) == (not has_warning)
