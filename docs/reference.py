"""Write the reference pages from the code, and the tables of the README from the results: `python docs/reference.py`."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa  # noqa: TC002
from pydantic import BaseModel

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from curation.splitting import IngestSettings, WithholdSettings  # noqa: E402
from flows.recipe import Recipe, Site  # noqa: E402
from storage import records  # noqa: E402
from storage.catalog import open_catalog  # noqa: E402
from storage.questions import QUESTIONS, wanted  # noqa: E402
from tasks.backends import GaussianMixtureTraining, NgramTraining, TransformerTraining, VaeTraining  # noqa: E402

_BEGIN, _END = "<!-- results: begin -->", "<!-- results: end -->"
_ROW = re.compile(r"<!-- row (\S+): begin -->\n.*?<!-- row \1: end -->", re.DOTALL)


def pages() -> dict[Path, str]:
    """Every generated page and what it should say."""
    return {
        ROOT / "docs/recipe.md": _recipe(),
        ROOT / "docs/storage.md": _storage(),
        ROOT / "docs/reproductions.md": _reproductions(),
        ROOT / "docs/figures.md": _figures(),
        ROOT / "README.md": _readme(),
    }


def _recipe() -> str:
    lines = ["# Every setting", "", "Generated from the code by `python docs/reference.py`.", "", "## Recipe", ""]
    lines += _table(Recipe, "")
    for title, model in (
        ("`[train]` with backend transformer", TransformerTraining),
        ("`[train]` with backend ngram", NgramTraining),
        ("`[train]` with backend gaussian-mixture", GaussianMixtureTraining),
        ("`[train]` with backend vae", VaeTraining),
    ):
        lines += ["", f"## {title}", "", *_table(model, "train.")]
    lines += ["", "## Ingest (`heirloom ingest --set key=value`)", "", *_table(IngestSettings, "")]
    lines += ["", "## Evaluation sets (`heirloom withhold --set key=value`)", "", *_table(WithholdSettings, "")]
    lines += ["", "## Site (`--site FILE`)", "", *_table(Site, "")]
    return "\n".join(lines) + "\n"


def _table(model: type[BaseModel], prefix: str) -> list[str]:
    return ["| key | default | meaning |", "|---|---|---|", *_rows(model, prefix)]


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _rows(inner, f"{prefix}{name}.")
        elif name != "train":
            default = "" if field.is_required() else _default(field.get_default(call_default_factory=True))
            yield f"| `{prefix}{name}` | {default} | {field.description or ''} |"


def _default(value: object) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return "; ".join(f"`{one.model_dump_json(exclude_none=True)}`" for one in value if isinstance(one, BaseModel))
    return f"`{value!r}`" if not isinstance(value, Path) else f"`{value}`"


def _storage() -> str:
    lines = [
        "# The store",
        "",
        "Generated from the code by `python docs/reference.py`.",
        "",
        "```",
        "<store>/human/<name>/snapshot=1/            reserve/ heldout/ set_aside/",
        "                   evaluation/<set>/        records/ set_aside/ met=1/",
        "        runs/<run>/run.json                 recipe as resolved, site, provenance",
        "                   journal.jsonl            what began, was accepted, stopped, and why",
        "                   generation=3/attempt=1/  kept_out/ candidates/ embeddings/ decisions/ index/ reserve_index/",
        "                                            corpus/ contamination/ base/ pairs/ model/ voice/ metrics/ verdict/",
        "        reports/<name>/                     report.html report.md collapse.png",
        "        logs/                               what worker processes said",
        "        forgotten.jsonl                     tombstones: what no later corpus, prompt or view holds",
        "        catalog.duckdb                      every view, where heirloom catalog was run",
        "```",
        "",
        "Each artifact folder holds `part-00000.parquet`, ... (or weights) and `_manifest.json`. Any DuckDB reads the files as they are:",
        "`read_parquet('<store>/runs/*/generation=*/attempt=*/corpus/*.parquet', hive_partitioning=true)`.",
        "",
        *_INDEX,
        "",
        "## Views",
        "",
        "`heirloom sql` has these. Views by generation show accepted attempts and also exist as `<view>_all`.",
        "",
    ]
    catalog = open_catalog(ROOT / "docs")
    for (name,) in catalog.sql("select table_name from information_schema.tables order by all").fetchall():
        if not name.endswith("_all"):
            columns = ", ".join(f"`{column}`" for column in catalog.sql(f"select * from {name}").columns)
            lines.append(f"- **{name}**: {columns}")
    lines += [
        "",
        "## Asking",
        "",
        *_ASKING,
        "",
        "## Named questions",
        "",
        "`heirloom ask NAME ARGUMENTS`; `$` marks an argument.",
        "",
    ]
    for name, query in QUESTIONS.items():
        lines += [
            f"**{' '.join([name, *(one.upper() for one in wanted(name))])}**",
            "",
            "```sql",
            _unindented(query),
            "```",
            "",
        ]
    lines += ["## Column types", ""]
    for name in ("RESERVE", "CANDIDATES", "DECISIONS", "CORPUS", "METRICS", "VERDICTS", "CONTAMINATION", "MET"):
        schema: pa.Schema = getattr(records, name)
        lines.append(f"- {name.lower()}: " + ", ".join(f"{field.name} {field.type}" for field in schema))
    return "\n".join(lines) + "\n"


_INDEX = """## Index

`index/` has a row for every record that survived the curation of its generation, `reserve_index/` one for every record of the reserve, once a run:

- `id`, `digest`, `born`: as in the table that holds the text. A forgotten record's sketch is used no more, and `heirloom forget --rewrite` takes it out.
- `high`, `low`: the first and second half of its exact key, 16 bytes of SHA-256 of the normalised text, each little-endian.
- `signature`: the lower 16 bits of each value of its signature, little-endian; 250 bytes with the default settings.
- `band_0`, `band_1`, ...: its band hashes; 0 where it has no shingle.

The manifest's settings say which sketches they are; [near-duplicates.md](near-duplicates.md) specifies them. An index can be removed at any time: whoever
needs it makes it again from the texts, as it was.
""".splitlines()

_ASKING = """A question changes nothing. A statement is let in only if its syntax tree holds nothing but reading (`SELECT`, `FROM`, `WITH`,
`DESCRIBE`, `SUMMARIZE`, `SHOW`, `EXPLAIN`, and `PIVOT` with its columns named); DuckDB opens no file outside the store, loads no
extension, and its settings are locked. `--allow-files` lets a question read other files too; it still writes none. Answers are kept
with `--out answer.parquet` (or `.csv`, `.json`).

`heirloom catalog` writes `catalog.duckdb` into the store, or a file of your choice. Any DuckDB of the same version opens it from any
working directory, and the store can be moved with it: views say where parts are relative to the file. What the file shows is what
was finished when it was written; run the command again after the next generation, and after `heirloom forget`. DuckDB says where a file is by the folder that its
temporary files would go to. So where that is set otherwise, or the file is attached to another database, name its folder first:

```sql
attach 'heirloom-store/catalog.duckdb' as heirloom (read_only);
set variable store = 'heirloom-store';
select run, generation, human_fraction from heirloom.generations;
```

Which run, generation and attempt a row belongs to is read off its file's path: a question with `generation = 3` opens those files alone.
Decisions against a record come before the others in their file, so that a question about drops reads little. `text` is read by
questions that name it, or say `*`.

`heirloom export RUN --generation N --to hf` (or `jsonl`, `parquet`) writes a folder with the records of one corpus and their licences,
`README.md` (a data card with the front matter of a dataset hub) and `croissant.json`; `datasets.load_dataset(FOLDER)` opens it.""".splitlines()


def _unindented(query: str) -> str:
    lines = query.strip("\n").splitlines()
    return "\n".join(line.removeprefix("        ") for line in lines)


def _readme() -> str:
    text = (ROOT / "README.md").read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{_results()}\n{_END}{after}"


_TOLD = {
    "demo": ("naive: held-out perplexity, last over", "guarded: held-out perplexity", "guarded: rare-word coverage"),
    "dedup": ("CPU of datasketch bulk over ours", "ours: recall, exact truth", "ours: precision, exact truth"),
    "generation": ("generate beside a bare LLM.generate", "10,000 candidates, killed in the middle: rows"),
    "operate": ("worker-killed: finished after", "CPU time of the Prefect run", "threads and a local Ray cluster"),
    "storage": ("asking 1,000,000 records: life_of a candidate", "transformer and vLLM: files unlike"),
    "training": ("the fast path: CPU time", "killed and resumed: files that differ"),
}
"""What the front page tells of each benchmark, by how the name of a figure begins; and what was missed, it tells in any case."""


def _results() -> str:
    """The front page's choice, every goal that was missed, and how many there are in all."""
    stated = [(name, one) for name, figures in _measured() for one in figures if one["goal"]]
    lines = [
        _row(name, one) for name, one in stated if one["holds"] is False or one["name"].startswith(_TOLD.get(name, ()))
    ]
    decided = [one["holds"] for _, one in stated if one["holds"] is not None]
    return "\n".join(
        [
            *_HEAD,
            *lines,
            "",
            f"{sum(decided)} of {len(decided)} goals hold; all of them: [docs/figures.md](docs/figures.md).",
        ]
    )


def _figures() -> str:
    """Every figure there is, by benchmark."""
    lines = [
        "# Every figure",
        "",
        "Written from [benchmarks/results](../benchmarks/results) by `python docs/reference.py`.",
    ]
    for name, figures in _measured():
        told = json.loads((_RESULTS / f"{name}.json").read_text())
        lines += [
            "",
            f"## {name}",
            "",
            f"`{told['command']}`, {told['seconds']:,.0f} s on {told['machine']}.",
            "",
            *_HEAD,
        ]
        lines += [_row("", one) for one in figures]
    return "\n".join(lines) + "\n"


_RESULTS = ROOT / "benchmarks/results"
_HEAD = ("| figure | value | goal | holds |", "|---|--:|---|---|")


def _measured() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Figures by benchmark; reproductions have a page of their own."""
    for path in sorted(_RESULTS.glob("*.json")):
        if path.stem != "reproductions":
            yield path.stem, json.loads(path.read_text())["figures"]


def _row(name: str, figure: dict[str, Any]) -> str:
    unsaid = "not for this machine to say" if figure["goal"] else ""
    holds = {True: "yes", False: "**no**", None: unsaid}[figure["holds"]]
    title = f"{name}: {figure['name']}" if name else figure["name"]
    return f"| {title} | {figure['value']} {figure['unit']} | {figure['goal']} | {holds} |".replace("  ", " ")


def _reproductions() -> str:
    written = _RESULTS / "reproductions.json"
    figures = json.loads(written.read_text())["figures"] if written.exists() else []

    def table(found: re.Match[str]) -> str:
        row = found[1]
        lines = ["| claim | published | ours | agrees |", "|---|---|--:|---|"]
        for figure in figures:
            if figure["name"].startswith(f"{row}: "):
                agrees = {True: "yes", False: "**no**", None: ""}[figure["holds"]]
                value = f"{figure['value']} {figure['unit']}".strip()
                lines.append(f"| {figure['name'].removeprefix(f'{row}: ')} | {figure['goal']} | {value} | {agrees} |")
        return "\n".join([f"<!-- row {row}: begin -->", *lines, f"<!-- row {row}: end -->"])

    return _ROW.sub(table, (ROOT / "docs/reproductions.md").read_text())


if __name__ == "__main__":
    for page, content in pages().items():
        page.write_text(content)
