"""What tells who somebody is: addresses and numbers in a text, found by their form and checked where there is a check.

Phone numbers are judged by Google's libphonenumber (phonenumbers), bank and card numbers by their check
digits (python-stdnum), IP addresses by whether they are public. Names and streets are not looked for.
"""

import importlib.util
import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curation.decisions import FilterResult
from heirloom.errors import HeirloomError

Kind = Literal["email", "iban", "card", "ssn", "ip", "phone"]


class PiiSettings(BaseModel):
    """`[curate.pii]`: which personal numbers and addresses are looked for, and what becomes of a text with one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
        description="country of phone numbers that are written without its code; unset takes those with one alone",
    )


@dataclass(frozen=True)
class PiiSpan:
    """One address or number: `text[start:end]`."""

    kind: Kind
    start: int
    end: int


def pii_filter(texts: Sequence[str], settings: PiiSettings) -> FilterResult:
    """Which texts hold something personal, and how many; none goes where it is to be masked.

    Raises:
        HeirloomError: the libraries are not installed.
    """
    _require()
    found = [find_pii(text, settings) for text in texts]
    drops = settings.action == "drop"
    reasons = [f"holds personal data: {each[0].kind}" if each and drops else "" for each in found]
    return FilterResult(reasons, np.array([len(each) for each in found], np.float64))


def mask_pii(text: str, settings: PiiSettings) -> str:
    """The text with `[email]`, `[phone]`, ... in place of what was found; needs the libraries as `find_pii` does."""
    pieces, end = [], 0
    for one in find_pii(text, settings):
        pieces += [text[end : one.start], f"[{one.kind}]"]
        end = one.end
    return "".join([*pieces, text[end:]])


def find_pii(text: str, settings: PiiSettings) -> list[PiiSpan]:
    """What is personal in a text, in its order, nothing twice; needs phonenumbers and python-stdnum."""
    taken: list[PiiSpan] = []
    for kind in (kind for kind in get_args(Kind) if kind in settings.kinds):
        if kind == "email" and "@" not in text:  # the slowest search, and most texts have none
            continue
        pattern, check = _KINDS[kind]
        for one in _matches(kind, pattern, check, text, settings.region):
            if all(one.end <= other.start or other.end <= one.start for other in taken):
                taken.append(one)
    return sorted(taken, key=lambda one: one.start)


def _matches(
    kind: Kind, pattern: re.Pattern[str], check: Callable[[str, str | None], bool], text: str, region: str | None
) -> Iterator[PiiSpan]:
    for match in pattern.finditer(text):
        if check(match.group(), region):
            yield PiiSpan(kind, match.start(), match.end())


def _is_iban(said: str, _: str | None) -> bool:
    from stdnum import iban

    return bool(iban.is_valid(said))


def _is_card(said: str, _: str | None) -> bool:
    from stdnum import luhn

    digits = re.sub(r"\D", "", said)
    # One number in ten passes Luhn by chance; cards of persons begin with 3 to 6, and are not one digit over again.
    return digits[0] in "3456" and len(set(digits)) > 1 and bool(luhn.is_valid(digits))


def _is_ssn(said: str, _: str | None) -> bool:
    from stdnum.us import ssn

    return bool(ssn.is_valid(said))


def _is_public(said: str, _: str | None) -> bool:
    if 0 < said.count(":") < 3:  # a::b is a name in many languages
        return False
    try:
        return ipaddress.ip_address(said).is_global
    except ValueError:
        return False


def _is_phone(said: str, region: str | None) -> bool:
    import phonenumbers

    return any(match.start == 0 for match in phonenumbers.PhoneNumberMatcher(said, region))


# Every repetition is bounded: a text of a million letters without a space costs no more than its length.
_KINDS: dict[str, tuple[re.Pattern[str], Callable[[str, str | None], bool]]] = {
    "email": (re.compile(r"\b[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}\b"), lambda *_: True),
    "iban": (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b"), _is_iban),
    "card": (re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d-]|\.\d)"), _is_card),
    "ssn": (re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"), _is_ssn),
    "ip": (
        re.compile(
            r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?!\d|\.\d)"
            r"|(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}(?![\w:])"
        ),
        _is_public,
    ),
    "phone": (re.compile(r"(?<![\w.+-])(?:\+|\(|\b)(?:\d[\s()./-]{0,3}){6,14}\d(?![\d-]|\.\d)"), _is_phone),
}


def _require() -> None:
    for module in ("phonenumbers", "stdnum"):
        if importlib.util.find_spec(module) is None:
            raise HeirloomError(
                f"the pii sieve needs {module}; pip install 'heirloom[pii]', or leave pii out of filters"
            )
