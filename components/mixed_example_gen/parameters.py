"""Makes execution properties of what says which records are read."""

import json
from collections.abc import Sequence
from typing import Any

from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import range_config_pb2
from tfx.utils import proto_utils

from branchline.components.mixed_example_gen.find_files import read_paths
from branchline.components.mixed_example_gen.find_spans import NEWEST, has_span
from branchline.schemas.errors import reject


def as_parameter(
    field: str, input_base: str | Sequence[str] | RuntimeParameter
) -> str | RuntimeParameter:
    """An `input_base` as an execution property, which `read_paths` reads.

    Raises:
        RecipeError: It is no path, a parameter that holds no text, or has a place for a version
            but none for a span.
    """
    if isinstance(input_base, RuntimeParameter):
        if input_base.ptype not in (str, None):
            reject(field, input_base.ptype, "a parameter of type str")
        return input_base
    if isinstance(input_base, str):
        paths = read_paths(input_base)
    else:
        paths = [str(path) for path in input_base]
        if not paths:
            reject(field, input_base, "at least one path")
    for path in paths:
        has_span(path)
    return json.dumps(paths) if paths else ""


def as_range(field: str, config: range_config_pb2.RangeConfig | None) -> str:
    """A `range_config` as an execution property, which `read_range` reads.

    Raises:
        RecipeError: It names no spans.
    """
    given: Any = NEWEST if config is None else config
    rolling, static = given.rolling_range, given.static_range
    if given.HasField("static_range"):
        is_some = static.start_span_number <= static.end_span_number
    else:
        is_some = rolling.num_spans > 0
    text = " ".join(proto_utils.proto_to_json(given).split())
    if not is_some:
        reject(field, text, "a rolling_range or a static_range of at least one span")
    return text
