"""Precision and recall of the `pii` filter on sentences with and without personal data, made from a seed.

Addresses and numbers are built from the rules of their kind: examples of phone numbers for each region by
libphonenumber, bank numbers of each country with their check digits, cards of each network. Sentences are in eleven
languages, four of them without spaces around an address. Negatives are what is mistaken for personal data: dates,
times, versions, section numbers, book and order numbers, prices, coordinates, names of image files.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.figures import Figure, short
from curation.filters.pii import Kind, PiiSettings, find_pii, mask_pii

NUM_SENTENCES = 500
"""Sentences of each kind and class."""

_SENTENCES = (
    "Reach me at {}.",
    "{}",
    "Write to ({}), please, before noon.",
    "<{}>",
    "Erreichbar unter {}, auch am Wochenende.",
    "Écrivez à {} avant midi.",
    "Пишите на {} до полудня.",
    "Γράψτε στο {} σήμερα.",
    "اكتب إلى {} قبل الظهر.",
    "कृपया {} पर लिखें।",
    "请写信到{}谢谢，然后等待回复。",
    "メールは{}までお送りください",
    "연락처는 {}입니다.",
    "ติดต่อ{}ได้ทุกวัน",
)
_WORDS = ("anna", "j.doe", "info", "maria-luz", "x_1", "ivan.petrov+news", "o'neil", "support", "müller", "Jane.Doe99")
_DOMAINS = (
    "example.com",
    "mail.example.org",
    "a-b.co.uk",
    "x.io",
    "uni-köln.de",
    "example.museum",
    "1and1.com",
    "foo.app",
)

Words: TypeAlias = Callable[[random.Random], str]


@dataclass(frozen=True, kw_only=True)
class Score:
    """How many of the planted spans are found exactly, and how many spans are found besides them."""

    num_planted: int
    num_found: int
    num_wrong: int


def measure() -> list[Figure]:
    """Recall by kind, and the share of sentences without personal data in which some is found, by class."""
    figures = []
    num_right = num_wrong = 0
    for kind, planted in POSITIVES.items():
        score = recall(kind, planted, NUM_SENTENCES)
        num_right, num_wrong = num_right + score.num_found, num_wrong + score.num_wrong
        share = score.num_found / score.num_planted
        figures.append(Figure(f"{kind}: found exactly", short(share), "share of planted", ">= 0.95", share >= 0.95))
    for name, build in NEGATIVES.items():
        num_found = false_alarms(build, NUM_SENTENCES)
        num_wrong += num_found
        share = num_found / NUM_SENTENCES
        figures.append(
            Figure(f"{name}: taken for personal data", short(share), "share of sentences", "<= 0.02", share <= 0.02)
        )
    precision = num_right / (num_right + num_wrong)
    figures.append(
        Figure("precision over all sentences", short(precision), "share of findings", ">= 0.98", precision >= 0.98)
    )
    return figures


def recall(kind: Kind, build: Words, num_sentences: int) -> Score:
    """Plant an address or number in each of some sentences, and search it with all kinds enabled."""
    rng = random.Random(kind)  # noqa: S311  (not a secret)
    num_found = num_wrong = 0
    for number in range(num_sentences):
        planted = build(rng)
        before, after = _SENTENCES[number % len(_SENTENCES)].split("{}")
        spans = find_pii(f"{before}{planted}{after}", PiiSettings())
        expected = (kind, len(before), len(before) + len(planted))
        found = [(span.kind, span.start, span.end) for span in spans]
        num_found += expected in found
        num_wrong += len(found) - (expected in found)
    return Score(num_planted=num_sentences, num_found=num_found, num_wrong=num_wrong)


def false_alarms(build: Words, num_sentences: int) -> int:
    """Return the number of sentences without personal data in which some is found, with and without a region."""
    rng = random.Random(0)  # noqa: S311
    num_found = 0
    for number in range(num_sentences):
        text = build(rng)
        settings = PiiSettings(region=(None, "US", "DE", "GB", "FR")[number % 5])
        num_found += bool(find_pii(text, settings))
    return num_found


def masked_context(kind: Kind, number: int) -> tuple[str, str]:
    """Return a sentence whose planted address is masked by the filter, and by its place: both must be equal."""
    planted = POSITIVES[kind](random.Random(number))  # noqa: S311
    sentence = _SENTENCES[number % len(_SENTENCES)]
    return mask_pii(sentence.format(planted), PiiSettings(action="mask")), sentence.format(f"[{kind}]")


def _email(rng: random.Random) -> str:
    return f"{rng.choice(_WORDS)}@{rng.choice(_DOMAINS)}"


def _iban(rng: random.Random) -> str:
    from stdnum import iban

    length = rng.choice(
        [("DE", 18), ("FR", 23), ("GB", 18), ("NO", 11), ("ES", 20), ("NL", 14), ("PL", 24), ("SE", 20)]
    )
    country, digits = length
    while True:
        account = "".join(rng.choices("0123456789", k=digits))
        if country in ("GB", "NL"):
            account = "ABCD" + account[4:]
        number = f"{country}00{account}"
        number = country + iban.calc_check_digits(number) + account
        # National check digits are not built, so only numbers that pass them by chance remain.
        if iban.is_valid(number):
            return iban.format(number) if rng.random() < 0.5 else number


def _card(rng: random.Random) -> str:
    from stdnum import luhn

    prefix, length = rng.choice(
        [("4", 16), ("51", 16), ("2720", 16), ("34", 15), ("6011", 16), ("3530", 16), ("62", 16)]
    )
    digits = prefix + "".join(rng.choices("0123456789", k=length - len(prefix) - 1))
    digits += luhn.calc_check_digit(digits)
    gap = rng.choice(["", " ", "-"])
    return gap.join(digits[at : at + 4] for at in range(0, len(digits), 4))


def _ssn(rng: random.Random) -> str:
    from stdnum.us import ssn

    while True:
        number = f"{rng.randint(1, 899):03}-{rng.randint(1, 99):02}-{rng.randint(1, 9999):04}"
        if ssn.is_valid(number):
            return number


def _ip(rng: random.Random) -> str:
    import ipaddress

    while True:
        address = (
            ipaddress.IPv4Address(rng.randrange(2**32))
            if rng.random() < 0.6
            else ipaddress.IPv6Address((0x2001 << 112) + (0x0DB9 << 96) + rng.randrange(2 ** rng.choice([16, 64, 90])))
        )
        if address.is_global:
            return str(address)


def _phone(rng: random.Random) -> str:
    import phonenumbers
    from phonenumbers import PhoneNumberFormat, PhoneNumberType

    regions = sorted(phonenumbers.SUPPORTED_REGIONS)
    while True:
        kind = rng.choice([PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE])
        number = phonenumbers.example_number_for_type(rng.choice(regions), kind)
        if number is not None and phonenumbers.is_valid_number(number):
            shape = rng.choice([PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.E164])
            return phonenumbers.format_number(number, shape)


POSITIVES: dict[Kind, Words] = {
    "email": _email,
    "iban": _iban,
    "card": _card,
    "ssn": _ssn,
    "ip": _ip,
    "phone": _phone,
}
"""What is planted, by kind."""


def _date(rng: random.Random) -> str:
    year, month, day = rng.randint(1700, 2040), rng.randint(1, 12), rng.randint(1, 28)
    hour, minute, second = rng.randrange(24), rng.randrange(60), rng.randrange(60)
    return rng.choice(
        [
            f"From {year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} on it rained.",
            f"It was {day:02}.{month:02}.{year} in the log.",
            f"On {month}/{day}/{year} they met, and on {day:02}-{month:02}-{year % 100:02} again.",
            f"{year}/{month:02}/{day:02}, {hour}:{minute:02}",
            f"backup-{year}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z.tar",
            f"Saved {year}{month:02}{day:02} {hour:02}{minute:02}{second:02} as before.",
            f"He lived {year}-{year + 61}, she {year}/{year + 1}.",
            f"日期{year}-{month:02}-{day:02}，时间{hour:02}:{minute:02}。",
        ]
    )


def _version(rng: random.Random) -> str:
    number = ".".join(str(rng.choice([rng.randint(0, 9), rng.randint(0, 255)])) for _ in range(4))
    return rng.choice(
        [
            f"Version {number} mends it.",
            f"Since v{number} and release {number} it is gone.",
            f"Chrome/{number} Safari",
            f"pip install tool=={number}",
            f"tool-{number}.tar.gz",
            f"See section {number} of the report.",
            f"{number}-beta",
            f"Kernel {number}, firmware: {number}",
            f"版本{number}发布了",
            f"OID 1.3.6.1.{number}",
        ]
    )


def _book(rng: random.Random) -> str:
    from stdnum import ean, isbn

    body = "978" + "".join(rng.choices("0123456789", k=9))
    number = body + ean.calc_check_digit(body)
    shape = rng.choice([number, isbn.format(number), f"{number[:3]}-{number[3:]}"])
    article = "".join(rng.choices("123456789", k=12))
    return rng.choice(
        [
            f"ISBN {shape}",
            f"ISBN: {shape}, second edition",
            f"The book {shape} is out.",
            f"EAN {article}{ean.calc_check_digit(article)}",
        ]
    )


def _order(rng: random.Random) -> str:
    number = "".join(rng.choices("0123456789", k=rng.randint(8, 12)))
    grouped = f"{number[:3]}-{number[3:7]}-{number[7:]}"
    name = rng.choice(
        [
            "Order",
            "Order no.",
            "Invoice #",
            "Tracking number:",
            "Ticket",
            "Case",
            "Reference:",
            "Bestellnummer",
            "Rechnung Nr.",
            "订单号：",
            "Commande n°",
            "ID:",
            "Patent No.",
        ]
    )
    return f"{name} {rng.choice([number, grouped])} has been sent."


def _amount(rng: random.Random) -> str:
    large = rng.randint(10**6, 10**10)
    return rng.choice(
        [
            f"It cost {large:,}.00 dollars, or {large / 100:.2f}.",
            f"Pi is 3.{rng.randrange(10**15)}, and e is 2.{rng.randrange(10**15)}.",
            f"At {rng.uniform(-90, 90):.6f}, {rng.uniform(-180, 180):.6f} stands a tree.",
            f"{large} people, {large // 3} of them in 2003-2005",
            f"scores 21-19, 18-21, 21-{rng.randint(1, 19)}",
            f"sha1 {rng.randrange(16**40):040x}",
            f"{rng.randrange(16**8):08x}-{rng.randrange(16**4):04x}-4{rng.randrange(16**3):03x}-a{rng.randrange(16**3):03x}-{rng.randrange(16**12):012x}",
            f"doi:10.{rng.randint(1000, 9999)}/{rng.randrange(10**9)}",
            f"logo@2x.png and icon-{rng.randint(10, 99)}@3x.jpg",
            f"lodash@4.17.{rng.randint(1, 99)}, @{rng.choice(_WORDS)} and a@b",
            f"std::vector a::b ::1 {rng.randint(1, 12)}:{rng.randint(10, 59)}:{rng.randint(10, 59)}",
            f"My machine is 192.168.{rng.randint(0, 255)}.1, or 10.0.0.{rng.randint(1, 254)}.",
        ]
    )


NEGATIVES: dict[str, Words] = {
    "dates and times": _date,
    "versions and sections": _version,
    "book and article numbers": _book,
    "order numbers": _order,
    "amounts, measures and hashes": _amount,
}
"""Sentences without personal data, by class."""
