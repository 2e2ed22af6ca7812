"""Record ids, text hashes and seeds.

Human ids are derived from the text, so they are equal in every run. Synthetic ids are serial numbers, since two
candidates may have the same text.
"""

import hashlib

HUMAN_ID_PREFIX = "h-"
"""Prefix of human ids; the first sixteen digits of the text hash follow."""


def text_hash(text: str) -> str:
    """Return the hash of the unmodified text: the first 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def human_id(text: str) -> str:
    """Return the id of a human record, equal in every run and store."""
    return f"{HUMAN_ID_PREFIX}{text_hash(text)[:16]}"


def synthetic_id(generation: int, attempt: int, serial: int) -> str:
    """Return the id of a candidate, such as `g003-0000017`, or `g003a2-0000017` in the second attempt."""
    return f"g{generation:03d}{f'a{attempt}' if attempt > 1 else ''}-{serial:07d}"


def derive_seed(*parts: object) -> int:
    """Return a seed below 2^31 that depends only on `parts`."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4]) >> 1
