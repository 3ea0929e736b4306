"""A program of C-RASP[periodic, local]: its lines, what they are worth at every position, and what they use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lengen_fast.theory.crasp.checker import Properties
from lengen_fast.theory.crasp.graph import Graph
from lengen_fast.theory.crasp.interpreter import Stream
from lengen_fast.theory.crasp.syntax import END, SPECIAL_SYMBOLS, Line, header, quoted, show

if TYPE_CHECKING:
    import torch

    from lengen_fast.tasks import Task
    from lengen_fast.theory.compiler import CompiledTransformer

NEXT = "NEXT_"


class Program:
    """Straight-line C-RASP[periodic, local] over an alphabet (arXiv 2410.02140, section 4).

    Token ids are those of the alphabet in order, then ``<bos>``, ``<sep>`` and ``<eos>``.

    Attributes:
        alphabet: names of the symbols.
        lines: in order; a line names earlier ones only.
        source: the text it was read from.
        definitions: place and names of each statement of the text; a family has several names.
    """

    def __init__(
        self,
        alphabet: Sequence[str],
        lines: Sequence[Line],
        source: str | None = None,
        definitions: Sequence[tuple[tuple[int, int], tuple[str, ...]]] | None = None,
    ):
        self.alphabet, self.lines = tuple(alphabet), tuple(lines)
        self.definitions = tuple((line.place, (line.name,)) for line in lines) if definitions is None else definitions
        self._source = source
        self._cache: dict[str, Any] = {}

    def __repr__(self) -> str:
        return (
            f"Program({len(self.lines)} lines over {len(self.alphabet)} symbols, {self.fragment}, depth {self.depth})"
        )

    def __str__(self) -> str:
        """Every line written out, in the syntax that ``parse`` reads."""
        return (
            "\n".join([header(self.alphabet), *(f"{line.name} := {show(line.expression)}" for line in self.lines)])
            + "\n"
        )

    @property
    def source(self) -> str:
        """The text it was read from, or its lines written out."""
        return str(self) if self._source is None else self._source

    # ---- tokens ----

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Names of the tokens by id."""
        return (*self.alphabet, *SPECIAL_SYMBOLS)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.vocabulary)}

    def token(self, name: str) -> int:
        """The id of a token."""
        if name not in self._ids:
            raise ValueError(f"{name!r} is no token of the program; they are {' '.join(self.vocabulary[:30])}")
        return self._ids[name]

    def encode(self, text: str | Iterable[str]) -> np.ndarray:
        """[T] int64 ids of names, or of a text of names between spaces (one-letter names may stand together)."""
        pieces = text.split() if isinstance(text, str) else text
        names = [name for piece in pieces for name in ([piece] if piece in self._ids else piece)]
        return np.array([self.token(name) for name in names], dtype=np.int64)

    def check_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """The tokens as int64, or an error that says which one is none."""
        if tokens.size and tokens.dtype.kind not in "iu":
            raise TypeError(f"tokens must be whole numbers, ids of the program's vocabulary, got {tokens.dtype}")
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < len(self.vocabulary):
            raise ValueError(
                f"tokens must lie in 0..{len(self.vocabulary) - 1}, the ids of the program's vocabulary, "
                f"got {tokens.min()} to {tokens.max()}"
            )
        return tokens.astype(np.int64)

    # ---- values ----

    @cached_property
    def graph(self) -> Graph:
        """The operations behind the lines."""
        return Graph(self.lines)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The lines that a run returns: those called NEXT_..., or the last one if there are none."""
        return tuple(x.name for x in self.lines if x.name.startswith(NEXT)) or (self.lines[-1].name,)

    @cached_property
    def next_symbols(self) -> tuple[str, ...]:
        """The symbols that a NEXT line may predict, all of them: the alphabet, then ``<eos>``."""
        return (*self.alphabet, END)

    @cached_property
    def next_names(self) -> tuple[str, ...]:
        """The name that the line of each of ``next_symbols`` has, whether or not there is one."""
        return tuple(NEXT + quoted(symbol) for symbol in self.next_symbols)

    def run(self, tokens: np.ndarray | Sequence[int], offset: int | np.ndarray = 0) -> dict[str, np.ndarray]:
        """Values of the outputs at every position.

        Args:
            tokens: [T] or [B, T] ids; strings of a batch that are shorter may be filled up with anything, because a
                position sees nothing behind it.
            offset: absolute position of the first token, a number or [B].

        Returns:
            By the name of the output, [T] or [B, T], bool (int64 for a count).
        """
        tokens = np.asarray(tokens)
        if tokens.ndim not in (1, 2):
            raise ValueError(f"tokens must have shape [T] or [B, T], got {tokens.shape}")
        return self.stream(None if tokens.ndim == 1 else len(tokens), offset).feed(tokens)

    def legal(self, tokens: np.ndarray | Sequence[int], offset: int | np.ndarray = 0) -> np.ndarray:
        """[T, S + 1] or [B, T, S + 1] bool: which of ``next_symbols`` may come next; the last is the end."""
        values = self.run(tokens, offset)
        nothing = np.zeros(np.shape(tokens), bool)
        return np.stack([values.get(name, nothing) for name in self.next_names], axis=-1)

    def stream(self, batch: int | None = None, offset: int | np.ndarray = 0) -> Stream:
        """One pass over tokens that come in stretches; memory does not grow with them."""
        return Stream(self, batch, offset)

    def compile(
        self, max_length: int, dtype: torch.dtype | str | None = None, task: Task | str | None = None
    ) -> CompiledTransformer:
        """A transformer that computes this program exactly up to a guaranteed length.

        Args:
            max_length: tokens of the longest string that must be right, ``<bos>`` included.
            dtype: of its parameters, or its name; None: torch.float32.
            task: whose tokens and targets it is to have, or its name, so that ``lf.evaluate`` takes it; None: the
                program's.

        Raises:
            TypeError: ``task`` is neither a task nor a name.
            ValueError: no guarantee reaches ``max_length`` in this dtype; the message says which dtype's does.
        """
        import torch

        from lengen_fast.theory.compiler import compile_program

        return compile_program(self, max_length, torch.float32 if dtype is None else dtype, task)

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        """What was made before under a key, or is made now."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    # ---- properties ----

    @cached_property
    def properties(self) -> Properties:
        """Depth, period, reach, fragment and more."""
        return Properties(self)

    @property
    def depth(self) -> int:
        """How deep counts are nested in counts."""
        return self.properties.depth

    @property
    def period(self) -> int:
        """Delta, the least common period of the positional predicates; 1 without any."""
        return self.properties.period

    @property
    def reach(self) -> int:
        """tau, the largest distance of a local relation; 0 without any."""
        return self.properties.reach

    @property
    def fragment(self) -> str:
        """[], [local], [periodic] or [periodic, local]."""
        return self.properties.fragment
