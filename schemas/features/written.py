"""What is common to the kinds whose values are written as texts that mean something."""

from dataclasses import dataclass

from branchline.schemas.features.feature import Feature


@dataclass(frozen=True)
class Written(Feature):
    """A kind whose value is a text to be read, such as a time. Use one of its subclasses.

    Examples hold the text as it came, and numbers as their decimal text: to the last digit, where a
    float of an example has seven of them. A record whose text cannot be read is quarantined.
    """

    @property
    def dtype(self) -> str:
        """Numbers are kept as their decimal text."""
        return "string"

    @property
    def num_values(self) -> int:
        """A record holds one value."""
        return 1

    @property
    def reason(self) -> str:
        """Why a record is quarantined whose text cannot be read."""
        raise NotImplementedError

    @property
    def expected(self) -> str:
        """What a text has to be, in words."""
        raise NotImplementedError
