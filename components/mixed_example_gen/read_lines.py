"""Reads the lines of a file, up to where it is damaged."""

import io
from collections.abc import Iterator

from branchline.components.mixed_example_gen.open_file import unreadable_rest
from branchline.components.mixed_example_gen.read_record import Parsed
from branchline.schemas import BranchlineError


class Lines:
    """The lines of an opened file, whole ones: what stands before damage without an end is not.

    Attributes:
        rest: After the last line: what is set aside for the lines that cannot be read; None if
            all were.
    """

    def __init__(self, file: io.BufferedReader, path: str) -> None:
        self._file, self._path = file, path
        self.rest: Parsed | None = None

    def __iter__(self) -> Iterator[bytes]:
        number = 0
        try:
            for line in self._file:
                number += 1
                yield line
        except BranchlineError:
            raise
        except Exception as error:  # noqa: BLE001 - each decompressor has its own
            self.rest = unreadable_rest(self._path, number + 1 if number else 0, error)
