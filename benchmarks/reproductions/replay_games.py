"""Reproduce results on generators that see their own output: the replay game, and chains of a frozen model."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, short
from curation.theory.chains import empirical_kernel, example_kernel, recurrent_classes, recurrent_set, simulate_walks
from curation.theory.languages import four, negative_and_first, overlapping, positive, residues
from curation.theory.players import burn_in, in_the_limit, uniform, witness_protection
from curation.theory.proper import legal, right_for_both, traps
from curation.theory.replay import counting_then_echoing, enumerating, error_rounds, play, starving
from tasks.backends import Resources, Sampling
from tasks.backends.registry import open_backends
from tasks.generation.chains import ChainSpec, run_chain, train_demo_model


def replay(*, rounds: int = 300, seeds: int = 20) -> Iterator[Figure]:
    """Racca, Valko, Sanyal 2026, arXiv:2603.11784."""
    yield from _burnt_in(seeds)
    wrong = _wrong_for_one(range(1, 11))
    yield Figure(
        "5.1: after the promised threshold, answers wrong for one of the two targets, least over thresholds 1 to 10",
        short(min(wrong)),
        "share",
        "1: no generator keeps a promise for each language",
        min(wrong) == 1,
    )
    languages, results = residues(), {}
    for name, sure, protect in (("sure evidence alone", True, False), ("Witness Protection", True, True)):
        results[name] = error_rounds(
            play(in_the_limit(languages, sure=sure, protect=protect), starving(), languages[2], rounds)
        )
    for name, found in results.items():
        yield Figure(f"6.1: {name}: errors in {rounds} rounds", len(found), "rounds")
    last = {name: max(found) for name, found in results.items()}
    yield Figure(
        "6.1: Witness Protection: last error",
        last["Witness Protection"],
        "",
        "finite",
        last["Witness Protection"] <= 30,
    )
    yield Figure(
        "6.1: negative control, unprotected: last error",
        last["sure evidence alone"],
        "",
        "unbounded",
        last["sure evidence alone"] > 0.95 * rounds,
    )
    listed = [positive(), negative_and_first(1), negative_and_first(2)]
    trusting, guarded = (
        error_rounds(play(player, enumerating(listed[2], 2, 0), listed[2], 120))
        for player in (in_the_limit(listed, sure=False, protect=False), witness_protection(listed))
    )
    late = sum(number > 60 for number in trusting)
    yield Figure("class of 5.1, trusting every number: errors in rounds 61 to 120", late, "rounds", "60", late == 60)
    yield Figure(
        "the same class, Witness Protection: last error",
        max(guarded, default=0),
        "",
        "finite",
        max(guarded, default=0) <= 10,
    )
    yield from _unnameable()


def _burnt_in(seeds: int) -> Iterator[Figure]:
    languages, wrong = overlapping(), {"with burn-in": 0, "without": 0}
    for name, player in (("with burn-in", burn_in(uniform(languages), 5)), ("without", uniform(languages))):
        for target in languages:
            for seed in range(seeds):
                turns = play(player, enumerating(target, 2, seed), target, 40)
                seen = [len({one.shown for one in turns[: turn.number]}) for turn in turns]
                wrong[name] += sum(bool(turn.error) and count >= 5 for turn, count in zip(turns, seen, strict=True))
    games = len(languages) * seeds
    yield Figure(
        f"4.1: burn-in: errors once 5 distinct numbers were seen, the complexity without replay, {games} games",
        wrong["with burn-in"],
        "",
        "0",
        wrong["with burn-in"] == 0,
    )
    yield Figure(
        "4.1: negative control, no burn-in: the same errors", wrong["without"], "", "> 0", wrong["without"] > 0
    )


def _wrong_for_one(thresholds: Sequence[int]) -> list[float]:
    """By threshold, the least share over players of answers after it that are wrong for one of the two targets."""
    found = []
    for count in thresholds:
        pair = [positive(), negative_and_first(count)]
        players = [in_the_limit(pair, sure=sure, protect=sure) for sure in (True, False)] + [uniform(pair)]
        for player in players:
            games = [play(player, counting_then_echoing(count), target, count + 40)[count - 1 :] for target in pair]
            found.append(np.mean([bool(one.fault or other.fault) for one, other in zip(*games, strict=True)]))
    return [float(one) for one in found]


def _unnameable() -> Iterator[Figure]:
    languages = four()
    found = traps(languages)
    fitting = sum(len(right_for_both(languages, trap)) for trap in found)
    both = all(legal(trap.stream, target, trap.named) for trap in found for target in trap.targets)
    without = any(legal(trap.stream, target, None) for trap in found for target in trap.targets)
    yield Figure(
        "7.3: class of four: first answers that lead into a contradiction, of 4", len(found), "", "4", len(found) == 4
    )
    yield Figure("7.3: the streams are legal for both targets", str(both).lower(), "", "true", both)
    yield Figure("7.3: and without replay for any", str(without).lower(), "", "false", not without)
    yield Figure("7.3: names that would be right for both targets", fitting, "", "0", fitting == 0)
    easy = len(traps(residues())) + len(traps(overlapping()))
    yield Figure("static test of hardness on two classes without the pattern: traps", easy, "", "0", easy == 0)


def chains(*, count: int = 50, steps: int = 50, tokens: int = 30, seeds: int = 3) -> Iterator[Figure]:
    """Geng, Mohamed, Shang, Vazirgiannis, Poibeau 2026, arXiv:2603.11228; a 3-gram model in the place of theirs."""
    kernel, classes = example_kernel()
    right = sum(
        recurrent_classes(empirical_kernel(simulate_walks(kernel, [*range(20)] * 20, 200, seed), 20)) == classes
        for seed in range(10)
    )
    yield Figure(
        "recurrent classes of a known kernel of 20 states, from the kernel",
        str(recurrent_classes(kernel) == classes).lower(),
        "",
        "true",
        recurrent_classes(kernel) == classes,
    )
    yield Figure("the same, from walks alone, times of 10", right, "", "10", right == 10)
    found: dict[str, list[float]] = {
        "greedy": [],
        "sampled": [],
        "greedy distinct": [],
        "sampled distinct": [],
        "set": [],
    }
    likes: dict[str, list[float]] = {"greedy": [], "sampled": []}
    with tempfile.TemporaryDirectory() as folder, open_backends(Resources(), Path(folder) / "logs") as backends:
        model = Path(folder) / "model"
        model.mkdir()
        texts = train_demo_model(model, count * seeds, backends)
        for seed in range(seeds):
            mine = texts[seed * count : (seed + 1) * count]
            for name, top_k in (("greedy", 1), ("sampled", 0)):
                how = Sampling(sampler="ngram", max_tokens=tokens, top_k=top_k)
                results = run_chain(model, mine, ChainSpec(steps=steps, sampling=how, seed=seed), backends)
                found[name].append(float(np.mean([time <= steps for time in results.first_recurrences()])))
                found[f"{name} distinct"].append(results.distinct()[-1] / count)
                likes[name].append(results.similarity()[-1])
                if name == "greedy":
                    found["set"].append(float(np.median([len(recurrent_set(one)) for one in results.states])))
    low, high = min(found["greedy"]), max(found["sampled"])
    yield Figure(
        f"greedy: chains that recur within {steps} steps, minimum over seeds",
        short(low),
        "share",
        "all or nearly: small recurrent sets",
        low >= 0.95,
    )
    yield Figure(
        "greedy: median size of the recurrent set, maximum over seeds",
        max(found["set"]),
        "texts",
        "a fixed point or a short cycle (2 in the example shown)",
        max(found["set"]) <= steps / 10,
    )
    yield Figure(
        f"sampled at T = 1: chains that recur within {steps} steps, maximum over seeds",
        short(high),
        "share",
        "few: a long phase before recurrence",
        high < 0.25,
    )
    yield Figure(
        "different texts in the last step, greedy / sampled, maximum over seeds",
        short(max(a / b for a, b in zip(found["greedy distinct"], found["sampled distinct"], strict=True))),
        "ratio",
        "< 1",
        all(a < b for a, b in zip(found["greedy distinct"], found["sampled distinct"], strict=True)),
    )
    yield Figure(
        "similarity of the last step to the one before: greedy, minimum over seeds",
        short(min(likes["greedy"])),
        "",
        "plateau, near 1",
        min(likes["greedy"]) > 0.9,
    )
    yield Figure(
        "the same, sampled, maximum over seeds",
        short(max(likes["sampled"])),
        "",
        "below greedy",
        max(likes["sampled"]) < min(likes["greedy"]),
    )
