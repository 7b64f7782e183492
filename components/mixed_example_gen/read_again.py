"""Reads records again at places that mostly come in order, without holding a file in memory."""

import bisect
import logging
import sys
from collections.abc import Iterator

from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.ingest import placed, read_records
from branchline.components.mixed_example_gen.ranges import Range, ranges_of
from branchline.components.mixed_example_gen.read_record import Parsed
from branchline.schemas import BranchlineError

_log = logging.getLogger(__name__)


class ReadAgain:
    """Reads a file from where it was last, or from the range in which a place is.

    Only JSONL has several ranges: another file is read from its beginning again where a place
    comes before the last one.

    Args:
        file: The file.
        declared: What is read of the records.
    """

    def __init__(self, file: RecordFile, declared: Declared) -> None:
        self._file, self._declared = file, declared
        self._ranges: list[Range] = []
        self._range: Range | None = None
        self._records: Iterator[Parsed] = iter(())
        self._next: Parsed | None = None
        self._last = 0

    def at(self, offset: int) -> Iterator[Parsed]:
        """Gives the records at an offset; none if the file has changed or gone, or cannot be read.

        Several are at one where a line of a `.json` file holds them.
        """
        try:
            self._go_to(offset)
            while self._next and self._next.offset <= offset:
                if self._next.offset == offset:
                    yield self._next
                self._next = next(self._records, None)
        except BranchlineError as error:
            self._next = None
            _log.info("what is set aside of %s stays as it was rebuilt: %s", self._file.path, error)

    def _go_to(self, offset: int) -> None:
        self._ranges = self._ranges or list(ranges_of(self._file, sys.maxsize))
        number = bisect.bisect_left(self._ranges, offset, key=lambda each: each.lines)
        part = self._ranges[max(number - 1, 0)]
        if part is not self._range or offset <= self._last:
            records = read_records(self._file, self._declared, part.start, part.stop)
            self._range = part
            self._records = (placed(each, part) for each in records)
            self._next = next(self._records, None)
        self._last = offset
