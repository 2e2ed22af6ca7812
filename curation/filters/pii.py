"""Find personal data in texts: addresses and numbers, matched by their form and verified where there is a check.

Phone numbers are verified by Google's libphonenumber (phonenumbers), bank and card numbers by their check digits
(python-stdnum), IP addresses by whether they are public. Names and streets are not searched for.
"""

import importlib.util
import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from pydantic import Field

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
        pattern="^[A-Z]{2}$",
        description="country of phone numbers without a country code; unset finds only numbers with one",
    )


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
    for kind in get_args(Kind):
        # The search for addresses is the slowest, and most texts have none.
        if kind not in settings.kinds or (kind == "email" and "@" not in text):
            continue
        for span in _find_kind(kind, text, settings.region):
            if not any(span.overlaps(earlier) for earlier in spans):
                spans.append(span)
    return sorted(spans, key=lambda span: span.start)


def _find_kind(kind: Kind, text: str, region: str | None) -> Iterator[PiiSpan]:
    pattern, is_valid = _KINDS[kind]
    for match in pattern.finditer(text):
        if is_valid(match.group(), region):
            yield PiiSpan(kind, match.start(), match.end())


def _is_email(_: str, __: str | None) -> bool:
    return True


def _is_iban(found: str, _: str | None) -> bool:
    from stdnum import iban

    return bool(iban.is_valid(found))


def _is_card(found: str, _: str | None) -> bool:
    from stdnum import luhn

    digits = re.sub(r"\D", "", found)
    # One number in ten passes Luhn by chance. Personal cards begin with 3 to 6, and are not one repeated digit.
    return digits[0] in "3456" and len(set(digits)) > 1 and bool(luhn.is_valid(digits))


def _is_ssn(found: str, _: str | None) -> bool:
    from stdnum.us import ssn

    return bool(ssn.is_valid(found))


def _is_public_ip(found: str, _: str | None) -> bool:
    # a::b is a qualified name in many programming languages.
    if 0 < found.count(":") < 3:
        return False
    try:
        return ipaddress.ip_address(found).is_global
    except ValueError:
        return False


def _is_phone(found: str, region: str | None) -> bool:
    import phonenumbers

    return any(match.start == 0 for match in phonenumbers.PhoneNumberMatcher(found, region))


# Every repetition is bounded, so that a text of a million letters without a space takes linear time.
_KINDS: dict[Kind, tuple[re.Pattern[str], Callable[[str, str | None], bool]]] = {
    "email": (re.compile(r"\b[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}\b"), _is_email),
    "iban": (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b"), _is_iban),
    "card": (re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d-]|\.\d)"), _is_card),
    "ssn": (re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"), _is_ssn),
    "ip": (
        re.compile(
            r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?!\d|\.\d)"
            r"|(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}(?![\w:])"
        ),
        _is_public_ip,
    ),
    "phone": (re.compile(r"(?<![\w.+-])(?:\+|\(|\b)(?:\d[\s()./-]{0,3}){6,14}\d(?![\d-]|\.\d)"), _is_phone),
}


def _require_libraries() -> None:
    for module in ("phonenumbers", "stdnum"):
        if importlib.util.find_spec(module) is None:
            raise HeirloomError(f"The pii filter needs {module}. Install heirloom[pii], or leave pii out of filters")
