"""Yes or no."""

from dataclasses import dataclass

from branchline.schemas.features.written import Written


@dataclass(frozen=True)
class Bool(Written):
    """Yes or no: float32 [batch, 1], 1 for yes, -1 for no, and 0, which favours neither, for none.

    In records true or false, 1 or 0, or one of the texts "true", "t", "yes", "y", "1" and "false",
    "f", "no", "n", "0" in any case, with spaces around it or not.
    """

    @property
    def reason(self) -> str:
        """Anything else is of another type."""
        return "wrong_type"

    @property
    def expected(self) -> str:
        """What a text has to be, in words."""
        return "true or false, yes or no, t or f, y or n, 1 or 0"
