"""Write the reference pages from the code, and the tables of the README from the results: `python docs/reference.py`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa  # noqa: TC002
from pydantic import BaseModel

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from curation.splitting import IngestSettings, WithholdSettings  # noqa: E402
from flows.recipe import Recipe, Site  # noqa: E402
from storage import records  # noqa: E402
from storage.catalog import open_catalog  # noqa: E402
from storage.questions import QUESTIONS  # noqa: E402
from tasks.backends import NgramTraining, TransformerTraining  # noqa: E402

_BEGIN, _END = "<!-- results: begin -->", "<!-- results: end -->"


def pages() -> dict[Path, str]:
    """Every generated page and what it should say."""
    return {
        ROOT / "docs/recipe.md": _recipe(),
        ROOT / "docs/storage.md": _storage(),
        ROOT / "README.md": _readme(),
    }


def _recipe() -> str:
    lines = ["# Every setting", "", "Generated from the code by `python docs/reference.py`.", "", "## Recipe", ""]
    lines += _table(Recipe, "")
    for title, model in (
        ("`[train]` with backend transformer", TransformerTraining),
        ("`[train]` with backend ngram", NgramTraining),
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
        "                   generation=3/attempt=1/  kept_out/ candidates/ embeddings/ decisions/ corpus/ contamination/",
        "                                            model/ voice/ metrics/ verdict/",
        "        reports/<name>/                     report.html report.md collapse.png",
        "        logs/                               what worker processes said",
        "        forgotten.jsonl                     tombstones: what no later corpus, prompt or view holds",
        "```",
        "",
        "Each artifact folder holds `part-00000.parquet`, ... (or weights) and `_manifest.json`. Any DuckDB reads the files as they are:",
        "`read_parquet('<store>/runs/*/generation=*/attempt=*/corpus/*.parquet', hive_partitioning=true)`.",
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
    lines += ["", "## Named questions", "", "`heirloom ask NAME`:", ""]
    for name, query in QUESTIONS.items():
        lines += [f"**{name}**", "", "```sql", _unindented(query), "```", ""]
    lines += ["## Column types", ""]
    for name in ("RESERVE", "CANDIDATES", "DECISIONS", "CORPUS", "METRICS", "VERDICTS", "CONTAMINATION", "MET"):
        schema: pa.Schema = getattr(records, name)
        lines.append(f"- {name.lower()}: " + ", ".join(f"{field.name} {field.type}" for field in schema))
    return "\n".join(lines) + "\n"


def _unindented(query: str) -> str:
    lines = query.strip("\n").splitlines()
    return "\n".join(line.removeprefix("        ") for line in lines)


def _readme() -> str:
    text = (ROOT / "README.md").read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{_results()}\n{_END}{after}"


def _results() -> str:
    lines = ["| figure | value | goal | holds |", "|---|--:|---|---|"]
    for path in sorted((ROOT / "benchmarks/results").glob("*.json")):
        result = json.loads(path.read_text())
        for figure in result["figures"]:
            if figure["goal"]:
                holds = {True: "yes", False: "**no**", None: "not for this machine to say"}[figure["holds"]]
                value = f"{figure['value']} {figure['unit']}".strip()
                lines.append(f"| {path.stem}: {figure['name']} | {value} | {figure['goal']} | {holds} |")
    return "\n".join(lines)


if __name__ == "__main__":
    for page, content in pages().items():
        page.write_text(content)
