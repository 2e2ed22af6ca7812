import importlib.util

import pytest

from curation.filters.pii import Kind, PiiSettings, find_pii, mask_pii, pii_filter
from tests.conftest import human_texts

_ALL = PiiSettings()

_PLANTED: list[tuple[Kind, str]] = [
    ("email", "jane.doe+news@mail.example.org"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("card", "4111 1111 1111 1111"),
    ("ssn", "536-90-4399"),
    ("ip", "8.8.8.8"),
    ("ip", "2001:4860:4860::8888"),
    ("phone", "+44 20 7946 0018"),
    ("phone", "+1 (212) 736-5000"),
]

_CLEAN = [
    "Meet me @ noon; mail a@b is no address.",
    "In 1987, or 2003-2005, 12,000 people paid 4.111.111,11 for it.",
    "ISBN 978-3-16-148410-0 was sold on 2026-11-21 at 12:30:45.",
    "The card 4111 1111 1111 1112 fails its check, and so does DE88 3704 0044 0532 0130 00.",
    "My machine is 192.168.0.1, or 127.0.0.1, and version 10.4.2.1; ::1 is home.",
    "Pi is 3.14159265358979323846, and 0000 0000 0000 0000 is no card.",
    "std::vector and a::b are names.",
]


@pytest.fixture(autouse=True)
def _libraries() -> None:
    if any(importlib.util.find_spec(module) is None for module in ("phonenumbers", "stdnum")):
        pytest.skip("the extra pii is not installed")


@pytest.mark.parametrize(("kind", "planted"), _PLANTED)
@pytest.mark.parametrize("sentence", ["Reach me at {}.", "{}", "({}), please"])
def test_what_is_planted_is_found_where_it_stands(kind: Kind, planted: str, sentence: str) -> None:
    text = sentence.format(planted)
    (found,) = find_pii(text, _ALL)
    assert found.kind == kind
    assert text[found.start : found.end].strip("()") == planted.strip("()")


@pytest.mark.parametrize("text", _CLEAN)
def test_what_only_looks_like_it_is_not(text: str) -> None:
    assert find_pii(text, _ALL) == []


def test_a_text_goes_with_its_reason_and_the_number_of_findings() -> None:
    result = pii_filter([*human_texts(20), "Write to a.b@c.org or d@e.org from 8.8.8.8."], _ALL)
    assert result.reason.to_pylist() == [""] * 20 + ["holds personal data: email"]
    assert result.score.to_pylist() == [0.0] * 20 + [3.0]


def test_a_text_that_is_masked_stays_and_has_nothing_left_to_find() -> None:
    settings = PiiSettings(action="mask")
    text = " / ".join(planted for _, planted in _PLANTED)
    assert pii_filter([text], settings).reason.to_pylist() == [""]
    masked = mask_pii(text, settings)
    assert masked == " / ".join(f"[{kind}]" for kind, _ in _PLANTED)
    assert find_pii(masked, settings) == []
    assert mask_pii(_CLEAN[1], settings) == _CLEAN[1]


def test_only_the_kinds_that_are_asked_for_are_looked_for() -> None:
    text = " / ".join(planted for _, planted in _PLANTED)
    assert {one.kind for one in find_pii(text, PiiSettings(kinds=("ip", "ssn")))} == {"ip", "ssn"}


def test_a_number_without_its_country_is_one_where_the_region_is_named() -> None:
    assert find_pii("Call 650-253-0000 now", _ALL) == []
    assert [one.kind for one in find_pii("Call 650-253-0000 now", PiiSettings(region="US"))] == ["phone"]


@pytest.mark.parametrize("text", ["a" * 300_000, "1" * 300_000, "a." * 100_000, "::" * 50_000, "1 " * 50_000])
def test_long_texts_of_one_sign_come_to_an_end(text: str) -> None:
    # A search that went back over the whole text would take hours.
    assert find_pii(text, _ALL) == []
