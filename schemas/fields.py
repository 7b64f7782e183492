"""What a route's records hold under one key: the one place that knows it."""

from dataclasses import dataclass

from branchline.schemas.features import Image, Written


@dataclass(frozen=True)
class Field:
    """A feature, a label or the weight of a route, as records and routed examples hold it.

    Attributes:
        key: Of the record's field.
        column: The name under which a routed example of the route holds it, see
            `RoutingTable.column`.
        dtype: The type it is stored as: "float", "int" or "string".
        num_values: How many values a record must hold; None when any number will do.
        required: Whether a record without it is quarantined.
        is_label: Whether it is predicted.
        num_codes: How many values, from 0 on, an int may take; None where there is no such bound.
        classes: The names, one of which each value is; None where there are no such names.
        written: As what its text is read, of which not every one can be; None for any text, and for
            numbers.
        is_weight: Whether it says how much a record counts.
    """

    key: str
    column: str
    dtype: str
    num_values: int | None
    required: bool
    is_label: bool
    num_codes: int | None = None
    classes: tuple[str, ...] | None = None
    written: Written | Image | None = None
    is_weight: bool = False

    @property
    def is_feature(self) -> bool:
        """Whether it is neither label nor weight: what a served model is given."""
        return not (self.is_label or self.is_weight)
