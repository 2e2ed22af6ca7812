import importlib.util

import pytest

from benchmarks.operations.pii import NEGATIVES, POSITIVES, false_alarms, masked_context, recall
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


@pytest.mark.parametrize("kind", list(POSITIVES))
def test_what_is_planted_is_found_in_any_script_and_nothing_besides(kind: Kind) -> None:
    score = recall(kind, POSITIVES[kind], 140)
    assert score.num_found >= 0.98 * score.num_planted
    assert score.num_wrong <= 0.02 * score.num_planted


@pytest.mark.parametrize("kind", list(POSITIVES))
def test_a_mask_leaves_every_character_around_an_address(kind: Kind) -> None:
    for number in range(42):
        masked, expected = masked_context(kind, number)
        assert masked == expected


@pytest.mark.parametrize("name", list(NEGATIVES))
def test_numbers_of_other_kinds_are_not_personal_data(name: str) -> None:
    assert false_alarms(NEGATIVES[name], 200) <= 2


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("请写信到jane@example.com谢谢，然后等待回复。", "请写信到[email]谢谢，然后等待回复。"),
        ("メールはjane@example.comまでお送りください", "メールは[email]までお送りください"),
        ("ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍへ", "[email]へ"),
        ("пишите ivan@почта.рф сегодня", "пишите [email] сегодня"),
        ("电话+442079460018。", "电话[phone]。"),
        ("電話：＋８１ ３ １２３４ ５６７８ まで", "電話：[phone] まで"),
        ("账号DE89370400440532013000请", "账号[iban]请"),
        ("DE89 3704 0044 0532 0130 00 BIC COBADEFFXXX", "[iban] BIC COBADEFFXXX"),
        ("4111 1111 1111 1111 12/26", "[card] 12/26"),
        ("From 2023-10-12 14:55:01 on it rained every day.", "From 2023-10-12 14:55:01 on it rained every day."),
        ("https://8.8.8.8/path and 8.8.8.8:53", "https://[ip]/path and [ip]:53"),
        ("Version 8.8.8.8, but 8.8.4.4 answers", "Version 8.8.8.8, but [ip] answers"),
    ],
)
def test_a_mask_covers_the_address_alone(text: str, masked: str) -> None:
    assert mask_pii(text, PiiSettings(action="mask", region="GB")) == masked


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Ring me on 07911 123456, please, before noon.", ["phone"]),
        ("Phone number: (020) 7946 0018", ["phone"]),
        ("ISBN 0-306-40615-2, order 07911123456, 07.09.2011", []),
    ],
)
def test_national_numbers_are_found_beside_numbers_of_other_kinds(text: str, kinds: list[str]) -> None:
    assert [span.kind for span in find_pii(text, PiiSettings(region="GB"))] == kinds


@pytest.mark.parametrize(
    ("region", "suggestion"),
    [("UK", "GB"), ("us", "US"), ("USA", "US"), ("Germany", "DE"), ("EL", "GR"), ("XX", ""), ("ZZ", ""), ("", "")],
)
def test_a_region_without_phone_numbers_is_refused(region: str, suggestion: str) -> None:
    with pytest.raises(ValueError, match=f"There is no region `{region}`") as caught:
        PiiSettings(region=region)
    assert (f"Did you mean `{suggestion}`?" in str(caught.value)) is bool(suggestion)
