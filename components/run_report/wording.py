"""Words the numbers of a run."""

import math
from typing import Any


def number(value: Any) -> str:
    r"""A count with thin groups, another number in four digits, and a dash for none.

    >>> number(25118), number(0.93127), number(None), number(float("nan"))
    ('25\u202f118', '0.9313', '–', 'NaN')
    """
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    return f"{value:.4g}" if math.isfinite(value) else str(value).replace("nan", "NaN")


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(3.24), duration(75), duration(7265)
    ('3.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
