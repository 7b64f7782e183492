"""What is common to all kinds of feature."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """A kind of feature. Use one of its subclasses."""

    @property
    def dtype(self) -> str:
        """The type its values are stored as: "float", "int" or "string"."""
        raise NotImplementedError

    @property
    def num_values(self) -> int | None:
        """How many values a record must hold; None when any number will do."""
        raise NotImplementedError

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of what branchline's own preprocessing makes of a record's values."""
        return (self.num_values,)

    @property
    def required(self) -> bool:
        """Whether a record without it is quarantined; otherwise a neutral value stands in.

        A lone number becomes its route's mean, a category its own "missing" one, a text is empty,
        and what is neither yes nor no stands between them.
        To require one of those too, put `when.present(key)` into the route's condition.
        """
        return self.num_values not in (None, 1)

    @property
    def vocabulary(self) -> int | None:
        """How many values may have an index of their own; None where there is no vocabulary."""
        return None

    @property
    def num_codes(self) -> int | None:
        """How many whole numbers, from 0 on, its values may be; None for no such bound."""
        return None
