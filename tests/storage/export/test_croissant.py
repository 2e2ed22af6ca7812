"""Metadata that machines read of an exported corpus."""

from storage.export.croissant import croissant
from tests.storage.export.test_dataset_card import exported_corpus


def test_every_column_is_a_field_of_the_metadata() -> None:
    described = croissant(exported_corpus())
    (records,) = described["recordSet"]
    assert [(field["name"], field["dataType"]) for field in records["field"]] == [
        ("id", "sc:Text"),
        ("source_generation", "sc:Integer"),
        ("weight", "sc:Float"),
    ]
    assert described["license"] == ["CC0-1.0"]
    assert described["distribution"][0]["sha256"] == "0" * 64
