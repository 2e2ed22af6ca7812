"""Write the reference pages from the code, and the tables of figures from the results: `python docs/reference.py`."""

import inspect
import sys
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow as pa  # noqa: TC002
import typer
from pydantic import BaseModel
from typer.models import ArgumentInfo, CommandInfo, OptionInfo, ParameterInfo

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import results  # noqa: E402

from curation.splitting import EvalSetSettings, IngestSettings  # noqa: E402
from flows.cli.app import app  # noqa: E402
from flows.config.recipe import Recipe  # noqa: E402
from flows.config.site import Site  # noqa: E402
from storage.artifacts import schemas  # noqa: E402
from storage.query.catalog import open_catalog  # noqa: E402
from storage.query.named_queries import QUERIES, parameters  # noqa: E402
from tasks.backends import GaussianMixtureTraining, NgramTraining, TransformerTraining, VaeTraining  # noqa: E402

_GENERATED = "Generated from the code by `make docs`."


def pages() -> dict[Path, str]:
    """Return every generated page and its content."""
    return {
        ROOT / "docs/commands.md": _commands(),
        ROOT / "docs/recipe.md": _recipe(),
        ROOT / "docs/storage.md": _storage(),
        ROOT / "docs/reproductions.md": results.reproductions(),
        ROOT / "docs/headline.md": results.headline(),
        ROOT / "docs/figures.md": results.figures(),
        ROOT / "README.md": results.readme(),
    }


def _commands() -> str:
    lines = ["# Commands", "", f"Every command of `heirloom` with its options. {_GENERATED}"]
    lines += ["The same text is printed by `heirloom COMMAND --help`.", "", "## Overview", ""]
    commands = dict(_named_commands(app, "heirloom"))
    lines += ["| command | does |", "|---|---|"]
    for name, command in commands.items():
        lines.append(f"| [`{name}`](#{name.replace(' ', '-')}) | {_summary(command)} |")
    for name, command in commands.items():
        example = (command.epilog or "").removeprefix("Example:").strip(" `\n")
        lines += ["", f"## {name}", "", _summary(command), "", "```sh", example, "```", ""]
        lines += ["| argument or option | type | default | meaning |", "|---|---|---|---|", *_parameters(command)]
    return "\n".join(lines) + "\n"


def _named_commands(group: typer.Typer, prefix: str) -> Iterator[tuple[str, CommandInfo]]:
    """Yield every command of a group and of the groups below it, with its full name."""
    for command in group.registered_commands:
        function = getattr(command.callback, "__name__", "")
        yield f"{prefix} {command.name or function.replace('_', '-')}", command
    for below in group.registered_groups:
        if below.typer_instance:
            yield from _named_commands(below.typer_instance, f"{prefix} {below.name}")


def _summary(command: CommandInfo) -> str:
    """Return the help of a command, which is its docstring unless it has a `help`."""
    return _cell(command.help or inspect.getdoc(command.callback) or "")


def _parameters(command: CommandInfo) -> Iterator[str]:
    """Yield a table row for each argument and option: name, type, default, help."""
    function = command.callback
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items() if function else ():
        annotated = typing.get_origin(hints[name]) is typing.Annotated
        annotation, *extras = typing.get_args(hints[name]) if annotated else (hints[name],)
        infos = [extra for extra in extras if isinstance(extra, OptionInfo | ArgumentInfo)]
        info = infos[0] if infos else OptionInfo()
        if isinstance(info, ArgumentInfo):
            label = f"`{(info.metavar or name).upper()}`"
        else:
            # With Annotated, typer stores the first name of an option as its default.
            names = [option for option in (info.default, *(info.param_decls or ())) if str(option).startswith("-")]
            label = ", ".join(f"`{option}`" for option in names or [f"--{name.replace('_', '-')}"])
        missing = parameter.default is inspect.Parameter.empty
        default = "required" if missing else _cli_default(parameter.default)
        yield f"| {label} | {_kind(annotation, info)} | {default} | {_cell(info.help or '')} |"


def _kind(annotation: Any, info: ParameterInfo) -> str:  # noqa: ANN401  (any type that typer accepts)
    options = [option for option in typing.get_args(annotation) if option is not type(None)]
    if typing.get_origin(annotation) in (list, tuple):
        return f"{_kind(options[0], info)}, repeatable"
    if options:
        return _kind(options[0], info)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(str(member.value) for member in annotation)
    name = (
        "flag"
        if annotation is bool
        else {"str": "text", "int": "integer"}.get(annotation.__name__, annotation.__name__.lower())
    )
    if info.min is not None and info.max is not None:
        return f"{name}, {info.min} to {info.max}"
    return f"{name}, {info.min} or more" if info.min is not None else name


def _cli_default(default: object) -> str:
    return (
        ""
        if default is None or default is False or default in ((), [], "")
        else f"`{getattr(default, 'value', default)}`"
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _recipe() -> str:
    lines = ["# Settings", "", f"Every key of a recipe, of ingestion, of evaluation sets, and of a site. {_GENERATED}"]
    lines += [
        "",
        "Write a key in the TOML file, or pass it as `--set key=value`; `--set` wins. Unknown keys are refused.",
        "A recipe is code: it can name Python files that a run imports, see [SECURITY.md](../SECURITY.md).",
        "",
        "## Recipe",
        "",
    ]
    lines += _table(Recipe, "")
    for title, model in (
        ("`[train]` with backend transformer", TransformerTraining),
        ("`[train]` with backend ngram", NgramTraining),
        ("`[train]` with backend gaussian-mixture", GaussianMixtureTraining),
        ("`[train]` with backend vae", VaeTraining),
    ):
        lines += ["", f"## {title}", "", *_table(model, "train.")]
    lines += ["", "## Ingestion (`heirloom ingest --set key=value`)", "", *_table(IngestSettings, "")]
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
            yield f"| `{prefix}{name}` | {default} | {_cell(field.description or '')} |"


def _default(value: object) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return "; ".join(
            f"`{item.model_dump_json(exclude_none=True)}`" for item in value if isinstance(item, BaseModel)
        )
    return f"`{value!r}`" if not isinstance(value, Path) else f"`{value}`"


def _storage() -> str:
    lines = [
        "# Storage",
        "",
        f"Folders of a store, views, named queries and column types. {_GENERATED}",
        "",
        "```",
        *_FOLDERS,
        "```",
        "",
        "Each artifact folder holds `part-00000.parquet`, ... (or weights) and `_manifest.json`. Any DuckDB reads the files directly:",
        "`read_parquet('<store>/runs/*/generation=*/attempt=*/corpus/*.parquet', hive_partitioning=true)`.",
        "",
        *_INDEX,
        "",
        "## Views",
        "",
        "Available in `heirloom sql`. Views with a generation show accepted attempts; `<view>_all_attempts` also shows rejected ones.",
        "",
    ]
    catalog = open_catalog(ROOT / "docs")
    for (name,) in catalog.sql("select table_name from information_schema.tables order by all").fetchall():
        if not name.endswith("_all_attempts"):
            columns = ", ".join(f"`{column}`" for column in catalog.sql(f"select * from {name}").columns)
            lines.append(f"- **{name}**: {columns}")
    lines += [
        "",
        "## Queries",
        "",
        *_QUERYING,
        "",
        "## Named queries",
        "",
        "Run one with `heirloom query NAME ARGUMENTS`; `$` marks an argument.",
        "",
    ]
    for name, query in QUERIES.items():
        arguments = [parameter.upper() for parameter in parameters(name)]
        lines += [f"**{' '.join([name, *arguments])}**", "", "```sql", query.rstrip(), "```", ""]
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
        schema: pa.Schema = getattr(schemas, name)
        lines.append(f"- {name.lower()}: " + ", ".join(f"{field.name} {field.type}" for field in schema))
    return "\n".join(lines) + "\n"


_FOLDERS = """\
<store>/human/<name>/snapshot=1/            human_train/ human_heldout/ rejected_documents/
                   eval_sets/<set>/        records/ rejected_documents/ eval_exposures=1/
        runs/<run>/run.json                 resolved recipe, site, provenance
                   journal.jsonl            events: generations begun and accepted, reviews, stops, with reasons
                   judgements.jsonl         verdicts of reviewers on single candidates
                   generation=3/attempt=1/  excluded_records/ candidates/ embeddings/ decisions/ index/ human_train_index/
                                            corpus/ contamination_report/ base/ pairs/ model/ eval_samples/ metrics/ verdict/
        reports/<name>/                     report.html report.md collapse.png
        logs/                               logs of worker processes
        tombstones.jsonl                    erased texts: excluded from all later corpora, prompts and views
        tombstones.seal.json                length and digest of that file, by which its loss shows
        catalog.duckdb                      all views, after heirloom catalog""".splitlines()

_INDEX = """## Index

`index/` has a row for every record that survived the curation of its generation. `human_train_index/` has one for every human training
record and is written once a run.

| column | content |
|---|---|
| `id`, `text_hash`, `source_generation` | as in the table that holds the text |
| `high`, `low` | first and second half of the exact key: 16 bytes of SHA-256 of the normalized text, each little-endian |
| `signature` | lower 16 bits of each MinHash value, little-endian; 250 bytes with the default settings |
| `band_0`, `band_1`, ... | band hashes; 0 if the text has no shingle |

The manifest records the MinHash settings; [near-duplicates.md](near-duplicates.md) specifies the format. Deleting an index is safe: it is
rebuilt from the texts, with identical content. Rows of erased records are ignored; `heirloom erase --redact-files` removes them.
""".splitlines()

_QUERYING = """Queries are read-only. A statement runs only if its syntax tree contains nothing but `SELECT`, `FROM`, `WITH`, `DESCRIBE`,
`SUMMARIZE`, `SHOW`, `EXPLAIN`, and `PIVOT` with named columns. DuckDB opens no file outside the store, loads no extension, and its
settings are locked. `--allow-files` permits reading other files, never writing. `--out result.parquet` (or `.csv`, `.json`) saves the result.

`heirloom catalog` writes `catalog.duckdb` into the store, or a file of your choice. Any DuckDB of the same version opens it from any
working directory. Paths are relative to the file, so the store can be moved with it. The file shows artifacts that were finished when it
was written: run the command again after the next generation and after `heirloom erase`.

The views locate the store by DuckDB's temporary directory, which is next to the file by default. If you changed that setting, or attach
the file to another database, set the folder first:

```sql
attach 'heirloom-store/catalog.duckdb' as heirloom (read_only);
set variable store = 'heirloom-store';
select run, generation, human_fraction from heirloom.generations;
```

Run, generation and attempt are partition columns read from the path: `generation = 3` opens only those files. Within a file, decisions
that dropped a record come first, so queries about drops read little. `text` is read only by queries that select it, or `*`.

`heirloom export RUN --generation N --to hf` (or `jsonl`, `parquet`) writes one corpus with licenses, a dataset card (`README.md`) and
`croissant.json`; `datasets.load_dataset(FOLDER)` opens it.""".splitlines()


if __name__ == "__main__":
    for page, content in pages().items():
        page.write_text(content)
