"""Find personal data in texts: addresses and numbers, matched by their form and verified where there is a check.

Phone numbers are verified by Google's libphonenumber (phonenumbers), bank and card numbers by their check digits
(python-stdnum), IP addresses by whether they are public. Names and streets are not searched for.
"""

import contextlib
import importlib.util
import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal, get_args

import numpy as np
from pydantic import Field, field_validator

from curation.decisions import FilterResult, RecordSet
from curation.filters.base import FilterContext, Need
from heirloom.errors import HeirloomError
from heirloom.settings import Settings

Kind = Literal["email", "iban", "card", "ssn", "ip", "phone"]


class PiiSettings(Settings):
    """`[curate.pii]`: the kinds of personal data to find, and what to do with a text that has some."""

    action: Literal["drop", "mask"] = Field(
        "drop", description="drop the text, or keep it and mask what was found (`heirloom curate` alone)"
    )
    kinds: tuple[Kind, ...] = Field(
        get_args(Kind),
        description="email, iban (with its check digits), card (Luhn), ssn (United States), ip (public), phone",
    )
    region: str | None = Field(
        None,
        description="country of phone numbers without a country code, as ISO 3166 code; unset finds only numbers with "
        "one",
    )

    @field_validator("region")
    @classmethod
    def _check_region(cls, region: str | None) -> str | None:
        # Without the library the filter refuses to run anyway.
        if region is not None and importlib.util.find_spec("phonenumbers") is not None:
            _require_region(region)
        return region


@dataclass(frozen=True)
class PiiSpan:
    """One address or number: `text[start:end]`."""

    kind: Kind
    start: int
    end: int

    def overlaps(self, other: "PiiSpan") -> bool:
        """Whether the two share a character."""
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class PiiFilter:
    """Drops a text with personal data, unless it is to be masked; the score is the number of findings."""

    name: ClassVar[str] = "pii"
    needs: ClassVar[frozenset[Need]] = frozenset()
    settings: PiiSettings

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:  # noqa: ARG002
        """Search each text."""
        return pii_filter(records.text_list, self.settings)


def pii_filter(texts: Sequence[str], settings: PiiSettings) -> FilterResult:
    """Drop each text with personal data; with the action `mask`, only count the findings.

    Raises:
        HeirloomError: the libraries are not installed.
    """
    _require_libraries()
    reasons, counts = [], np.zeros(len(texts))
    for row, text in enumerate(texts):
        spans = find_pii(text, settings)
        dropped = bool(spans) and settings.action == "drop"
        reasons.append(f"holds personal data: {spans[0].kind}" if dropped else "")
        counts[row] = len(spans)
    return FilterResult(reason=reasons, score=counts)


def mask_pii(text: str, settings: PiiSettings) -> str:
    """Replace each finding by its kind, as `[email]` or `[phone]`; needs the same libraries as `find_pii`."""
    pieces, end = [], 0
    for span in find_pii(text, settings):
        pieces += [text[end : span.start], f"[{span.kind}]"]
        end = span.end
    return "".join([*pieces, text[end:]])


def find_pii(text: str, settings: PiiSettings) -> list[PiiSpan]:
    """Spans of personal data in the order of the text, without overlaps; needs phonenumbers and python-stdnum."""
    spans: list[PiiSpan] = []
    text = _with_ascii_forms(text)
    for kind in get_args(Kind):
        # The search for addresses is the slowest, and most texts have none.
        if kind not in settings.kinds or (kind == "email" and "@" not in text):
            continue
        for span in _find_kind(kind, text, settings.region):
            if not any(span.overlaps(earlier) for earlier in spans):
                spans.append(span)
    return sorted(spans, key=lambda span: span.start)


def _find_kind(kind: Kind, text: str, region: str | None) -> Iterator[PiiSpan]:
    pattern, find_spans = _KINDS[kind]
    for match in pattern.finditer(text):
        for start, end in find_spans(match, region):
            yield PiiSpan(kind, start, end)


def _with_ascii_forms(text: str) -> str:
    """Return a text of the same length in which digits of every script and full-width forms are ASCII."""
    return text if text.isascii() else text.translate(_ascii_forms())


@cache
def _ascii_forms() -> dict[int, str]:
    digits = {code: str(unicodedata.digit(chr(code))) for code in range(0x80, 0x10000) if chr(code).isdecimal()}
    # Full-width punctuation ends a sentence or a clause, and stays what it is.
    wide = {0xFF01 + offset: chr(0x21 + offset) for offset in range(94) if chr(0x21 + offset) not in ",:;!?"}
    return digits | wide


def _whole(match: re.Match[str], _: str | None) -> Iterator[tuple[int, int]]:
    yield match.span()


def _longest_valid(
    match: re.Match[str], is_valid: Callable[[str], bool], boundary: re.Pattern[str]
) -> Iterator[tuple[int, int]]:
    """Yield the longest prefix of a match that ends at a boundary and is valid: words or numbers may follow it."""
    found = match.group()
    ends = [len(found), *(gap.start() for gap in reversed(list(boundary.finditer(found))))]
    for end in ends:
        if is_valid(found[:end]):
            yield match.start(), match.start() + end
            return


def _ibans(match: re.Match[str], _: str | None) -> Iterator[tuple[int, int]]:
    from stdnum import iban

    return _longest_valid(match, iban.is_valid, _SPACE)


def _cards(match: re.Match[str], _: str | None) -> Iterator[tuple[int, int]]:
    return _longest_valid(match, _is_card, _SPACE)


def _is_card(found: str) -> bool:
    from stdnum import luhn

    digits = re.sub(r"\D", "", found)
    # One number in ten passes Luhn by chance, and the identifier of every telephone does.
    return _CARD_NETWORKS.fullmatch(digits) is not None and len(set(digits)) > 1 and bool(luhn.is_valid(digits))


_SPACE = re.compile(" ")
_CARD_NETWORKS = re.compile(
    r"4(?:\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[68]\d)\d{11}"  # Diners Club
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14,17}"  # UnionPay
    r"|(?:5[0678]|6[37])\d{10,17}"  # Maestro
)
"""First digits and lengths of the card networks, ISO/IEC 7812."""


def _ssns(match: re.Match[str], _: str | None) -> Iterator[tuple[int, int]]:
    from stdnum.us import ssn

    if ssn.is_valid(match.group()):
        yield match.span()


def _public_ips(match: re.Match[str], _: str | None) -> Iterator[tuple[int, int]]:
    found = match.group()
    # a::b is a qualified name in many programming languages.
    if 0 < found.count(":") < 3:
        return
    if ":" not in found and _is_version(match):
        return
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(found).is_global:
            yield match.span()


def _is_version(match: re.Match[str]) -> bool:
    """Return whether four numbers with dots are the version of a program, or the number of a section."""
    before = match.string[max(0, match.start() - _CONTEXT) : match.start()]
    after = match.string[match.end() : match.end() + _CONTEXT]
    return _BEFORE_VERSION.search(before) is not None or _AFTER_VERSION.match(after) is not None


_CONTEXT = 32
_BEFORE_VERSION = re.compile(
    r"(?:\b(?:v|ver|vers|version|versions|versi[oó]n|versione|vers[aã]o|версия|версии|release|releases|build|rev|revision"
    r"|firmware|driver|update|patch|kernel|sections?|sec|§|chapters?|clauses?|articles?|fig|figures?|tables?|rules?"
    r"|abschnitt|kapitel|oid)|版本|バージョン|버전)[\s.:#=]{0,3}\Z"
    # A name and its version: Chrome/1.2.3.4, lib-1.2.3.4, pkg==1.2.3.4, pkg:1.2.3.4.
    r"|[A-Za-z_](?:[/_-]|@|[=~<>!]{1,2}=? ?)\Z",
    re.IGNORECASE,
)
_AFTER_VERSION = re.compile(
    r"-?(?:alpha|beta|rc|dev|snapshot|release|final|build)|\.(?:tar|zip|exe|msi|deb|rpm|whl|jar)\b", re.IGNORECASE
)


def _phones(match: re.Match[str], region: str | None) -> Iterator[tuple[int, int]]:
    import phonenumbers

    start, end = match.span()
    if region is None and "+" not in match.group():
        return
    # The library decides by what stands around a number, such as the minutes of a time.
    window_start = max(0, start - _CONTEXT)
    window = match.string[window_start : end + _CONTEXT]
    for found in phonenumbers.PhoneNumberMatcher(window, region):
        # The library takes a parenthesis around the whole number for its own.
        is_enclosed = found.raw_string.count("(") > found.raw_string.count(")")
        found_start, found_end = window_start + found.start + is_enclosed, window_start + found.end
        if found_start < end and start < found_end and not _is_other_number(match.string, found_start, found_end):
            yield found_start, found_end


def _is_other_number(text: str, start: int, end: int) -> bool:
    """Return whether digits are a date, a book or article number, or are named as another identifier."""
    from stdnum import ean, isbn

    found = text[start:end].lstrip("(")
    if found.startswith("+"):
        return False
    before = text[max(0, start - _CONTEXT) : start]
    if _BEFORE_IDENTIFIER.search(before) or _BEFORE_VERSION.search(before) or _DATE.match(text, start):
        return True
    if _DECIMAL_OR_IP.fullmatch(found):
        return True
    # Digits that continue a longer number.
    if re.search(r"[\d.,:/-]\Z", before) or re.match(r"[-:/%]\d|[.,]\d|[%€$£¥]", text[end : end + 2]):
        return True
    groups = re.split(r"[ -]", found)
    is_book = isbn.is_valid(found) and (len(groups[-1]) == 1 or found.startswith(("978", "979")))
    return is_book or (found.isdigit() and len(found) == 13 and ean.is_valid(found))


_DATE = re.compile(
    r"(?:1[5-9]|20)\d\d([-./])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?:0?[1-9]|[12]\d|3[01])([-./])(?:0?[1-9]|[12]\d|3[01])\2(?:1[5-9]|20)?\d\d(?![\d]|[-./]\d)"
    r"|(?:1[5-9]|20)\d\d ?[-/] ?(?:1[5-9]|20)\d\d(?!\d)"
    r"|(?:1[5-9]|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[ T_-]?\d{4}(?:\d\d)?)?(?!\d)"
)
"""A date, a range of years, or a timestamp without separators."""
_DECIMAL_OR_IP = re.compile(r"\d+\.\d{1,2}|(?:(?:1?\d?\d|2[0-4]\d|25[0-5])\.){3}(?:1?\d?\d|2[0-4]\d|25[0-5])")
_BEFORE_IDENTIFIER = re.compile(
    r"(?:#|№"
    r"|\b(?:isbn|issn|ean|gtin|upc|asin|sku|imei|vin|doi|pmid|pmc|rfc|arxiv|cas|order|invoice|ticket|tracking|reference"
    r"|ref|case|docket|patent|serial|part|model|account|acct|customer|item|lot|batch|booking|confirmation|transaction|id"
    r"|commit|bug|issue|build|bestellung|bestellnummer|bestell|rechnung|rechnungsnummer|auftrag|auftragsnummer|kunden"
    r"|kundennummer|commande|facture|pedido|factura|ordine|fattura|заказ|заказа|счет|счёт)"
    r"|订单|訂單|单号|單號|编号|編號|注文|注文番号|受付番号)"
    r"(?:[\s.:#-]{0,3}(?:ids?|no|nr|num|numbers?|nummer|n[°º]|code|号|號|番号|号码|號碼))?[\s.:：#=(]{0,3}(?:(?:is|was|ist|:)\s)?\Z",
    re.IGNORECASE,
)

# Names of addresses in one script, since scripts without spaces have words right beside them. Every repetition is
# bounded, so that a text of a million letters without a space takes linear time.
_LATIN, _CYRILLIC, _GREEK = (
    r"A-Za-z0-9\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f",
    r"0-9\u0400-\u04ff",
    r"0-9\u0370-\u03ff",
)
_MAILBOX = "|".join(
    rf"(?<![{letters}_.%+'-])[{letters}_][{letters}_.%+'-]{{0,63}}" for letters in (_LATIN, _CYRILLIC, _GREEK)
)
_DOMAIN = "|".join(
    rf"(?:[{letters}][{letters}_-]{{0,62}}\.){{1,8}}(?!{files})(?:xn--[a-z0-9-]{{2,59}}|(?:(?!\d)[{letters}]){{2,24}})(?![{letters}_-])"
    for letters, files in (
        # The name of an image in two sizes is no address: logo@2x.png.
        (_LATIN, r"(?i:png|jpe?g|gif|svg|webp|bmp|ico|css|js|py|html?)(?![A-Za-z0-9])"),
        (_CYRILLIC, "(?!)"),
        (_GREEK, "(?!)"),
    )
)

_KINDS: dict[Kind, tuple[re.Pattern[str], Callable[[re.Match[str], str | None], Iterator[tuple[int, int]]]]] = {
    "email": (re.compile(f"(?:{_MAILBOX})@(?:{_DOMAIN})"), _whole),
    "iban": (re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])"), _ibans),
    "card": (re.compile(r"(?<![\d.-])\d(?:[ -]?\d){11,22}(?![\d-]|\.\d)"), _cards),
    "ssn": (re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"), _ssns),
    "ip": (
        re.compile(
            r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?!\d|\.\d)"
            r"|(?<![A-Za-z0-9_:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}(?![A-Za-z0-9_:])"
        ),
        _public_ips,
    ),
    "phone": (
        re.compile(r"(?<![A-Za-z0-9_.+-])(?:\+ ?\(?|\(|(?=\d))(?:\d[\s()./-]{0,3}){6,14}\d(?![\d-]|\.\d)"),
        _phones,
    ),
}
"""Pattern of each kind, and the spans of a match that are one."""


_OTHER_REGION_NAMES = {"UK": "GB", "EL": "GR", "SU": "RU", "BU": "MM", "ZR": "CD", "TP": "TL"}
"""Codes that are not ISO 3166, or no longer, which closeness of letters would not lead from."""


def _require_region(region: str) -> None:
    from phonenumbers import SUPPORTED_REGIONS

    if region in SUPPORTED_REGIONS:
        return
    name = region.strip().upper()
    closest = _OTHER_REGION_NAMES.get(name) or (name if name in SUPPORTED_REGIONS else _code_of_country(region))
    suggestion = f" Did you mean `{closest}`?" if closest in SUPPORTED_REGIONS else ""
    raise HeirloomError(
        f"There is no region `{region}` with phone numbers.{suggestion} Write the ISO 3166 code of a country, such as "
        "US, GB or DE"
    )


def _code_of_country(name: str) -> str:
    """Return the code of a country by its name or longer code, or an empty string."""
    if importlib.util.find_spec("pycountry") is None:
        return ""
    import pycountry

    try:
        found = pycountry.countries.search_fuzzy(name)[0] if len(name) > 3 else pycountry.countries.lookup(name)
    except LookupError:
        return ""
    return str(found.alpha_2)


def _require_libraries() -> None:
    for module in ("phonenumbers", "stdnum"):
        if importlib.util.find_spec(module) is None:
            raise HeirloomError(f"The pii filter needs {module}. Install heirloom[pii], or leave pii out of filters")
