"""Tables and front matter of the cards."""

import pytest
import yaml
from markdown_it import MarkdownIt

from storage.export.markdown import front_matter, markdown_table


@pytest.mark.parametrize("text", ["a | b", "a\nb", "ends with \\", "`code", "a \\| b", "<b>"])
def test_any_text_stays_in_its_cell(text: str) -> None:
    tokens = MarkdownIt().enable("table").parse(markdown_table(("left", "right"), [(text, "other")]))
    cells = [token.children or [] for token in tokens if token.type == "inline"]
    texts = ["".join(child.content for child in cell) for cell in cells]
    assert texts == ["left", "right", " ".join(text.splitlines()), "other"]


def test_an_absent_value_is_a_dash() -> None:
    assert markdown_table(("metric", "value"), [("perplexity", None)]).splitlines()[-1] == "| perplexity | – |"


def test_front_matter_is_yaml_whatever_the_values_hold() -> None:
    metadata = {"pretty_name": 'a: "b" # c', "license_name": "yes, no", "tags": ["é", "- x"]}
    first, content, last = front_matter(metadata).split("---\n")
    assert (first, last) == ("", "")
    assert yaml.safe_load(content) == metadata
