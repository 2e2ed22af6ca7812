"""Write the reference pages from the code, and tables of figures from the results: `python docs/reference.py`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa  # noqa: TC002
from pydantic import BaseModel

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import results  # noqa: E402

from curation.splitting import EvalSetSettings, IngestSettings  # noqa: E402
from flows.config.recipe import Recipe  # noqa: E402
from flows.config.site import Site  # noqa: E402
from storage.artifacts import schemas as records  # noqa: E402
from storage.query.catalog import open_catalog  # noqa: E402
from storage.query.named_queries import QUERIES, parameters  # noqa: E402
from tasks.backends import GaussianMixtureTraining, NgramTraining, TransformerTraining, VaeTraining  # noqa: E402


def pages() -> dict[Path, str]:
    """Every generated page and what it should say."""
    return {
        ROOT / "docs/recipe.md": _recipe(),
        ROOT / "docs/storage.md": _storage(),
        ROOT / "docs/reproductions.md": results.reproductions(),
        ROOT / "docs/headline.md": results.headline(),
        ROOT / "docs/figures.md": results.figures(),
        ROOT / "README.md": results.readme(),
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
    lines += ["", "## Evaluation sets (`heirloom add-eval-set --set key=value`)", "", *_table(EvalSetSettings, "")]
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
        "<store>/human/<name>/snapshot=1/            human_train/ human_heldout/ rejected_documents/",
        "                   eval_sets/<set>/        records/ rejected_documents/ eval_exposures=1/",
        "        runs/<run>/run.json                 recipe as resolved, site, provenance",
        "                   journal.jsonl            what began, was accepted, stopped, and why",
        "                   generation=3/attempt=1/  excluded_records/ candidates/ embeddings/ decisions/ index/ human_train_index/",
        "                                            corpus/ contamination_report/ base/ pairs/ model/ eval_samples/ metrics/ verdict/",
        "        reports/<name>/                     report.html report.md collapse.png",
        "        logs/                               what worker processes said",
        "        tombstones.jsonl                     tombstones: what no later corpus, prompt or view holds",
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
        "`heirloom sql` has these. Views by generation show accepted attempts and also exist as `<view>_all_attempts`.",
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
        "`heirloom query NAME ARGUMENTS`; `$` marks an argument.",
        "",
    ]
    for name, query in QUERIES.items():
        lines += [
            f"**{' '.join([name, *(one.upper() for one in parameters(name))])}**",
            "",
            "```sql",
            _unindented(query),
            "```",
            "",
        ]
    lines += ["## Column types", ""]
    for name in (
        "HUMAN_RECORDS",
        "CANDIDATES",
        "DECISIONS",
        "CORPUS",
        "METRICS",
        "GATE_RESULTS",
        "CONTAMINATION_REPORT",
        "EVAL_EXPOSURES",
    ):
        schema: pa.Schema = getattr(records, name)
        lines.append(f"- {name.lower()}: " + ", ".join(f"{field.name} {field.type}" for field in schema))
    return "\n".join(lines) + "\n"


_INDEX = """## Index

`index/` has a row for every record that survived the curation of its generation, `human_train_index/` one for every record of the reserve, once a run:

- `id`, `text_hash`, `source_generation`: as in the table that holds the text. A forgotten record's sketch is used no more, and `heirloom erase --redact-files` takes it out.
- `high`, `low`: the first and second half of its exact key, 16 bytes of SHA-256 of the normalized text, each little-endian.
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
was finished when it was written; run the command again after the next generation, and after `heirloom erase`. DuckDB says where a file is by the folder that its
temporary files would go to. So where that is set otherwise, or the file is attached to another database, name its folder first:

```sql
attach 'heirloom-store/catalog.duckdb' as heirloom (read_only);
set variable store = 'heirloom-store';
select run, generation, human_fraction from heirloom.generations;
```

Which run, generation and attempt a row belongs to is read off its file's path: a question with `generation = 3` opens those files alone.
Decisions against a record come before the others in their file, so that a question about drops reads little. `text` is read by
questions that name it, or say `*`.

`heirloom export RUN --generation N --to hf` (or `jsonl`, `parquet`) writes a folder with the records of one corpus and their licenses,
`README.md` (a data card with the front matter of a dataset hub) and `croissant.json`; `datasets.load_dataset(FOLDER)` opens it.""".splitlines()


def _unindented(query: str) -> str:
    lines = query.strip("\n").splitlines()
    return "\n".join(line.removeprefix("        ") for line in lines)


if __name__ == "__main__":
    for page, content in pages().items():
        page.write_text(content)
