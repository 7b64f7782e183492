"""Lengths of time."""

from dataclasses import dataclass

from branchline.schemas.features.written import Written


@dataclass(frozen=True)
class Duration(Written):
    """A length of time: float32 [batch, 1].

    The logarithm of one and the seconds, with their sign, scaled to zero mean and unit variance
    over the route's training rows; a missing one becomes the mean.

    In records a text in ISO 8601 such as "P1DT2H", "PT1H30M" or "PT0.5S", in weeks, days, hours,
    minutes and seconds, as months and years have no fixed length; a text "1:30" of hours and
    minutes, or "01:30:00.5" of hours, minutes and seconds, of any number of hours; or a number of
    seconds. Each may begin with a sign. What else there is, and a billion years or more, is
    quarantined as `bad_duration`.
    """

    @property
    def reason(self) -> str:
        """A text that is no duration."""
        return "bad_duration"

    @property
    def expected(self) -> str:
        """What a text has to be, in words."""
        return "a duration such as PT1H30M, 01:30:00 or a number of seconds"
