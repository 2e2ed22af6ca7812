"""Print games of language generation with replay: the claim, the languages, the rounds, and the conclusion.

Racca, Valko, Sanyal 2026, "Language Generation with Replay", arXiv:2603.11784; theorems have the numbers of its second
version.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding

from curation.theory.languages import Language, four, negative_and_first, overlapping, positive, residues
from curation.theory.players import burn_in, in_the_limit, uniform, witness_protection, witnesses
from curation.theory.proper import legal, right_for_both, traps
from curation.theory.replay import Round, counting_then_echoing, enumerating, error_rounds, play, starving
from flows.terminal.console import table

_RESULTS = {"": "[green]right[/]", "outside": "[red]not in the language[/]", "observed": "[yellow]nothing new[/]"}
_NUMBERS = ("round", "shown", "answer")
_MAX_SHORT_ROUNDS = 40


@dataclass(frozen=True, kw_only=True)
class _Claim:
    title: str
    theorem: str
    text: str


def print_transcript(console: Console, scene: str, rounds: int) -> None:
    """Play one scene and print it.

    Args:
        console: where it is printed.
        scene: `burn-in`, `echo`, `witnesses` or `four`.
        rounds: number of rounds of the longest game.
    """
    _SCENES[scene](console, rounds)


def _burn_in(console: Console, rounds: int) -> None:
    languages = overlapping()
    target = languages[1]
    claim = _Claim(
        title="Burn-in: waiting makes replay harmless",
        theorem="Theorem 4.1",
        text="A class of languages that can be generated after d distinct examples without replay can be generated "
        "with replay after as many: until then the generator repeats the first example, which is genuine because the "
        "generator had produced nothing before it. Here d is 5: the first two languages share only 1, 2, 3, 4.",
    )
    _print_claim(console, claim, languages, target)
    for title, player in (
        ("without burn-in: early guesses come back as examples", uniform(languages)),
        ("with burn-in of 5", burn_in(uniform(languages), 5)),
    ):
        game = play(player, enumerating(target, 2, 0), target, min(rounds, _MAX_SHORT_ROUNDS))
        _print_game(console, title, game, (10, 1))
    _print_conclusion(console, "Replay does no harm: with burn-in every generated number belongs to the target.")


def _echo(console: Console, rounds: int) -> None:
    threshold = 3
    pair = [positive(), negative_and_first(threshold)]
    claim = _Claim(
        title="The echo: a threshold per language is no longer possible",
        theorem="Theorem 5.1",
        text=f"A generator guarantees correct outputs for h_inf once it has seen {threshold} distinct numbers of it. "
        f"The adversary shows 1 to {threshold}, and then only repeats the generator's last output. This is legal for "
        f"h_inf and for h_{threshold}, so the generator cannot know which is true.",
    )
    _print_claim(console, claim, pair, None)
    player, adversary = witness_protection(pair), counting_then_echoing(threshold)
    games = [play(player, adversary, target, min(rounds, _MAX_SHORT_ROUNDS)) for target in pair]
    rows = table("round", "shown", "origin", "answer", "if h_inf", f"if h_{threshold}", numbers=_NUMBERS)
    for first, second in zip(games[0][: threshold + 6], games[1], strict=False):
        number, shown, origin, answer, _ = _row(first)
        rows.add_row(number, shown, origin, answer, _RESULTS[first.error], _RESULTS[second.error])
    console.print(Padding(rows, (0, 0, 0, 2)))
    errors = [first.error or second.error for first, second in zip(*games, strict=True)][threshold - 1 :]
    _print_conclusion(
        console,
        f"From round {threshold} on, {sum(map(bool, errors))} of {len(errors)} answers are wrong for one of the two. "
        f"This is inevitable: both languages share 1 to {threshold}, which are no longer new. Each echo is one more "
        "distinct number, so no later threshold helps.",
    )


def _witnesses(console: Console, rounds: int) -> None:
    languages = residues()
    target = languages[2]
    claim = _Claim(
        title="Witness protection: a number that was never generated is evidence",
        theorem="Theorem 6.1, Algorithm 2",
        text="The adversary shows multiples of 4, and replays the generator's outputs of the other kind, which are no "
        "evidence: they may be echoes. A generator that trusts only numbers that it has not generated never finds the "
        "target, because it has generated all the evidence itself. Protection reserves, for each pair of languages, "
        "one number that distinguishes them. It must be shown at some time, and is then certain evidence.",
    )
    _print_claim(console, claim, languages, target)
    unprotected = play(in_the_limit(languages, sure=True, protect=False), starving(), target, rounds)
    _print_game(console, "certain evidence only, nothing protected", unprotected, (10, 2))
    protected = play(witness_protection(languages), starving(), target, rounds)
    last_error = max(error_rounds(protected), default=0)
    _print_game(
        console,
        "the same, with protected witnesses",
        protected,
        (last_error + 2, 1),
        languages,
    )
    revealed = protected[last_error]
    _print_conclusion(
        console,
        f"In round {revealed.number} the number {revealed.shown}, which was never generated, must be shown. It "
        "excludes h2 with certainty, and no later answer is wrong. Nothing else differs between the two games: without "
        "protection the generator fails to the end.",
    )


def _four(console: Console, rounds: int) -> None:  # noqa: ARG001  (all scenes have one signature)
    languages = four()
    claim = _Claim(
        title="Four languages that cannot be named",
        theorem="Theorem 7.3",
        text="Now the generator names a whole language, and is right if all of it is in the target; the adversary may "
        "replay any number of a language that was named. The first example is 0, which all four contain. For each "
        "language that can be named first, there is a stream that is legal for two targets:",
    )
    _print_claim(console, claim, languages, None)
    rows = table("named first", "then shown, after 0", "target", "genuine", "replayed", "legal", "without replay")
    for trap in traps(languages):
        for target in trap.targets:
            first_shown = trap.stream[1:3]
            rows.add_row(
                trap.named.name,
                f"{', '.join(map(str, trap.stream[1:5]))}, ...",
                target.name,
                ", ".join(str(number) for number in first_shown if number in target),
                ", ".join(str(number) for number in first_shown if number not in target),
                "[green]yes[/]" if legal(trap.stream, target, trap.named) else "[red]no[/]",
                "legal" if legal(trap.stream, target, None) else "illegal",
            )
    console.print(Padding(rows, (0, 0, 0, 2)))
    names = {language.name for trap in traps(languages) for language in right_for_both(languages, trap)}
    _print_conclusion(
        console,
        f"Names that are right for both targets of a stream: {', '.join(sorted(names)) or 'none of the four'}. So "
        "any language that is named later is wrong for one of two targets in every round. Without replay no such "
        "stream is legal, and single numbers can be generated even with replay (Theorem 6.1).",
    )


_SCENES: dict[str, Callable[[Console, int], None]] = {
    "burn-in": _burn_in,
    "echo": _echo,
    "witnesses": _witnesses,
    "four": _four,
}


def _print_claim(console: Console, claim: _Claim, languages: Sequence[Language], target: Language | None) -> None:
    console.print()
    console.rule(f"[bold]{claim.title}[/]  [dim]{claim.theorem}[/]", align="left")
    console.print(Padding(claim.text, (0, 0, 1, 0)))
    for language in languages:
        mark = "  [bold green]<- the target[/]" if language is target else ""
        console.print(f"  [bold]{language.name:<7}[/] {language.written}{mark}")


def _print_conclusion(console: Console, text: str) -> None:
    console.print(Padding(f"[bold]{text}[/]", (1, 0, 0, 0)))


def _print_game(
    console: Console, title: str, game: Sequence[Round], shown: tuple[int, int], languages: Sequence[Language] = ()
) -> None:
    """Print the first and last rounds of a game, as many as `shown`; with `languages`, also the reserved witnesses."""
    num_first, num_last = shown
    console.print(Padding(f"[underline]{title}[/]", (1, 0, 0, 2)))
    extra = ["reserved"] if languages else []
    rows = table("round", "shown", "origin", "answer", "", *extra, numbers=_NUMBERS)
    for turn in game[:num_first]:
        rows.add_row(*_row(turn), *([_reserved(languages, game[: turn.number])] if languages else []))
    skipped = game[num_first:-num_last]
    if skipped:
        num_wrong = sum(bool(turn.error) for turn in skipped)
        rows.add_row("...", "", f"[dim]{len(skipped)} more rounds[/]", "", f"[dim]{num_wrong} wrong[/]")
    for turn in game[max(num_first, len(game) - num_last) :]:
        rows.add_row(*_row(turn))
    console.print(Padding(rows, (0, 0, 0, 2)))
    wrong = error_rounds(game)
    last_wrong = f", last in round {wrong[-1]}" if wrong else ""
    console.print(f"  wrong in {len(wrong)} of {len(game)} rounds{last_wrong}")


def _row(turn: Round) -> tuple[str, str, str, str, str]:
    return str(turn.number), str(turn.shown), _origin(turn), str(turn.answer), _RESULTS[turn.error]


def _origin(turn: Round) -> str:
    if not turn.first_answered_in:
        return "new, so genuine"
    foreign = "" if turn.genuine else ", [red]foreign[/]"
    return f"[magenta]echo of round {turn.first_answered_in}[/]{foreign}"


def _reserved(languages: Sequence[Language], game: Sequence[Round]) -> str:
    shown = [turn.shown for turn in game]
    earlier_answers = [turn.answer for turn in game[:-1]]
    return ", ".join(map(str, witnesses(languages, shown, earlier_answers))) or "-"
