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
            return all(any(_same(a, b) for b in many) for a in few)
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
            return not any(_same(x, y) for x in some for y in others)
        case (when.Greater(_, low), when.Less(_, high)) | (
            when.Less(_, high),
            when.Greater(_, low),
        ):
            return low >= high
    return False


def _same(a: when.Scalar, b: when.Scalar) -> bool:
    """Whether a record's value can equal both: numbers as in Python, a text only a text."""
    return isinstance(a, str) == isinstance(b, str) and a == b
