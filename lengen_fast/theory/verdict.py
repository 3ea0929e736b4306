"""What theory says beforehand of a transformer's answers on long strings, and on what evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lengen_fast.theory.communication import FoolingFamily
from lengen_fast.theory.confusion import Confusion, Word
from lengen_fast.theory.crasp import Program
from lengen_fast.theory.semigroup import FlipFlop, Group

GENERALIZES, FAILS, UNKNOWN = "generalizes", "fails", "unknown"
TITLES = {"ape": "learned absolute positions", "nope": "no positions"}
FRAGMENTS = {"ape": "C-RASP[periodic, local]", "nope": "C-RASP[]"}

Witness = Confusion | Group | FlipFlop | FoolingFamily


@dataclass(frozen=True)
class Outlook:
    """The verdict for one kind of positions.

    Attributes:
        positions: "ape", learned absolute positions, for which C-RASP[periodic, local] stands; or "nope", none, for
            which C-RASP[] stands.
        outcome: "generalizes", "fails" or "unknown".
        claim: what is claimed, in one sentence, no more than is known.
        checked: what was tested or proved, and to which length.
        program: of an outcome "generalizes".
        witness: of an outcome "fails".
        alphabet: names of the symbols in the words of the witness.
        period, reach, depth: of the program: the period of its positional predicates (1: none), the distance of its
            local ones (0: none), and how deep its counts are nested; None without a program.
    """

    positions: str
    outcome: str
    claim: str
    checked: str
    program: Program | None = None
    witness: Witness | None = None
    alphabet: tuple[str, ...] = ()

    @property
    def period(self) -> int | None:
        return None if self.program is None else self.program.period

    @property
    def reach(self) -> int | None:
        return None if self.program is None else self.program.reach

    @property
    def depth(self) -> int | None:
        return None if self.program is None else self.program.depth

    def as_dict(self) -> dict:
        """JSON values."""
        return {
            "outcome": self.outcome,
            "claim": self.claim,
            "checked": self.checked,
            "period": self.period,
            "reach": self.reach,
            "depth": self.depth,
            "program": None if self.program is None else self.program.source,
            "witness": None if self.witness is None else witness_as_dict(self.witness, self.alphabet),
        }

    def __str__(self) -> str:
        lines = [f"{TITLES[self.positions]}: {self.outcome}", f"  {self.claim}", f"  checked: {self.checked}"]
        if self.program is not None:
            shape = f"depth {self.depth}, period {self.period}, reach {self.reach}"
            lines.append(f"  program: {len(self.program.lines)} lines, {shape}")
        if self.witness is not None:
            lines += [f"  {line}" for line in describe(self.witness, self.alphabet)]
        return "\n".join(lines)


@dataclass(frozen=True)
class Verdict:
    """What to expect of a transformer that is trained on short strings and tested on long ones.

    Attributes:
        subject: what was asked about.
        question: what is to be predicted, and where.
        ape, nope: the verdict for learned absolute positions, and for none.
    """

    subject: str
    question: str
    ape: Outlook
    nope: Outlook

    def as_dict(self) -> dict:
        """JSON values."""
        return {
            "subject": self.subject,
            "question": self.question,
            "ape": self.ape.as_dict(),
            "nope": self.nope.as_dict(),
        }

    def __str__(self) -> str:
        parts = [f"{self.subject}: {self.question}", str(self.ape), str(self.nope)]
        for program in dict.fromkeys(each.program for each in (self.nope, self.ape) if each.program is not None):
            users = [TITLES[each.positions] for each in (self.ape, self.nope) if each.program is program]
            parts.append(f"program for {' and for '.join(users)}:\n\n{program.source.rstrip()}")
        return "\n\n".join(parts)


# ---- witnesses ----


def spell(word: Sequence[int], alphabet: Sequence[str]) -> str:
    """A word of symbol numbers in the names of the symbols."""
    names = [alphabet[symbol] for symbol in word]
    return ("" if all(len(name) == 1 for name in names) else " ").join(names) or "(nothing)"


def describe(witness: Witness, alphabet: Sequence[str]) -> list[str]:
    """A witness in sentences."""
    w = lambda word: spell(word, alphabet)  # noqa: E731
    match witness:
        case Confusion():
            before = [w(witness.access)] * bool(witness.access) + [f"({w(witness.loop)})^N"] * bool(witness.loop)
            rest = [w(witness.rest)] * bool(witness.rest)
            one, other = (" ".join([*before, *[w(each)] * bool(each), *rest]) for each in (witness.left, witness.right))
            equal = "; they have equally many steps of every kind" if witness.multiple == 1 else ""
            return [
                f"words: {one} and {other}, for every N",
                f"behind {w(witness.left)} the state is {witness.states[0]}, behind {w(witness.right)} it is "
                f"{witness.states[1]}{equal}",
            ]
        case Group():
            return [
                f"words: {_behind(witness.access, w)}{w(witness.turn)} counts modulo {witness.order}, and "
                f"{w(witness.neutral)} changes nothing",
                f"the states after 0, 1, ... turns are {', '.join(map(str, witness.states))}"
                f"{_told_by(witness.rest, w)}",
            ]
        case FlipFlop():
            return [
                f"words: {_behind(witness.access, w)}what matters is which of {w(witness.set)} and {w(witness.reset)} "
                f"came last; {w(witness.neutral)} changes nothing",
                f"they lead to the states {witness.states[0]} and {witness.states[1]}{_told_by(witness.rest, w)}",
            ]
        case FoolingFamily():
            letters = ", ".join(alphabet[letter] for letter in witness.letters)
            one, other, rest = witness.example
            return [
                f"words: {alphabet[witness.first]} w, for all words w over {letters}; {witness.growth}",
                f"for instance {w(one)} and {w(other)} are told apart by {w(rest)}",
            ]
    raise TypeError(f"witness must be one of {Witness}, got {type(witness).__name__}")


def _behind(access: Word, w: Callable[[Word], str]) -> str:
    return f"behind {w(access)}, " if access else ""


def _told_by(rest: Word, w: Callable[[Word], str]) -> str:
    return f"; {w(rest)} behind them makes the difference" if rest else ""


def witness_as_dict(witness: Witness, alphabet: Sequence[str]) -> dict:
    """JSON values; words are lists of names."""
    names = lambda word: [alphabet[symbol] for symbol in word]  # noqa: E731
    match witness:
        case Confusion():
            words = {name: names(getattr(witness, name)) for name in ("access", "loop", "left", "right", "rest")}
            return {"kind": "two words no balanced count tells apart", **words, "states": list(witness.states)}
        case Group():
            words = {name: names(getattr(witness, name)) for name in ("access", "neutral", "turn", "rest")}
            return {"kind": "group", **words, "order": witness.order, "states": list(witness.states)}
        case FlipFlop():
            words = {name: names(getattr(witness, name)) for name in ("access", "set", "reset", "neutral", "rest")}
            return {"kind": "flip-flop", **words, "states": list(witness.states)}
        case FoolingFamily():
            one, other, rest = witness.example
            return {
                "kind": "fooling family",
                "first": alphabet[witness.first],
                "letters": names(witness.letters),
                "example": [names(one), names(other), names(rest)],
                "rows": {str(length): rows for length, rows in witness.growth.rows.items()},
            }
    raise TypeError(f"witness must be one of {Witness}, got {type(witness).__name__}")
