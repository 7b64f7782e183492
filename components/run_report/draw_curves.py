"""Draws a route's loss over its steps as an inline SVG."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 140
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 8, 22
_MOST_POINTS = 400  # of one curve
_MOST_OF_ALL = 6000  # of a page: 100 curves of 400 points each would be a megabyte


@dataclass(frozen=True)
class Curve:
    """What a template needs to draw one curve, in pixels.

    Args:
        raw: Points of the curve as recorded, "x,y x,y …".
        smooth: Points of its running mean.
        x_ticks: Position and text.
        y_ticks: Position and text.
    """

    raw: str
    smooth: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def draw_curve(losses: Sequence[Sequence[float]], num_curves: int = 1) -> Curve | None:
    """Lays out `losses`, pairs of step and loss.

    Args:
        losses: In order.
        num_curves: How many the page has; the more, the fewer points each is drawn with.

    Returns:
        None when fewer than two of them are finite.
    """
    points = [(float(x), float(y)) for x, y in losses if y is not None and math.isfinite(y)]
    if len(points) < 2:
        return None
    most = min(_MOST_POINTS, max(2, _MOST_OF_ALL // num_curves))
    points = points[:: math.ceil(len(points) / most)]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(ys), max(ys)
    y_ticks = _ticks(low, high, 4)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / ((xs[-1] - xs[0]) or 1)
        up = (y - low) / ((high - low) or 1)
        return (
            round(_LEFT + across * (WIDTH - _LEFT - _RIGHT), 1),
            round(HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM), 1),
        )

    return Curve(
        raw=_points([place(x, y) for x, y in points]),
        smooth=_points([place(x, y) for x, y in zip(xs, _running_mean(ys), strict=True)]),
        x_ticks=[
            (place(x, low)[0], f"{x:g}") for x in _ticks(xs[0], xs[-1], 4) if xs[0] <= x <= xs[-1]
        ],
        y_ticks=[(place(xs[0], y)[1], f"{y:.6g}") for y in y_ticks],
    )


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)


def _running_mean(values: Sequence[float]) -> list[float]:
    """Means over a window of a tenth of the values, centred, and narrower at the ends."""
    sums = [0.0, *itertools.accumulate(values)]
    reach = len(values) // 20
    means = []
    for n in range(len(values)):
        near = min(reach, n, len(values) - 1 - n)
        means.append((sums[n + near + 1] - sums[n - near]) / (2 * near + 1))
    return means


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers that enclose [low, high].

    >>> _ticks(0.12, 0.71, 4)
    [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(f * power for f in (1, 2, 5, 10, 20) if span / (f * power) <= most)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(n * step, 12) for n in range(first, last + 1)]
