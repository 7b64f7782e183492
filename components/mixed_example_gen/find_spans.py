"""Chooses the spans that a path with {SPAN}, {VERSION} or {YYYY}{MM}{DD} stands for, as TFX does.

Source: tfx.components.example_gen.utils, whose functions read the paths; what they list and which
span they take is too little here: files of records alone tell of a span, in any store, and a window
may have several.
"""

import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from tfx.components.example_gen import utils
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx.utils import proto_utils

from branchline.components.mixed_example_gen.find_files import literal, match_records
from branchline.schemas import BranchlineError, RecipeError

NEWEST = range_config_pb2.RangeConfig(rolling_range=range_config_pb2.RollingRange(num_spans=1))


class Chosen(NamedTuple):
    """What is read of the paths that were named.

    Attributes:
        paths: With what is chosen in the place of {SPAN} and {VERSION}.
        spans: Those that are chosen, in order; none if no path has a place for one.
        version: Of the last of them; None if no path has a place for one.
    """

    paths: list[str]
    spans: list[int]
    version: int | None


class _Place(NamedTuple):
    """Where a version of a span is: what stands in a path for {SPAN} or the date, for {VERSION}."""

    span: tuple[str, ...]
    version: str


def range_of_spans(spans: int | tuple[int, int]) -> Any:
    """Makes a RangeConfig of `Recipe.spans`: the newest ones, or those from the first to the last.

    >>> range_of_spans((3, 5)).static_range.end_span_number
    5
    """
    if isinstance(spans, int):
        rolling = range_config_pb2.RollingRange(num_spans=spans)
        return range_config_pb2.RangeConfig(rolling_range=rolling)
    first, last = spans
    static = range_config_pb2.StaticRange(start_span_number=first, end_span_number=last)
    return range_config_pb2.RangeConfig(static_range=static)


def read_range(text: str | None) -> Any:
    """Reads a RangeConfig from an execution property; without one the newest span is taken."""
    return proto_utils.json_to_proto(text, range_config_pb2.RangeConfig()) if text else NEWEST


def has_span(path: str) -> bool:
    """Whether a path has a place for a span.

    Raises:
        RecipeError: It has one for a version alone, or for a part of a date, or one twice, or one
            behind `**`.
    """
    try:
        specs = utils.verify_split_pattern_specs(_split(path))
        if any(specs) and any(utils.verify_split_pattern_specs(_split(path.partition("**")[2]))):
            raise ValueError("expected the span before **")
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from error
    return any(specs)


def choose_spans(paths: Iterable[str], config: Any = NEWEST) -> Chosen:
    """Chooses the newest spans, or those of a range, and of each its newest version.

    Args:
        paths: Files, directories or patterns, as `find_files` takes them. All that have a place for
            a span must have the same ones; those without are read in any case.
        config: TFX's RangeConfig. `rolling_range` takes the newest `num_spans` that there are, none
            before `start_span_number`; `static_range` those that there are of a range.

    Raises:
        RecipeError: As `has_span`.
        BranchlineError: There is no such span, what stands in its place is no number or date, or
            paths have different spans or versions.
    """
    filled: list[str] = []
    chosen: dict[str, dict[int, int | None]] = {}  # path → span → version
    for path in paths:
        if not has_span(path):
            filled.append(path)
            continue
        found = _newest_versions(path)
        spans = _within(sorted(found), config)
        if not spans:
            has = f"only {', '.join(map(str, sorted(found)))}" if found else "none"
            raise BranchlineError(f"{path}: expected {_wanted(config)}, but found {has}")
        chosen[path] = {span: found[span][0] for span in spans}
        places = [place for span in spans for place in sorted(found[span][1])]
        filled += [_fill(path, place) for place in places]
    first = next(iter(chosen.values()), {})
    if any(each != first for each in chosen.values()):
        told = "; ".join(f"{path}: {_told(each)}" for path, each in chosen.items())
        raise BranchlineError(f"expected the same spans and versions of every path, got {told}")
    return Chosen(filled, list(first), [None, *first.values()][-1])


def next_span(path: str) -> str:
    """Names the span after the newest one, with version 1; a path without a place stays as it is.

    >>> next_span("/mended")
    '/mended'

    Raises:
        RecipeError: As `has_span`, or the path has a place for a date.
        BranchlineError: What stands in the place of a span is no number.
    """
    if not has_span(path):
        return path
    is_span, is_date, is_version = utils.verify_split_pattern_specs(_split(path))
    if is_date:
        raise RecipeError(f"{path}: got a place for a date, expected one for a number, {{SPAN}}")
    span = max(_newest_versions(path), default=0) + 1
    return utils.get_pattern_for_span_version(path, is_span, is_date, is_version, span, 1)


def _split(pattern: str) -> Any:
    return example_gen_pb2.Input.Split(name="records", pattern=pattern)


def _newest_versions(path: str) -> dict[int, tuple[int | None, set[_Place]]]:
    """Gives span → its newest version, and where that is, of all files of records of a path."""
    specs = utils.verify_split_pattern_specs(_split(path))
    head = path[: path.index("{")].rpartition("/")[0]
    head = f"{head}/" if os.path.isdir(head) else ""  # else it may be a pattern, too
    upto, deep, _ = path.removeprefix(head).partition("**")
    split = _split(f"{upto}*" if deep else upto.rstrip("/"))
    found: dict[int, tuple[int | None, set[_Place]]] = {}
    try:
        glob, regex = utils._create_matching_glob_and_regex("", split, *specs, None)
        for file in match_records(literal(head) + glob):
            parts = file.removeprefix(head).split("/")[: glob.count("/") + 1]
            told: Any = utils._find_matched_span_version_from_path("/".join(parts), regex, *specs)
            tokens, span, token, version = told
            newest, places = found.get(span, (version, set()))
            if version is not None and version > newest:
                newest, places = version, set()
            if version == newest:
                places.add(_Place(tuple(tokens), token or ""))
            found[span] = newest, places
    except ValueError as error:
        raise BranchlineError(f"{path}: {error}; expected folders or files of records") from error
    return found


def _within(spans: list[int], config: Any) -> list[int]:
    if config.HasField("static_range"):
        static = config.static_range
        return [s for s in spans if static.start_span_number <= s <= static.end_span_number]
    rolling = config.rolling_range
    return [s for s in spans if s >= rolling.start_span_number][-rolling.num_spans :]


def _fill(path: str, place: _Place) -> str:
    """Puts into a path what stood there, with the zeros in front that it may have."""
    specs = [utils.SPAN_FULL_REGEX] if len(place.span) == 1 else map(re.escape, utils.DATE_SPECS)
    for spec, token in zip(
        [*specs, utils.VERSION_FULL_REGEX], [*place.span, place.version], strict=True
    ):
        path = re.sub(spec, token, path)
    return path


def _wanted(config: Any) -> str:
    if config.HasField("static_range"):
        static = config.static_range
        return f"a span from {static.start_span_number} to {static.end_span_number}"
    start = config.rolling_range.start_span_number
    return f"files of records of a span{f' from {start} on' if start else ''}"


def _told(spans: dict[int, int | None]) -> str:
    return ", ".join(f"{s}" if v is None else f"{s} (version {v})" for s, v in spans.items())
