import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.filters import decontamination as overlap
from curation.filters.decontamination import Overlaps, OverlapSettings, find_overlaps
from curation.text import shingles, words
from heirloom.chat import Message, render_chat, text_of_turns

_SENTENCES = st.lists(st.sampled_from(["ant", "Bee", "cat", "dog", "elk", "!", "象"]), max_size=16).map(" ".join)


def _by_hand(texts: list[str], reference: list[str], chosen: OverlapSettings) -> list[tuple[float, int]]:
    """Largest Jaccard similarity and longest shared run of each text, by the definitions."""
    sets = [set(shingles(text, chosen.ngram_length_jaccard)) for text in reference]
    runs = set()
    for text in reference:
        found = words(text)
        length = min(len(found), chosen.ngram_length)
        if length >= min(8, chosen.ngram_length):
            runs |= {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}
    answers = []
    for text in texts:
        mine, found = set(shingles(text, chosen.ngram_length_jaccard)), words(text)
        similarity = max((len(mine & other) / len(mine | other) for other in sets if mine & other), default=0.0)
        longest = 0
        for length in {len(run) for run in runs}:
            run = 0
            for start in range(len(found) - length + 1):
                run = run + 1 if tuple(found[start : start + length]) in runs else 0
                longest = max(longest, run and run + length - 1)
        answers.append((similarity, longest))
    return answers


def _similarities(found: Overlaps) -> list[tuple[float, int]]:
    return list(zip(np.nan_to_num(found.jaccard).tolist(), found.shared_run.tolist(), strict=True))


@pytest.mark.slow
@given(st.lists(_SENTENCES, max_size=8), st.lists(_SENTENCES, max_size=5), st.integers(1, 4), st.integers(2, 10))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_overlap_is_found_and_none_is_made_up(
    texts: list[str], reference: list[str], shingle_words: int, shared_words: int
) -> None:
    chosen = OverlapSettings(ngram_length_jaccard=shingle_words, ngram_length=shared_words)
    found = find_overlaps(texts, reference, chosen)
    assert _similarities(found) == _by_hand(texts, reference, chosen)
    for row in np.flatnonzero(found.nearest >= 0):
        mine, other = (set(shingles(text, shingle_words)) for text in (texts[row], reference[found.nearest[row]]))
        assert len(mine & other) / len(mine | other) == found.jaccard[row]
    assert (found.is_contaminated == (found.source_row >= 0)).all()
    assert found.is_near_duplicate.tolist() == [similarity >= 0.6 for similarity, _ in _similarities(found)]


def test_batches_and_cuts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    some = [" ".join(rng.choices("abcdefg", k=rng.randint(1, 40))) for _ in range(60)]
    whole = find_overlaps(some, some[:20], OverlapSettings(ngram_length=4))
    monkeypatch.setattr(overlap, "_BATCH_CHARACTERS", 100)
    monkeypatch.setattr(overlap, "_MAX_PAIRS", 7)
    parts = find_overlaps(some, some[:20], OverlapSettings(ngram_length=4))
    assert _similarities(parts) == _similarities(whole)
    assert (parts.source_row.tolist(), parts.is_contaminated.all()) == (
        whole.source_row.tolist(),
        whole.is_contaminated.all(),
    )


def test_a_short_passage_inside_a_long_text_is_quoted_and_not_repeated() -> None:
    passage = "of all the letters that came home that winter only seven were ever answered"
    around = " ".join(f"word{number}" for number in range(300))
    found = find_overlaps(
        [f"{around} {passage.upper()}! {around}"], ["something else entirely", passage], OverlapSettings()
    )
    assert found.jaccard[0] < 0.1
    assert not found.is_near_duplicate[0]
    assert (found.shared_from[0], found.shared_run[0], found.source_row[0]) == (1, 14, 1)


@pytest.mark.parametrize(("length", "words_shared"), [(7, 0), (8, 8), (12, 12), (13, 13), (40, 40)])
def test_a_record_shorter_than_a_run_is_quoted_whole_from_eight_words_on(length: int, words_shared: int) -> None:
    record = " ".join(f"w{number}" for number in range(length))
    (found,) = find_overlaps([f"before it {record} and after"], [record], OverlapSettings()).shared_run
    assert found == words_shared


def test_part_of_a_long_record_shorter_than_a_run_is_no_quotation() -> None:
    record = [f"w{number}" for number in range(40)]
    texts = [" ".join(record[5 : 5 + length]) for length in (8, 12, 13, 20)]
    short = " ".join(f"v{number}" for number in range(8))
    assert find_overlaps(texts, [" ".join(record), short], OverlapSettings()).shared_run.tolist() == [0, 0, 13, 20]


def test_of_two_equally_near_records_the_earlier_one_is_named() -> None:
    found = find_overlaps(
        ["the old river runs east"],
        ["nothing", "The old river runs east", "the OLD river runs east"],
        OverlapSettings(),
    )
    assert (found.source_row[0], found.jaccard[0]) == (1, 1.0)


def test_texts_without_words_overlap_nothing() -> None:
    found = find_overlaps(["", "?!"], ["?!", ""], OverlapSettings())
    assert not found.is_contaminated.any()
    assert np.isnan(found.jaccard).all()
    assert not find_overlaps(["some words"], [], OverlapSettings()).is_contaminated.any()
    assert len(find_overlaps([], ["some words"], OverlapSettings()).is_contaminated) == 0


_SYSTEM = "You are a careful assistant who answers each question about plants in one short sentence, and never guesses."


def _conversation(question: str, answer: str) -> str:
    call: Message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look_up", "arguments": {"plant": "any"}}}],
    }
    return render_chat(
        [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": question},
            call,
            {
                "role": "tool",
                "content": "a page of the encyclopedia that each call returns to us, in thirteen words or more",
            },
            {"role": "assistant", "reasoning": "short", "content": answer},
        ]
    )


def test_conversations_overlap_by_what_users_and_assistants_wrote_alone() -> None:
    protected = [_conversation("How tall is an oak?", "It grows to about thirty metres in good soil.")]
    answer = "An apple tree bears its first fruit after about five years, and then each year until it is very old."
    texts = [
        _conversation("When does an apple tree bear fruit?", "After five years."),
        _conversation("How tall is an oak?", "It grows to about thirty metres in good soil."),
        _conversation("Tell me about apples.", answer),
    ]
    assert find_overlaps(texts, protected, OverlapSettings()).is_contaminated.tolist() == [False, True, False]
    assert find_overlaps(texts, [answer], OverlapSettings()).is_contaminated.tolist() == [False, False, True]


def test_headings_of_a_page_are_no_roles() -> None:
    page = "### Setting up\nInstall the program, then start it once.\n\n### Use\nWrite a file, and pass its name."
    assert text_of_turns(page) == page
    assert find_overlaps([page], [page], OverlapSettings()).is_contaminated.tolist() == [True]
