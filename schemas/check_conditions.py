"""Finds routes that no record can take, as far as that can be told from their conditions alone."""

from collections.abc import Iterator, Sequence

from branchline.schemas import conditions as when


def why_never(condition: when.Condition, before: Sequence[tuple[str, when.Condition]]) -> str:
    """Says why no record can take a route; "" where one may.

    Args:
        condition: The route's.
        before: Name and condition of each route before it, in order.

    >>> is_a = when.equals("kind", "a")
    >>> why_never(is_a, [("first", is_a)])
    "every record that it matches is taken by 'first' before it"
    >>> why_never(when.all(is_a, when.not_(is_a)), [])
    'its condition contradicts itself'
    >>> why_never(when.all(is_a, when.present("x")), [("other", when.present("y"))])
    ''
    """
    parts = list(_conjuncts(condition))
    if any(_contradict(a, b) for i, a in enumerate(parts) for b in parts[:i]):
        return "its condition contradicts itself"
    for name, earlier in before:
        if all(any(_implies(part, wanted) for part in parts) for wanted in _conjuncts(earlier)):
            return f"every record that it matches is taken by {name!r} before it"
    return ""


class EarlierRoutes:
    """The routes before one; hands out those of them that could take all that a condition takes.

    Each is kept under the signs of one of its conjuncts, the one whose signs are the least common,
    so that a thousand routes are not compared each with each.
    """

    def __init__(self) -> None:
        self._routes: list[tuple[str, when.Condition]] = []
        self._signed: dict[tuple, list[int]] = {}

    def add(self, name: str, condition: when.Condition) -> None:
        """Adds a route behind the others."""
        signs = [_signs(each) for each in _conjuncts(condition)]
        rarest = min(signs, key=lambda of: sum(len(self._signed.get(sign, ())) for sign in of))
        for sign in rarest:
            self._signed.setdefault(sign, []).append(len(self._routes))
        self._routes.append((name, condition))

    def like(self, condition: when.Condition) -> list[tuple[str, when.Condition]]:
        """Name and condition of those for which `why_never` has to look, in order."""
        wanted = {sign for each in _conjuncts(condition) for sign in _implied_signs(each)}
        numbers = {number for sign in wanted for number in self._signed.get(sign, ())}
        return [self._routes[number] for number in sorted(numbers)]


def _signs(condition: when.Condition) -> set[tuple]:
    """What a condition can be found by: whatever implies it has one of these signs."""
    match condition:
        case when.IsIn(key, values):
            return {(when.IsIn, key, value) for value in values}
        case when.Any(conditions):
            return {(when.Any, condition)}.union(*map(_signs, conditions))
        case when.All() | when.Not():
            return {(type(condition), condition)}
    return {(type(condition), *condition.keys)}


def _implied_signs(condition: when.Condition) -> set[tuple]:
    """At least one sign of each condition that `condition` implies."""
    match condition:
        case when.IsIn(key, values):
            sign = (when.IsIn, key, values[0])
            return {sign, (when.Present, key)}
        case when.All() | when.Any() | when.Not():
            return {(type(condition), condition)}
    (key,) = condition.keys
    return {(type(condition), key), (when.Present, key)}


def _conjuncts(condition: when.Condition) -> Iterator[when.Condition]:
    if isinstance(condition, when.All):
        for each in condition.conditions:
            yield from _conjuncts(each)
    else:
        yield condition


def _implies(given: when.Condition, wanted: when.Condition) -> bool:
    """Whether `given` alone is known to bring `wanted` with it."""
    if given == wanted:
        return True
    if isinstance(wanted, when.Any):
        return any(_implies(given, each) for each in wanted.conditions)
    same_key = getattr(given, "key", None) == getattr(wanted, "key", "")
    if not same_key:
        return False
    if isinstance(wanted, when.Present):
        return isinstance(given, when.DType | when.IsIn | when.Greater | when.Less)
    match given, wanted:
        case when.IsIn(_, few), when.IsIn(_, many):
            return frozenset(few) <= frozenset(many)
        case when.Greater(_, a), when.Greater(_, b):
            return a >= b
        case when.Less(_, a), when.Less(_, b):
            return a <= b
    return False


def _contradict(a: when.Condition, b: when.Condition) -> bool:
    for one, other in ((a, b), (b, a)):
        if isinstance(one, when.Not) and _implies(other, one.condition):
            return True
    if getattr(a, "key", None) != getattr(b, "key", "") or getattr(a, "key", None) is None:
        return False
    match a, b:
        case when.DType(_, one), when.DType(_, other):
            return one != other
        case when.IsIn(_, some), when.IsIn(_, others):
            return frozenset(some).isdisjoint(others)
        case (when.Greater(_, low), when.Less(_, high)) | (
            when.Less(_, high),
            when.Greater(_, low),
        ):
            return low >= high
    return False
