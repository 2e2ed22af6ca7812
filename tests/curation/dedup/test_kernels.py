"""Compiled kernels: buffers, words, hashes, and their dispatch."""

import builtins
import importlib.util
import logging
import os
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curation.dedup.kernels import numba_kernels, numpy_kernels
from curation.dedup.kernels.dispatch import (
    HashKernel,
    available_cores,
    choose_kernel,
    default_kernel,
    map_blocks,
    numba_kernel,
    numpy_kernel,
)
from curation.dedup.kernels.numba_kernels import jit, load_u64, trailing_zeros
from curation.dedup.kernels.text_buffer import TextBuffer, to_text_buffer
from curation.dedup.kernels.types import Shingling
from curation.text import (
    NEW_LINE,
    Normalization,
    ShingleUnit,
    character_classes,
    comparison_tokens,
    fold,
    shingles,
    tokenize_folded,
)
from tests.support.paths import ROOT


def _texts_of(buffer: TextBuffer) -> list[str]:
    return [
        buffer.content[start:stop].tobytes().decode("utf-8", "surrogatepass")
        for start, stop in zip(buffer.starts, buffer.stops, strict=True)
    ]


TEXTS = ["Plain ASCII stays", "", "STRASSE and Straße", "cafe\u0301", "日本", "another PLAIN one"]
FOLDED = ["Plain ASCII stays", "", fold("STRASSE and Straße"), "café", "日本", "another PLAIN one"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_columns_and_strings_are_folded_alike(kind: pa.DataType) -> None:
    column = pa.array(["left out", *TEXTS, "too"]).cast(kind).slice(1, len(TEXTS))
    assert _texts_of(to_text_buffer(column)) == _texts_of(to_text_buffer(TEXTS)) == FOLDED
    assert to_text_buffer(column).sizes.tolist() == [len(text.encode()) for text in FOLDED]


def test_several_columns_are_concatenated() -> None:
    pieces = pa.chunked_array([pa.array(TEXTS[:2]), pa.array([], pa.string()), pa.array(TEXTS[2:])])
    assert _texts_of(to_text_buffer(pieces, ["Ä"], pa.array(["end"]))) == [*FOLDED, "ä", "end"]
    assert len(to_text_buffer(pieces, ["Ä"])) == 7


def test_a_null_is_an_empty_text() -> None:
    assert _texts_of(to_text_buffer(pa.array(["a", None, "É"]))) == ["a", "", "é"]
    assert _texts_of(to_text_buffer(pa.array([None, None], pa.string()))) == ["", ""]


def test_empty_columns_give_an_empty_buffer() -> None:
    for empty in ([], pa.array([], pa.string()), pa.chunked_array([], pa.string())):
        assert len(to_text_buffer(empty)) == 0
    assert len(to_text_buffer()) == 0


def test_a_lone_surrogate_is_kept() -> None:
    assert _texts_of(to_text_buffer(["a \ud800 b"])) == ["a \ud800 b"]


def test_a_column_of_ascii_is_not_copied() -> None:
    column = pa.array(["one", "two"], pa.large_string())
    assert np.shares_memory(to_text_buffer(column).content, np.frombuffer(column.buffers()[2], np.uint8))


@pytest.mark.slow
def test_two_columns_are_addressed_beyond_two_gigabytes() -> None:
    # One long text held in many chunks: the bytes are shared, and only their places pass 2 GB.
    chunk = pa.array(["x" * (1 << 20)])
    half = pa.chunked_array([chunk] * 1100)
    buffer = to_text_buffer(half, pa.chunked_array([chunk] * 1100))
    assert buffer.stops[-1] == 2200 << 20
    assert buffer.stops[-1] > np.iinfo(np.int32).max
    assert (buffer.sizes == 1 << 20).all()
    assert bytes(buffer.content[-3:]) == b"xxx"


KERNELS = pytest.mark.parametrize("kernel", [numba_kernel(), numpy_kernel()], ids=lambda kernel: kernel.name)

TRICKY = st.text(
    st.one_of(
        st.sampled_from(
            "aZ09_'’ -.\n\t\0é中ไ\u0e31\u0301\u093f\u0345İßſ\ud800\U0001f600\U0001d7d8\U00020000ﬁΣς"
            "+#$<²½Ａ，－\u200d\u00ad\ufe0f\ufdd0"
        ),
        st.characters(exclude_categories=()),
    ),
    max_size=60,
)


NORMALIZATIONS = pytest.mark.parametrize("normalization", ["text", "code"])


def _kernel_tokens(text: str, normalization: Normalization = "text") -> list[str]:
    buffer = to_text_buffer([text], normalization=normalization)
    low = np.full(2 * len(buffer.content) + 32, 7, np.uint8)
    tables = numba_kernels.token_tables(normalization)
    size = numba_kernels.write_tokens(buffer.content, 0, len(buffer.content), tables, low)
    assert not low[size : size + 16].any()
    separated = b"".join(b"\0%c\0" % tables[2][byte] if 0 < byte < 32 else b"%c" % byte for byte in low[:size])
    return [token.decode("utf-8", "surrogatepass") for token in separated.split(b"\0") if token]


@pytest.mark.slow
@NORMALIZATIONS
@given(text=TRICKY)
@example(text="it's 'quoted' a''b '' x' 'y ' a'")
@example(text="l’été d'’a a’\u0301b q\u0301'a")
@example(text="ไทย aไb a\u0e31b \u0e31 中'中 a中 ที่-a ก\u0301a")
@example(text="a-b -a a- 5-3 --a q\u0301-a a-\u0301b -\u0301 a'-b c++ #\u20e3 +\u0301a")
@example(text="aaaaaaa-bbbbbbb'ccccccc aaaaaaaaaaaaaaaa+bbbbbbbbbbbbbb")
@settings(max_examples=600, deadline=None, derandomize=True)
def test_the_kernel_finds_the_same_tokens_as_the_regular_expression(text: str, normalization: Normalization) -> None:
    assert _kernel_tokens(text, normalization) == comparison_tokens(text, normalization)


@pytest.mark.slow
@NORMALIZATIONS
def test_the_kernel_classifies_every_character_like_the_regular_expression(normalization: Normalization) -> None:
    everything = [chr(code) for code in range(0x110000)]
    for start in range(0, 0x110000, 0x1000):
        for template in ("a{}b", "{}"):
            text = " . ".join(template.format(character) for character in everything[start : start + 0x1000])
            assert _kernel_tokens(text, normalization) == comparison_tokens(text, normalization), hex(start)


@pytest.mark.slow
@given(TRICKY)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_the_faster_pattern_for_ascii_finds_the_same_tokens(text: str) -> None:
    folded = fold(text).encode("ascii", "ignore").decode()
    assert tokenize_folded(folded) == tokenize_folded(folded + " é")[:-1]


UNITS: tuple[ShingleUnit, ...] = ("words", "characters")


@NORMALIZATIONS
@given(texts=st.lists(TRICKY, max_size=5), length=st.integers(1, 6))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_only_equal_shingles_have_equal_hashes(texts: list[str], length: int, normalization: Normalization) -> None:
    for unit in UNITS:
        buffer = to_text_buffer(texts, normalization=normalization)
        shingling = Shingling(by_word=unit == "words", length=length, normalization=normalization)
        hashes, starts = numba_kernels.shingle_hashes(buffer.content, buffer.starts, buffer.stops, shingling)
        expected = [shingles(text, length, unit, normalization) for text in texts]
        assert np.diff(starts).tolist() == [len(text_shingles) for text_shingles in expected]
        all_shingles = [shingle for text_shingles in expected for shingle in text_shingles]
        # Texts shorter than a shingle are one: the same characters can be a whole text and a shingle of another length.
        assert (
            len(set(zip(all_shingles, hashes.tolist(), strict=True)))
            == len(set(all_shingles))
            == len(set(hashes.tolist()))
        )


def test_hashes_do_not_depend_on_the_position_of_a_text_in_the_buffer() -> None:
    buffer = to_text_buffer(["before don't", "'tis the word’s end'", "after"])
    alone = to_text_buffer(["'tis the word’s end'"])
    for by_word in (True, False):
        shingling = Shingling(by_word=by_word, length=2)
        in_buffer, _ = numba_kernels.shingle_hashes(buffer.content, buffer.starts[1:2], buffer.stops[1:2], shingling)
        alone_hashes, _ = numba_kernels.shingle_hashes(alone.content, alone.starts, alone.stops, shingling)
        assert in_buffer.tolist() == alone_hashes.tolist()


def test_character_classes_distinguish_letters_marks_symbols_and_unspaced_scripts() -> None:
    assert [int(character_classes()[ord(one)]) for one in "aé_7 .'’\u0301中ไ\u0e31+€-"] == [
        *(1, 1, 1, 1, 0, 0, 4, 4, 2, 3, 3, 2, 3, 3, 5),
    ]
    assert [int(character_classes("code")[ord(one)]) for one in f"aé_7 .'’\u0301中ไ\u0e31+€-{NEW_LINE}"] == [
        *(1, 1, 1, 1, 0, 3, 3, 3, 2, 3, 3, 2, 3, 3, 3, 3),
    ]


def _assert_same_hashes(texts: list[str], shingling: Shingling) -> None:
    buffer = to_text_buffer(texts, normalization=shingling.normalization)
    arguments = (buffer.content, buffer.starts, buffer.stops, shingling)
    hashes, starts = numpy_kernels.shingle_hashes(*arguments)
    numba_hashes, numba_starts = numba_kernels.shingle_hashes(*arguments)
    assert starts.tolist() == numba_starts.tolist()
    assert hashes.tolist() == numba_hashes.tolist()
    assert hashes.dtype == numba_hashes.dtype == np.uint64


@pytest.mark.slow
@NORMALIZATIONS
@given(texts=st.lists(TRICKY, max_size=6), length=st.integers(1, 7), by_word=st.booleans())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_both_kernels_give_the_same_shingle_hashes(
    texts: list[str], length: int, by_word: bool, normalization: Normalization
) -> None:
    _assert_same_hashes(texts, Shingling(by_word=by_word, length=length, normalization=normalization))


@pytest.mark.parametrize("size", [*range(1, 26), 63, 64, 65, 71, 72, 73, 1000, 100_000])
def test_both_kernels_hash_words_of_every_size_alike(size: int) -> None:
    word = ("abcdefghijklm" * (size // 13 + 1))[:size]
    _assert_same_hashes([word, f"{word} {word}x 中{word} +{word}- {word}"], Shingling(by_word=True, length=2))
    _assert_same_hashes([word], Shingling(by_word=False, length=5))


def _sets(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Sets of few distinct hashes, with repeats, some of them empty."""
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 2**64, 80, dtype=np.uint64)
    starts = np.concatenate(([0], np.cumsum(rng.integers(0, 40, count) * (rng.random(count) > 0.2))))
    return pool[rng.integers(0, 80, starts[-1])], starts


@pytest.mark.slow
@KERNELS
@pytest.mark.parametrize("permutations", [1, 15, 16, 17, 125, 128])
def test_signatures_equal_those_of_datasketch(kernel: HashKernel, permutations: int) -> None:
    hashes, starts = _sets(1)
    scale, shift = MinHash(num_perm=permutations, seed=1, scheme="affine32").permutations
    found = np.empty((len(starts) - 1, permutations), np.uint32)
    kernel.signatures(hashes, starts, scale, shift, found)
    for row, ours in enumerate(found):
        theirs = MinHash(num_perm=permutations, seed=1, scheme="affine32", hashfunc=int)
        theirs.update_batch((hashes[starts[row] : starts[row + 1]] >> np.uint64(32)).tolist())
        assert ours.tolist() == theirs.hashvalues.tolist()


@KERNELS
def test_jaccard_similarity_equals_that_of_python_sets(kernel: HashKernel) -> None:
    hashes, starts = _sets(2)
    sets = [set(hashes[start:stop].tolist()) for start, stop in pairwise(starts)]
    left, right = np.random.default_rng(3).integers(0, len(sets), (2, 400))
    found = np.empty(400)
    kernel.jaccard(hashes, starts, left, right, found)
    for first, second, similarity in zip(left, right, found, strict=True):
        union = sets[first] | sets[second]
        assert similarity == (len(sets[first] & sets[second]) / len(union) if union else 0.0)


@KERNELS
def test_agreement_is_the_share_of_equal_values(kernel: HashKernel) -> None:
    signatures = np.array([[1, 2, 3, 4], [1, 2, 0, 4], [9, 9, 9, 9]], np.uint32)
    found = np.empty(3)
    kernel.agreement(signatures, np.array([0, 0, 1]), np.array([1, 2, 1]), found)
    assert found.tolist() == [0.75, 0.0, 1.0]


@KERNELS
def test_kernels_accept_empty_input(kernel: HashKernel) -> None:
    no_hashes, no_starts = np.zeros(0, np.uint64), np.zeros(1, np.int64)
    out = np.zeros((0, 4), np.uint32)
    kernel.signatures(no_hashes, np.zeros(1, np.int64), np.ones(4, np.uint32), np.ones(4, np.uint32), out)
    kernel.band_hashes(out, 2, np.zeros((0, 2), np.uint64))
    kernel.jaccard(no_hashes, no_starts, no_starts[:0], no_starts[:0], np.zeros(0))
    kernel.agreement(out, no_starts[:0], no_starts[:0], np.zeros(0))
    assert not out.size


def test_both_kernels_give_the_same_signatures_bands_and_similarities() -> None:
    rng = np.random.default_rng(4)
    starts = np.concatenate(([0], np.cumsum(rng.integers(0, 90, 300))))
    hashes = rng.integers(0, 2**64, starts[-1], dtype=np.uint64)
    scale, shift = rng.integers(0, 2**32, (2, 60), dtype=np.uint32)
    left, right = rng.integers(0, 300, (2, 500))
    results = []
    for kernel in (numba_kernel(), numpy_kernel()):
        signatures, bands = np.empty((300, 60), np.uint32), np.empty((300, 12), np.uint64)
        agreement, jaccard = np.empty(500), np.empty(500)
        kernel.signatures(hashes, starts, scale, shift, signatures)
        kernel.band_hashes(signatures, 5, bands)
        kernel.agreement(signatures, left, right, agreement)
        kernel.jaccard(hashes, starts, left, right, jaccard)
        results.append((signatures, bands, agreement, jaccard))
    for numba_result, numpy_result in zip(*results, strict=True):
        assert np.array_equal(numba_result, numpy_result)
        assert numba_result.any()


@jit
def _load(content: np.ndarray, place: int) -> np.uint64:
    return load_u64(content, place)


@jit
def _count_zeros(value: np.uint64) -> np.uint64:
    return trailing_zeros(value)


def test_eight_bytes_are_loaded_from_any_offset() -> None:
    content = np.arange(1, 20, dtype=np.uint8)
    for place in range(12):
        assert int(_load(content, place)) == int.from_bytes(bytes(content[place : place + 8]), "little")


def test_trailing_zeros_are_counted() -> None:
    assert [int(_count_zeros(np.uint64(1 << bit))) for bit in (0, 7, 8, 63)] == [0, 7, 8, 63]


@pytest.mark.processes
def test_machine_code_is_cached_in_a_writable_folder(tmp_path: Path) -> None:
    code = (
        "from curation.dedup.kernels.dispatch import numba_kernel; import numpy as np; "
        "numba_kernel().band_hashes(np.zeros((1, 2), np.uint32), 1, np.zeros((1, 2), np.uint64))"
    )
    kept = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=kept, check=True)
    assert list((tmp_path / "cache").rglob("*.nbi"))


def test_functions_compile_without_a_writable_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])

    def double(value: int) -> int:
        return 2 * value

    assert jit(double)(21) == 42


def test_numba_is_the_default_where_it_is_installed() -> None:
    assert importlib.util.find_spec("numba")
    assert default_kernel() is numba_kernel()
    assert (numba_kernel().name, numpy_kernel().name) == ("numba", "numpy")


def test_little_text_is_hashed_by_numpy() -> None:
    assert choose_kernel(0) is choose_kernel(1_000_000) is numpy_kernel()
    assert choose_kernel(100_000_000) is numba_kernel()


def test_without_numba_the_default_is_numpy_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert default_kernel.__wrapped__().name == "numpy"
    assert "numba is not installed" in caplog.text


def test_the_numpy_kernel_never_imports_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_numba(name: str, *rest: object, **more: object) -> ModuleType:
        assert not name.startswith(("numba", "llvmlite", "curation.dedup.kernels.numba")), name
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_numba)
    assert numpy_kernel.__wrapped__().name == "numpy"


@pytest.mark.parametrize("threads", [1, 2, None])
@pytest.mark.parametrize("sizes", [[], [0], [5] * 1000, [0] * 1000, [10**7, 1, 1, 10**7], list(range(500))])
def test_every_item_is_processed_once(sizes: list[int], threads: int | None) -> None:
    seen = np.zeros(len(sizes), np.int64)
    lock = threading.Lock()

    def work(start: int, stop: int) -> None:
        assert start < stop
        with lock:
            seen[start:stop] += 1

    map_blocks(work, np.array(sizes, np.int64), 1000, threads)
    assert (seen == 1).all()


def test_cores_are_counted_with_and_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert available_cores() == os.cpu_count()


def test_an_exception_in_a_block_is_raised() -> None:
    def work(start: int, stop: int) -> None:
        if start <= 500 < stop:
            raise MemoryError(start)

    with pytest.raises(MemoryError):
        map_blocks(work, np.full(1000, 50), 1000, 2)
