from pathlib import Path

from storage.catalog import open_catalog


def test_every_generation_has_its_forecast_beside_what_was_measured(ripe: Path) -> None:
    catalog = open_catalog(ripe)
    rows = catalog.sql(
        "select generation, value, low, high from forecast where metric = 'type_coverage' order by all"
    ).fetchall()
    assert [row[0] for row in rows] == [0, 1, 2, 3]
    assert all(0 <= low <= value <= high <= 1 for _, value, low, high in rows)
    from storage.questions import QUESTIONS

    told = catalog.sql(QUESTIONS["forecast"]).fetchall()
    assert {row[2] for row in told} == set(
        "type_coverage once_word_coverage rare_word_coverage common_word_coverage entropy unigram_divergence".split()
    )
    assert len(told) == 4 * 6
