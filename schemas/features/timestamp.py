"""Points in time."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from branchline.schemas.errors import reject
from branchline.schemas.features.written import Written

UNITS = {"s": 6, "ms": 3, "us": 0, "ns": -3}  # name → powers of ten of a microsecond
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Timestamp(Written):
    """A point in time: float32 [batch, 7].

    The first value is the time, scaled to zero mean and unit variance over the route's training
    rows. The other six are sine and cosine of its place in the day, the week and the year; 0 where
    the time is missing. Times are kept to the microsecond until they are scaled.

    In records a text in ISO 8601: a date as "2024-05-01", and perhaps a time behind a "T" or a
    space as "10:20", "10:20:30" or "10:20:30.123456", with "Z", "+02", "+0200" or "+02:00" or
    without. Or a number: how many `unit` have passed since 1970-01-01 UTC; digits alone are a
    number too. What else there is, and a time out of the range, is quarantined as `bad_time`.

    Args:
        unit: What numbers count: "s", "ms", "us" or "ns".
        zone: Of texts that have no offset, and of the place in day, week and year: "UTC", an offset
            such as "+02:00", or a name such as "Europe/Berlin", whose changes to and from summer
            time are known up to the year 2100. A local time that a change skips, or has twice, is
            taken by the offset before the change.
        earliest: The first time that is allowed, a text in ISO 8601; None for the year 1.
        latest: The last one; None for the end of the year 9999. Both are in `zone` if they have no
            offset.

    Raises:
        RecipeError: A field is wrong; names it, its value and what is expected.
    """

    unit: str = "s"
    zone: str = "UTC"
    earliest: str | None = None
    latest: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.unit, str) or self.unit not in UNITS:
            reject("Timestamp.unit", self.unit, f"one of {', '.join(UNITS)}")
        if _read_zone(self.zone) is None:
            names = "'UTC', an offset such as '+02:00', or a name such as 'Europe/Berlin'"
            reject("Timestamp.zone", self.zone, f"{names} that this machine knows")
        for name in ("earliest", "latest"):
            end = getattr(self, name)
            if end is not None and _read(end, self.zone) is None:
                reject(f"Timestamp.{name}", end, "a time such as '2024-01-31T10:00:00', or None")
        first, last = self.bounds
        if first > last:
            reject("Timestamp.latest", self.latest, f"a time that is not before {self.earliest}")

    @property
    def output_shape(self) -> tuple[int]:
        """The trend, and a pair for each of day, week and year."""
        return (7,)

    @property
    def bounds(self) -> tuple[int, int]:
        """The first and the last time that are allowed, in microseconds since 1970."""
        first = _read(self.earliest or "0001-01-01T00:00:00+00:00", self.zone)
        last = _read(self.latest or "9999-12-31T23:59:59.999999+00:00", self.zone)
        assert first is not None and last is not None
        return first, last

    @property
    def tzinfo(self) -> tzinfo:
        """The zone."""
        zone = _read_zone(self.zone)
        assert zone is not None
        return zone

    @property
    def reason(self) -> str:
        """A text that is no time, or a time out of the range."""
        return "bad_time"

    @property
    def expected(self) -> str:
        """What a text has to be, in words."""
        between = f" from {self.earliest}" if self.earliest else ""
        between += f" up to {self.latest}" if self.latest else ""
        return (
            "a time in ISO 8601, such as 2024-01-31 or 2024-01-31T10:00:00Z, or a number of "
            f"{self.unit} since 1970{between or ', in the years 1 to 9999'}"
        )


def _read_zone(name: object) -> tzinfo | None:
    if not isinstance(name, str):
        return None
    if name == "UTC":
        return timezone.utc
    offset = _OFFSET.fullmatch(name)
    try:
        if offset is None:
            return ZoneInfo(name)
        sign, hours, minutes = offset.groups()
        minutes = (60 * int(hours) + int(minutes)) * (-1 if sign == "-" else 1)
        return timezone(timedelta(minutes=minutes))
    except (KeyError, ValueError, OSError):  # OSError: the name of a folder of zones
        return None


def _read(text: object, zone: str) -> int | None:
    """Reads a time of a recipe, in microseconds since 1970."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    except ValueError:
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=_read_zone(zone))
    return (time - _EPOCH) // _MICROSECOND
