"""Verdicts for automata: without positions decided, with positions by search from both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lengen_fast.automata import Automaton
from lengen_fast.theory.checks import Disagreement, check_automaton
from lengen_fast.theory.confusion import Confusion, Word, confusion
from lengen_fast.theory.crasp import parse
from lengen_fast.theory.potentials import Decision
from lengen_fast.theory.product import Product, product, sizes
from lengen_fast.theory.semigroup import FlipFlop, Group, StableSemigroup, TooLarge
from lengen_fast.theory.synthesis import decide_product, next_lines, synthesize
from lengen_fast.theory.verdict import FAILS, FRAGMENTS, GENERALIZES, UNKNOWN, Outlook

MOST_STATES = 500
"""Of an automaton, after joining what need not be told apart."""
MOST_PERIOD, MOST_WINDOW, MOST_OBSERVATIONS = 12, 3, 64
"""Of the products that are tried: lengths modulo so much, so many last symbols, so many pairs of both."""
PUMPS = (0, 1, 10)


@dataclass(frozen=True)
class Machine:
    """An automaton and what is to be known of its states.

    Attributes:
        automaton: with S states, none of which can be joined to another.
        marks: [S] int64, what is to be known; different marks can be reached from any two states.
        lines: by the name of a program's line, [S] bool, where it is to be true.
        subject: what is to be known, in words, such as "the state".
    """

    automaton: Automaton
    marks: np.ndarray
    lines: Mapping[str, np.ndarray]
    subject: str

    @classmethod
    def of(
        cls, automaton: Automaton, marks: np.ndarray, subject: str, lines: Mapping[str, np.ndarray] | None = None
    ) -> Machine:
        """The machine without states that need not be told apart.

        Raises:
            ValueError: more than ``MOST_STATES`` states are left.
        """
        marks = np.unique(np.asarray(marks), return_inverse=True)[1].reshape(-1)
        smaller, chosen = automaton.merged(marks)
        if smaller.states > MOST_STATES:
            raise ValueError(
                f"automaton has {smaller.states} states that must be told apart; predict takes at most {MOST_STATES}"
            )
        if lines is None:
            lines = next_lines(automaton)
        return cls(smaller, marks[chosen], {name: np.asarray(each)[chosen] for name, each in lines.items()}, subject)


def outlooks(machine: Machine) -> tuple[Outlook, Outlook]:
    """The verdicts with learned absolute positions and without any."""
    nope = without_positions(machine)
    return _with_positions(machine, nope), nope


def without_positions(machine: Machine) -> Outlook:
    """The verdict without positions: decided either way."""
    joint = product(machine.automaton)
    decision = decide_product(joint)
    if decision.known:
        return _generalizes("nope", machine, joint, decision)
    witness = confusion(decision, machine.marks)
    p, q = witness.states
    claim = (
        f"Not in C-RASP[] (arXiv 2608.13433): no balanced count tells the states {p} and {q} apart, and what is asked "
        f"depends on which of them it is."
    )
    if known_at_last_symbol(machine):
        claim += " At the last symbol itself, where a transformer sees which one it is, a program of C-RASP[] knows."
    return _fails("nope", machine, witness, claim)


def known_at_last_symbol(machine: Machine) -> bool:
    """Whether counting is enough where the last symbol of the prefix is seen: whatever it is, for what comes before."""
    for goals in machine.automaton.transitions.T:
        before, _ = machine.automaton.merged(machine.marks[goals])
        if not decide_product(product(before)).known:
            return False
    return True


def _with_positions(machine: Machine, nope: Outlook) -> Outlook:
    if nope.outcome == GENERALIZES:
        claim = f"A program of C-RASP[], which needs no positions, gives {machine.subject} after every prefix."
        return Outlook("ape", GENERALIZES, claim, nope.checked, nope.program)
    try:
        semigroup = StableSemigroup(machine.automaton, machine.marks)
        witness = semigroup.group() or semigroup.flip_flop()
        excluded = "no group and no flip-flop that lengths do not explain"
    except TooLarge as error:
        witness, excluded = None, str(error)
    if witness is not None:
        return _fails("ape", machine, witness, _excluding_claim(witness))
    for period, window in sizes(len(machine.automaton.alphabet), MOST_PERIOD, MOST_WINDOW, MOST_OBSERVATIONS):
        joint = product(machine.automaton, period, window)
        if joint is None:
            continue
        decision = decide_product(joint)
        if decision.known:
            return _generalizes("ape", machine, joint, decision)
    bounds = (
        f"periods up to {MOST_PERIOD} and windows up to {MOST_WINDOW} symbols with at most {MOST_OBSERVATIONS} "
        f"observations together"
    )
    claim = f"Found no program of C-RASP[periodic, local] with {bounds}, which does not exclude one."
    return Outlook("ape", UNKNOWN, claim, f"{bounds}; {excluded}")


def _generalizes(positions: str, machine: Machine, joint: Product, decision: Decision) -> Outlook:
    program = parse(synthesize(joint, decision, machine.lines))
    checked = check_automaton(program, machine.automaton, machine.lines)
    sees = _sees(joint)
    claim = f"A program of {FRAGMENTS[positions]}{sees} gives {machine.subject} after every prefix."
    return Outlook(positions, GENERALIZES, claim, str(checked), program)


def _sees(joint: Product) -> str:
    symbols = ["the last symbol"] if joint.window == 1 else [f"the last {joint.window} symbols"] * (joint.window > 1)
    parts = [*symbols, *[f"the length modulo {joint.period}"] * (joint.period > 1)]
    return f", which besides counting sees {' and '.join(parts)}," if parts else ""


def _fails(positions: str, machine: Machine, witness: Confusion | Group | FlipFlop, claim: str) -> Outlook:
    checked = check_witness(machine.automaton, witness)
    return Outlook(positions, FAILS, claim, checked, witness=witness, alphabet=machine.automaton.alphabet)


def _excluding_claim(witness: Group | FlipFlop) -> str:
    if isinstance(witness, FlipFlop):
        return (
            "Not in C-RASP[periodic, local], which excludes flip-flops between neutral words of one length "
            "(arXiv 2410.02140)."
        )
    known = "which excludes PARITY (arXiv 2410.02140)"
    if witness.order > 2:
        known += f", and by the same argument counting modulo {witness.order}"
    return f"Not in C-RASP[periodic, local], {known}: it counts among words of one length modulo {witness.order}."


def check_witness(automaton: Automaton, witness: Confusion | Group | FlipFlop) -> str:
    """Runs the words of a witness through the automaton.

    Returns:
        What was run.

    Raises:
        Disagreement: a word does not lead where the witness says.
    """
    for pumps in PUMPS:
        for word, state in _claimed(witness, pumps):
            if automaton.run(word)[-1] != state:
                raise Disagreement(f"the word {word} leads to state {automaton.run(word)[-1]}, not to {state}")
    times = ", ".join(map(str, PUMPS))
    if isinstance(witness, Confusion):
        return f"the words run through the automaton with N = {times}; the flow that equates them, exact"
    return f"the words run through the automaton between neutral words repeated {times} times"


def _claimed(witness: Confusion | Group | FlipFlop, pumps: int) -> Iterator[tuple[Word, int]]:
    """Words, and the states that the witness says they lead to."""
    if isinstance(witness, Confusion):
        before = witness.access + witness.loop * pumps
        yield before + witness.left, witness.states[0]
        yield before + witness.right, witness.states[1]
        return
    pad = witness.neutral * pumps
    if isinstance(witness, Group):
        for turns in range(2 * witness.order + 1):
            yield witness.access + (witness.turn + pad) * turns, witness.states[turns % witness.order]
        return
    for history in ((), witness.set + pad, witness.reset + pad):
        yield witness.access + history + witness.set + pad, witness.states[0]
        yield witness.access + history + witness.reset + pad, witness.states[1]
