from storage.artifacts.ids import derive_seed, human_id, synthetic_id, text_hash


def test_a_digest_is_of_the_text_as_it_stands() -> None:
    assert text_hash("héllo") == "3c48591d8d098a4538f5e013dfcf406e"
    assert text_hash("héllo") != text_hash("Héllo")
    assert text_hash("\ud800") != text_hash("\ud801")


def test_a_human_id_follows_from_the_text_alone() -> None:
    assert human_id("héllo") == "h-3c48591d8d098a45"


def test_a_synthetic_id_contains_generation_attempt_and_number() -> None:
    assert synthetic_id(3, 1, 12) == "g003-0000012"
    assert synthetic_id(3, 2, 12) == "g003a2-0000012"
    places = [
        (generation, attempt, serial) for generation in range(12) for attempt in (1, 2, 11) for serial in (0, 1, 10)
    ]
    assert len({synthetic_id(*place) for place in places}) == len(places)


def test_a_seed_is_the_same_everywhere_and_below_two_to_the_31() -> None:
    assert derive_seed(0, "train", 1) == 1312450192
    assert derive_seed("a", "b") == 125259203
    seeds = {derive_seed("candidate", number) for number in range(2000)}
    assert len(seeds) == 2000
    assert 0 <= min(seeds) < 2**31 // 10
    assert 2**31 - 2**31 // 10 < max(seeds) < 2**31


def test_the_order_and_the_kind_of_its_parts_change_a_seed() -> None:
    assert len({derive_seed(1, 2), derive_seed(2, 1), derive_seed(12), derive_seed("1", 2), derive_seed(1, 2, 0)}) == 5
