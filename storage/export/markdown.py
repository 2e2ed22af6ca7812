"""Parts that the dataset card and the model card share: template rendering, front matter, licenses."""

from collections.abc import Mapping, Sequence

import jinja2
import yaml
from markupsafe import Markup

from heirloom.markdown import markdown_environment, markdown_table
from storage.artifacts.provenance import commit, versions

_HUB_LICENSES = {
    *("apache-2.0", "mit", "bsd-3-clause", "gpl-3.0", "unlicense", "odc-by", "cc0-1.0"),
    *("cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
}
"""Licenses that the Hugging Face Hub has a key for; others need `license: other` and a name."""


def render_card(template: str, metadata: Mapping[str, object], values: Mapping[str, object]) -> str:
    """Render a template of `templates/` with `metadata` as its YAML front matter."""
    return (
        markdown_environment(jinja2.PackageLoader("storage.export"))
        .get_template(template)
        .render(
            front_matter=front_matter(metadata),
            table=markdown_table,
            version=versions().get("heirloom", ""),
            commit=commit() or "unknown",
            **values,
        )
    )


def front_matter(metadata: Mapping[str, object]) -> Markup:
    """Return the YAML block at the beginning of a card, with its delimiters."""
    block = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True, width=1000)
    return Markup(f"---\n{block}---\n")  # noqa: S704  (quoted as YAML)


def hub_license(names: Sequence[str]) -> dict[str, str]:
    """Return the license fields of the front matter: a key of the hub, or `other` with the names."""
    if not names:
        return {"license": "unknown"}
    if len(names) == 1 and names[0].lower() in _HUB_LICENSES:
        return {"license": names[0].lower()}
    return {"license": "other", "license_name": ", ".join(names)}


def format_value(value: object) -> str:
    """Return a value of a recipe as readable text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {format_value(inner)}" for key, inner in value.items() if inner is not None)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def format_number(value: float | None) -> str | None:
    """Return a metric with four significant digits, or None."""
    return None if value is None else f"{value:.4g}"
