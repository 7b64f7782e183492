"""Plans how the conditions of all routes are evaluated at once; plain Python.

The conditions become literals: a number of a node and whether it is negated. The first nodes are
atoms, which read one key; every further node is the conjunction of literals before it. (A
disjunction is the negated conjunction of what is negated.) Equal parts are one node.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from branchline.schemas import conditions as when

Literal = tuple[int, bool]


class Atom(NamedTuple):
    """A condition on one key.

    Attributes:
        kind: "present", "dtype", "class", "greater" or "less".
        key: What it reads.
        value: None, a dtype, the number of a class of values, or what is compared with.
    """

    kind: str
    key: str
    value: object = None


class Plan(NamedTuple):
    """How to evaluate the conditions.

    Attributes:
        atoms: The nodes 0, 1, …
        levels: The nodes after them: each a conjunction, which reads those of levels before.
        roots: A literal for each condition.
        classes: Token of a value → the number of its class; see `tokens`.
    """

    atoms: list[Atom]
    levels: list[list[tuple[Literal, ...]]]
    roots: list[Literal]
    classes: dict[str, int]


def tokens(value: when.Scalar) -> tuple[str, ...]:
    """Writes a value as texts, one of which a record's value has if and only if it equals it.

    A text is `s…`, a whole number `i…`, and a float `f` and the bits of a float32, as which it is
    stored, so that 0.1 in a recipe and 0.1 in a record are the same number.

    >>> tokens("a"), tokens(1), tokens(1.0), tokens(-0.5)
    (('sa',), ('f1065353216', 'i1'), ('f1065353216', 'i1'), ('f-1090519040',))
    """
    if isinstance(value, str):
        return (f"s{value}",)
    with np.errstate(over="ignore"):
        single = np.array([value], np.float64).astype(np.float32) + np.float32(
            0
        )  # -0.0 becomes 0.0
    text = f"f{single.view(np.int32)[0]}"
    return (text, f"i{int(value)}") if value == int(value) else (text,)


def plan(conditions: Sequence[when.Condition]) -> Plan:
    """Plans the evaluation of conditions, in order."""
    return _Planner(conditions).plan


class _Planner:
    def __init__(self, conditions: Sequence[when.Condition]) -> None:
        simple = list(_simple(conditions))
        wanted = {_tokens(each) for each in simple if isinstance(each, when.IsIn)}
        # Values of which the same conditions hold are one class, so that a thousand values cost
        # what one does.
        holders: dict[str, set] = {}
        for each in wanted:
            for token in each[1]:
                holders.setdefault(token, set()).add(each)
        numbers: dict[frozenset, int] = {}
        classes = {
            token: numbers.setdefault(frozenset(of), len(numbers))
            for token, of in sorted(holders.items())
        }
        self._members = {each: sorted({classes[token] for token in each[1]}) for each in wanted}
        self._atoms: dict[Atom, int] = {}
        self._nodes: dict[tuple[Literal, ...], int] = {}
        self._depth: dict[int, int] = {}
        for condition in simple:  # first of all: their number is where nodes begin
            for atom in self._atoms_of(condition):
                self._atoms.setdefault(atom, len(self._atoms))
        roots = [self._literal(condition) for condition in conditions]
        levels: list[list[tuple[Literal, ...]]] = [[] for _ in set(self._depth.values())]
        for literals, node in self._nodes.items():
            levels[self._depth[node] - 1].append(literals)
        place = {node: node for node in self._atoms.values()}
        for level in levels:
            for literals in level:
                place[self._nodes[literals]] = len(place)
        self.plan = Plan(
            list(self._atoms),
            [[_renumber(literals, place) for literals in level] for level in levels],
            list(_renumber(roots, place)),
            classes,
        )

    def _atoms_of(self, condition: when.Condition) -> list[Atom]:
        """The atoms of a condition on one key, which holds if one of them does."""
        match condition:
            case when.Present(key):
                return [Atom("present", key)]
            case when.DType(key, dtype):
                return [Atom("dtype", key, dtype)]
            case when.Greater(key, value):
                return [Atom("greater", key, value)]
            case when.Less(key, value):
                return [Atom("less", key, value)]
            case when.IsIn(key, _):
                return [Atom("class", key, number) for number in self._members[_tokens(condition)]]
        raise TypeError(f"no rule for the condition {condition!r}")

    def _literal(self, condition: when.Condition) -> Literal:
        match condition:
            case when.All(conditions):
                return self._all(self._literal(each) for each in conditions)
            case when.Any(conditions):
                return self._any(self._literal(each) for each in conditions)
            case when.Not(inner):
                return _not(self._literal(inner))
        return self._any((self._atoms[atom], False) for atom in self._atoms_of(condition))

    def _any(self, literals: Iterable[Literal]) -> Literal:
        return _not(self._all(_not(literal) for literal in literals))

    def _all(self, literals: Iterable[Literal]) -> Literal:
        parts = tuple(sorted(set(literals)))
        if len(parts) == 1:
            return parts[0]
        if parts not in self._nodes:
            node = len(self._atoms) + len(self._nodes)
            self._nodes[parts] = node
            self._depth[node] = 1 + max(self._depth.get(number, 0) for number, _ in parts)
        return self._nodes[parts], False


def _simple(conditions: Iterable[when.Condition]) -> Iterator[when.Condition]:
    """The conditions on one key that others are made of."""
    for condition in conditions:
        match condition:
            case when.All(inner) | when.Any(inner):
                yield from _simple(inner)
            case when.Not(inner):
                yield from _simple([inner])
            case _:
                yield condition


def _tokens(condition: when.IsIn) -> tuple[str, frozenset[str]]:
    """What an IsIn reads, and all that makes it hold; hashes by value."""
    return condition.key, frozenset(token for value in condition.values for token in tokens(value))


def _not(literal: Literal) -> Literal:
    return literal[0], not literal[1]


def _renumber(literals: Iterable[Literal], place: dict[int, int]) -> tuple[Literal, ...]:
    return tuple((place[number], negated) for number, negated in literals)
