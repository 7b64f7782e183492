"""Why a record is set aside: the words to count by, and how many of each a run may have."""

from collections.abc import Mapping
from typing import Any

from branchline.schemas.errors import check_share, reject

REASONS = {
    "bad_duration": "a text is no length of time",
    "bad_picture": "a picture cannot be decoded",
    "bad_split": "a time or a field tells no split",
    "bad_time": "a text is no time, or one out of the range",
    "bad_weight": "a weight is negative, NaN or infinity",
    "csv_row_length": "a CSV row has more or fewer cells than the header",
    "duplicate_key": "an object has a key twice, also as a nested one",
    "feature_missing": "a feature that the route needs is absent",
    "invalid_utf8": "bytes of a text are not UTF-8",
    "label_missing": "the label, or all labels, are absent",
    "label_out_of_range": "a label is no class of its target",
    "malformed_csv": "a CSV row cannot be read",
    "malformed_example": "bytes are no tf.Example",
    "malformed_json": "a line is no JSON object",
    "nested_too_deeply": "lists or objects are within one another more than 100 times",
    "no_route": "no route takes the record",
    "not_finite": "a number is NaN or infinity",
    "number_too_large": "a number needs more than 64 bits, or a float more than 32",
    "out_of_range": "an id is none of its feature's",
    "picture_missing": "a path leads to no picture beside the records",
    "record_too_large": "a record has more bytes or keys than the stated limits",
    "reserved_key": "a key is branchline's own",
    "unknown_class": "a label is none of the names of its target's classes",
    "unreadable_block": "a block of an Avro file is damaged or too large",
    "unreadable_rest": "a file is damaged from here on",
    "weight_missing": "the weight is absent",
    "wrong_shape": "a field has more or fewer values than declared",
    "wrong_type": "a value is of another type than declared",
}


def read_reason_limits(where: str, value: Any) -> dict[str, float]:
    """Checks a recipe's or a component's `reason_limits`: reason → greatest share of the records.

    Raises:
        RecipeError: There is no such reason, or it is no share.
    """
    if not isinstance(value, Mapping):
        reject(where, value, 'a dict such as {"no_route": 0.0}')
    for reason, share in value.items():
        if reason not in REASONS:
            reject(where, reason, f"one of the reasons {', '.join(REASONS)}")
        check_share(f"{where}[{reason!r}]", share)
    return {reason: float(value[reason]) for reason in sorted(value)}
