"""What a record is called, and what follows from that: ids, digests and seeds.

Human ids come from the text, so they are the same in every run; synthetic ids are serial, because two candidates may
say the same thing.
"""

import hashlib

HUMAN_ID_PREFIX = "h-"
"""How the id of a human record begins; sixteen digits of its digest follow."""


def text_hash(text: str) -> str:
    """Hash of the text as it stands: 32 hexadecimal digits of SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def human_id(text: str) -> str:
    """Id of a human record, the same in every run and store."""
    return f"{HUMAN_ID_PREFIX}{text_hash(text)[:16]}"


def synthetic_id(generation: int, attempt: int, serial: int) -> str:
    """Id of the candidate with this number; attempts after the first say so."""
    return f"g{generation:03d}{f'a{attempt}' if attempt > 1 else ''}-{serial:07d}"


def derive_seed(*parts: object) -> int:
    """A seed below 2^31 that follows from `parts` alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4]) >> 1
