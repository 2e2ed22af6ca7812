"""The game of replay as a person reads it: what is claimed, who plays, the rounds, and what follows from them.

Racca, Valko, Sanyal 2026, "Language Generation with Replay", arXiv:2603.11784; theorems are numbered as in its second version.
"""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.padding import Padding

from curation.theory.languages import Language, four, negative_and_first, overlapping, positive, residues
from curation.theory.players import burn_in, in_the_limit, uniform, witness_protection, witnesses
from curation.theory.proper import legal, right_for_both, traps
from curation.theory.replay import Round, counting_then_echoing, enumerating, error_rounds, play, starving
from flows.terminal.console import table

_VERDICTS = {"": "[green]right[/]", "outside": "[red]not in the language[/]", "observed": "[yellow]nothing new[/]"}
_NUMBERS = ("round", "shown", "answer")


def print_transcript(console: Console, scene: str, rounds: int) -> None:
    """Play one scene and print it."""
    _SCENES[scene](console, rounds)


def _burn_in(console: Console, rounds: int) -> None:
    languages = overlapping()
    target = languages[1]
    _open(
        console,
        "Burn-in: wait, and replay costs nothing",
        "Theorem 4.1",
        "Whoever can speak a class after d different examples without replay can do so with replay, after as many: until then it repeats "
        "the first example, which is genuine because nothing had been said before it. Here d is 5: the first two languages share 1, 2, 3, 4 alone.",
        languages,
        target,
    )
    for title, player in (
        ("without burn-in: early guesses come back as examples", uniform(languages)),
        ("with burn-in of 5", burn_in(uniform(languages), 5)),
    ):
        _game(console, title, play(player, enumerating(target, 2, 0), target, min(rounds, 40)), 10, 1)
    _close(console, "Echoes cannot pollute: with burn-in every number that is ever said belongs to the target.")


def _echo(console: Console, rounds: int) -> None:
    count = 3
    pair = [positive(), negative_and_first(count)]
    _open(
        console,
        "The echo: a promise for each language is no longer possible",
        "Theorem 5.1",
        f"A generator promises to be right about h_inf once it has seen {count} different numbers of it. The adversary shows 1 to {count}, and then "
        f"only repeats what the generator said last. This is legal for h_inf and for h_{count} alike, so the generator cannot know which is true.",
        pair,
        None,
    )
    player, adversary = witness_protection(pair), counting_then_echoing(count)
    games = [play(player, adversary, target, min(rounds, 40)) for target in pair]
    told = table("round", "shown", "where from", "answer", "if h_inf", f"if h_{count}", numbers=_NUMBERS)
    for first, second in zip(games[0][: count + 6], games[1], strict=False):
        row = (str(first.number), str(first.shown), _origin(first), str(first.answer))
        told.add_row(*row, _VERDICTS[first.error], _VERDICTS[second.error])
    console.print(Padding(told, (0, 0, 0, 2)))
    late = [first.error or second.error for first, second in zip(*games, strict=True)][count - 1 :]
    _close(
        console,
        f"From round {count} on, {sum(map(bool, late))} of {len(late)} answers are wrong for one of the two. It must be so: what both hold is 1 to {count}, "
        "and that is not new any more. Each echo is one more different number, so no later threshold helps.",
    )


def _witnesses(console: Console, rounds: int) -> None:
    languages = residues()
    target = languages[2]
    _open(
        console,
        "Witness protection: what you never say can testify",
        "Theorem 6.1, Algorithm 2",
        "The adversary shows multiples of 4, and gives back what the generator said of the other kind, so that this is no evidence: it may be an echo. "
        "A generator that trusts only what it had not said before still never finds out, for it has said all the evidence itself. Protection "
        "keeps back, for each pair of languages, one number that tells them apart. It must come some day, and then it is sure.",
        languages,
        target,
    )
    unprotected = play(in_the_limit(languages, sure=True, protect=False), starving(), target, rounds)
    _game(console, "sure evidence alone, nothing protected", unprotected, 10, 2)
    guarded = play(witness_protection(languages), starving(), target, rounds)
    _game(
        console, "the same, with protected witnesses", guarded, max(error_rounds(guarded), default=0) + 2, 1, languages
    )
    freed = guarded[max(error_rounds(guarded))]
    _close(
        console,
        f"In round {freed.number} the number {freed.shown}, never said, has to come; being sure, it rules h2 out, and no later answer is wrong. Nothing else "
        "differs between the two games: without protection it goes wrong to the end.",
    )


def _four(console: Console, rounds: int) -> None:  # noqa: ARG001  (scenes are told alike)
    languages = four()
    _open(
        console,
        "Four languages that cannot be named",
        "Theorem 7.3",
        "Now the generator names a whole language, and is right if all of it is in the target; the adversary may replay anything of a language "
        "that was named. The first example is 0, which all four hold. Whatever is named first, there is a stream that is true for two targets:",
        languages,
        None,
    )
    streams = table("named first", "then shown, after 0", "target", "genuine", "replayed", "legal", "without replay")
    for trap in traps(languages):
        for target in trap.targets:
            begun = trap.stream[1:3]
            replayed = [str(x) for x in begun if x not in target]
            streams.add_row(
                trap.named.name,
                f"{', '.join(map(str, trap.stream[1:5]))}, ...",
                target.name,
                ", ".join(str(x) for x in begun if x in target),
                ", ".join(replayed),
                "[green]yes[/]" if legal(trap.stream, target, trap.named) else "[red]no[/]",
                "legal" if legal(trap.stream, target, None) else "illegal",
            )
    console.print(Padding(streams, (0, 0, 0, 2)))
    fitting = {one.name for trap in traps(languages) for one in right_for_both(languages, trap)}
    _close(
        console,
        f"Names that would be right for both targets of a stream: {', '.join(sorted(fitting)) or 'none of the four, in any case'}. So whatever is named "
        "later, one of two truths is failed for ever. Without replay no such stream is allowed, and to say single numbers is "
        "possible even with it (Theorem 6.1).",
    )


_SCENES: dict[str, Callable[[Console, int], None]] = {
    "burn-in": _burn_in,
    "echo": _echo,
    "witnesses": _witnesses,
    "four": _four,
}


def _open(
    console: Console, title: str, theorem: str, claim: str, languages: Sequence[Language], target: Language | None
) -> None:
    console.print()
    console.rule(f"[bold]{title}[/]  [dim]{theorem}[/]", align="left")
    console.print(Padding(claim, (0, 0, 1, 0)))
    for language in languages:
        mark = "  [bold green]<- the target[/]" if language is target else ""
        console.print(f"  [bold]{language.name:<7}[/] {language.written}{mark}")


def _close(console: Console, said: str) -> None:
    console.print(Padding(f"[bold]{said}[/]", (1, 0, 0, 0)))


def _game(
    console: Console, title: str, turns: Sequence[Round], first: int, last: int, languages: Sequence[Language] = ()
) -> None:
    console.print(Padding(f"[underline]{title}[/]", (1, 0, 0, 2)))
    told = table("round", "shown", "where from", "answer", "", *(["keeps back"] if languages else []), numbers=_NUMBERS)
    for turn in turns[:first]:
        told.add_row(*_row(turn), *([_kept_back(languages, turns[: turn.number])] if languages else []))
    if turns[first:-last]:
        wrong = sum(bool(turn.error) for turn in turns[first:-last])
        told.add_row("...", "", f"[dim]{len(turns[first:-last])} more rounds[/]", "", f"[dim]{wrong} wrong[/]")
    for turn in turns[max(first, len(turns) - last) :]:
        told.add_row(*_row(turn))
    console.print(Padding(told, (0, 0, 0, 2)))
    failed = error_rounds(turns)
    console.print(f"  wrong in {len(failed)} of {len(turns)} rounds{f', last in round {failed[-1]}' if failed else ''}")


def _row(turn: Round) -> tuple[str, ...]:
    return str(turn.number), str(turn.shown), _origin(turn), str(turn.answer), _VERDICTS[turn.error]


def _origin(turn: Round) -> str:
    if not turn.first_answered_in:
        return "new, so genuine"
    foreign = "" if turn.genuine else ", [red]foreign[/]"
    return f"[magenta]echo of round {turn.first_answered_in}[/]{foreign}"


def _kept_back(languages: Sequence[Language], turns: Sequence[Round]) -> str:
    shown, said = [turn.shown for turn in turns], [turn.answer for turn in turns]
    return ", ".join(map(str, witnesses(languages, shown, said[:-1]))) or "-"
