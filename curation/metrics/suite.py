"""Every early and late sign about the words of some texts, beside human text of the same size.

The strata of coverage, what the signs are called and how sure they are, in one place; docs/metrics.md says what each means.
"""

from collections.abc import Callable

from curation.metrics.bootstrap import GROUPS, jackknife
from curation.metrics.coverage import STRATA, coverage_change, hapax_share, js_divergence, missing_mass, ngram_coverage
from curation.metrics.lexical_diversity import compression_ratio, distinct_n, entropy, zipf_exponent
from curation.metrics.ngram_counts import Counts, NgramCounts, TokenizedTexts, count_ngrams, count_words, word_counts
from curation.metrics.settings import Measured

_Sign = Callable[[Counts, Counts], float]

_OF_WORDS: dict[str, _Sign] = {
    "type_coverage": ngram_coverage,
    "hapax_share": lambda _, said: hapax_share(said),
    "missing_mass": lambda _, said: missing_mass(said),
    "vocabulary_size": lambda _, said: float((said > 0).sum()),
    "type_token": lambda _, said: distinct_n(said),
    "entropy": lambda _, said: entropy(said),
    "zipf_exponent": lambda _, said: zipf_exponent(said),
    "unigram_js_divergence": js_divergence,
}
_OF_PAIRS: dict[str, _Sign] = {"distinct_2": lambda _, said: distinct_n(said), "bigram_js_divergence": js_divergence}
_OF_TRIPLES: dict[str, _Sign] = {"distinct_3": lambda _, said: distinct_n(said)}
_OF_FOURS: dict[str, _Sign] = {"repetition": lambda _, said: 1 - distinct_n(said) if said.sum() else 0.0}


def _strata(unit: str) -> dict[str, _Sign]:
    return {f"{stratum}_{unit}_coverage": _within(*span) for stratum, span in STRATA.items()}


def _within(least: int, most: int | None) -> _Sign:
    return lambda human, said: ngram_coverage(human, said, least, most)


_SIGNS: dict[int, dict[str, _Sign]] = {
    1: _strata("word") | _OF_WORDS,
    2: _strata("bigram") | _OF_PAIRS,
    3: _strata("trigram") | _OF_TRIPLES,
    4: _OF_FOURS,
}
TEXT_METRICS = (*(name for signs in _SIGNS.values() for name in signs), "compression_ratio")
"""What they are called, `signs` in this order."""
COVERAGE_CHANGE_METRICS = ("type_coverage_change", "rare_word_coverage_change")


def text_metrics(human: TokenizedTexts, synthetic: TokenizedTexts) -> list[Measured]:
    """Every sign with its 95 % interval over texts; `sample_size` is words of `said`."""
    words = count_words(synthetic)
    found = []
    for length, named in _SIGNS.items():
        counted = count_ngrams(human, synthetic, length)
        found += [_measured(name, sign, counted, words) for name, sign in named.items()]
    groups = [[text for place, text in enumerate(synthetic) if place % GROUPS != group] for group in range(GROUPS)]
    squeezed = compression_ratio(synthetic)
    bounds = jackknife(squeezed, [compression_ratio(one) for one in groups[: len(synthetic)]])
    return [*found, Measured("compression_ratio", squeezed, *bounds, words)]


def coverage_changes(
    human: TokenizedTexts, baseline: TokenizedTexts, current: TokenizedTexts, seed: int
) -> list[Measured]:
    """How coverage differs from generation 0's, with paired 99 % intervals; `sample_size` is words of `now`."""
    spans = ((1, None), STRATA["rare"])
    counted, then, later = word_counts(human, baseline, current)
    found = [coverage_change(counted, then, later, seed, *span) for span in spans]
    return [
        Measured(name, value, *bounds, count_words(current))
        for name, (value, bounds) in zip(COVERAGE_CHANGE_METRICS, found, strict=True)
    ]


def _measured(name: str, sign: _Sign, counted: NgramCounts, words: int) -> Measured:
    value = sign(counted.human, counted.total)
    low, high = jackknife(value, [sign(counted.human, rest) for rest in counted.leave_one_out()])
    return Measured(name, value, low if low is None else max(0.0, low), high, words)
