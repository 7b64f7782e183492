"""Writes routed examples: what came, with the fields of its route in their declared types.

A field nobody declared is passed on in its bytes; only where it would stand in for a declared one
of another type it gets the name `key.type`. A declared field is passed on in its bytes too, unless
it came in another type.

This is plain Python, unlike what decides the route: only the Router does it, and the operations
that it would take in TensorFlow need a second to be laid out, which is as long as routing 20 000
records takes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from branchline.components.files.wire import framed, varint
from branchline.components.routing.number_fields import Numbered
from branchline.components.routing.parse_batch import (
    ABSENT,
    DTYPE_CODES,
    EMPTY_TEXT,
    FLOAT,
    INT,
    STRING,
    Entries,
    names,
)
from branchline.components.routing.read_cells import Cells
from branchline.schemas import RoutingTable
from branchline.schemas.errors import RESERVED_KEYS, ROUTE

# Tags of fields: 1 as a message or bytes, which is the one in Example, Features, a map's key and
# the lists of values; 2 of a map's entry; those of Feature.
_FIRST, _VALUE = b"\n", b"\x12"
_KIND = {STRING: b"\n", FLOAT: b"\x12", INT: b"\x1a"}


class Read(NamedTuple):
    """What is read of a batch: [batch] by its rows, [n] by its entries, [m] by its cells.

    Attributes:
        route: int32 [batch], the number of each row's, -1 for none.
        problem: int64 [batch], -1 where all is well.
        row: int64 [n], as the following ones of `parse_batch.Entries`.
        name: int64 [n].
        kind: int64 [n].
        entry: string [n].
        feature: string [n].
        declared: bool [n], as the following ones of `read_cells.Cells`.
        cell_row: int64 [m].
        cell_field: int64 [m].
        cell_entry: int64 [m].
        floats: float32, the values of all entries end to end.
        float_splits: int64 [n + 1], where those of each entry begin and end.
        ints: int64.
        int_splits: int64 [n + 1].
    """

    route: np.ndarray
    problem: np.ndarray
    row: np.ndarray
    name: np.ndarray
    kind: np.ndarray
    entry: np.ndarray
    feature: np.ndarray
    declared: np.ndarray
    cell_row: np.ndarray
    cell_field: np.ndarray
    cell_entry: np.ndarray
    floats: np.ndarray
    float_splits: np.ndarray
    ints: np.ndarray
    int_splits: np.ndarray


def tensors_of(entries: Entries, index: tf.Tensor, cells: Cells) -> list[tf.Tensor]:
    """The tensors of a batch that `Read` holds as arrays, in its order."""
    return [
        index,
        cells.problem,
        entries.row,
        entries.name,
        entries.kind,
        entries.entry,
        entries.feature,
        cells.declared,
        cells.row,
        cells.field,
        cells.entry,
        entries.floats.flat_values,
        entries.floats.row_splits,
        entries.ints.flat_values,
        entries.ints.row_splits,
    ]


class Rewriter:
    """Encodes the examples of batches that their routes can use.

    Args:
        table: Names the columns.
        numbered: The fields of its routes.
    """

    def __init__(self, table: RoutingTable, numbered: Numbered) -> None:
        dtypes = {
            column: DTYPE_CODES[table[route].dtypes[declared]]
            for route in table.names
            for declared, column in table.columns(route).items()
        }
        # By name + 1, so that the first stands for a name that means nothing.
        self._names = ["", *names(table)]
        self._is_ours = np.array([name in RESERVED_KEYS for name in self._names])
        self._dtype = np.array([dtypes.get(name, ABSENT) for name in self._names])
        self._keys = np.array([_key(field.column) for field in numbered.fields], object)
        self._field_dtype = numbered.dtype
        self._tags = [_entry(_key(ROUTE), _texts([name.encode()])) for name in table.names]

    def __call__(self, read: Read) -> list[bytes]:
        """Gives an example for each row, with a `_route`, without where it came from.

        For a row without a route or with a problem it is empty.
        """
        goes_on = (read.route >= 0) & (read.problem < 0)
        rows: list[list[bytes]] = [[] for _ in read.route]
        kept = ~(read.declared | self._is_ours[read.name + 1]) & goes_on[read.row]
        for row, entry in zip(read.row[kept].tolist(), self._undeclared(read, kept), strict=True):
            rows[row].append(framed(_FIRST, entry))
        fields = zip(
            read.cell_row.tolist(),
            self._keys[read.cell_field].tolist(),
            self._declared(read),
            strict=True,
        )
        for row, key, feature in fields:
            rows[row].append(_entry(key, feature))
        for row in np.flatnonzero(goes_on).tolist():
            rows[row].append(self._tags[read.route[row]])
        return [framed(_FIRST, b"".join(entries)) if entries else b"" for entries in rows]

    def _undeclared(self, read: Read, kept: np.ndarray) -> list[bytes]:
        """The entries that are kept though they are no fields of their routes, in order."""
        entries, features, name = read.entry[kept], read.feature[kept], read.name[kept] + 1
        is_empty = np.array([feature == EMPTY_TEXT for feature in features], bool)
        kind = np.where(is_empty, STRING, read.kind[kept])
        dtype = self._dtype[name]
        other = np.flatnonzero((dtype > 0) & (kind > 0) & (kind != dtype))
        endings = {code: f".{dtype}" for dtype, code in DTYPE_CODES.items()}
        came = (name[other].tolist(), kind[other].tolist(), features[other].tolist())
        for place, number, code, feature in zip(other.tolist(), *came, strict=True):
            key = _key(self._names[number] + endings[code])
            entries[place] = key + framed(_VALUE, feature)
        return entries.tolist()

    def _declared(self, read: Read) -> list[bytes]:
        """The features of the cells, in their declared types."""
        features, came = read.feature[read.cell_entry], read.kind[read.cell_entry]
        wanted = self._field_dtype[read.cell_field]
        for want, have in {*zip(wanted.tolist(), came.tolist(), strict=True)}:
            if want != have:
                mine = np.flatnonzero((wanted == want) & (came == have))
                splits = read.int_splits if have == INT else read.float_splits
                entry = read.cell_entry[mine]
                encode_fn = _convert(read.ints if have == INT else read.floats, want)
                ranges = zip(splits[entry].tolist(), splits[entry + 1].tolist(), strict=True)
                for place, (start, stop) in zip(mine.tolist(), ranges, strict=True):
                    features[place] = encode_fn(start, stop)
        return features.tolist()


def _convert(values: np.ndarray, dtype: int) -> Callable[[int, int], bytes]:
    """Converts numbers to a type; gives what encodes a range of them as a Feature."""
    if dtype == FLOAT:
        packed = values.astype("<f4").tobytes()
        return lambda start, stop: _feature(dtype, framed(_FIRST, packed[4 * start : 4 * stop]))
    if dtype == INT:
        return lambda start, stop: _feature(
            dtype, framed(_FIRST, b"".join(varint(int(each)) for each in values[start:stop]))
        )
    # TensorFlow writes a number as the exported model does that looks it up.
    texts = tf.strings.as_string(values, shortest=values.dtype == np.float32).numpy()
    return lambda start, stop: _texts(texts[start:stop])


def _texts(values: list[bytes]) -> bytes:
    return _feature(STRING, b"".join([framed(_FIRST, value) for value in values]))


def _feature(dtype: int, values: bytes) -> bytes:
    return framed(_KIND[dtype], values)


def _key(key: str) -> bytes:
    return framed(_FIRST, key.encode())


def _entry(key: bytes, feature: bytes) -> bytes:
    """A key and its feature in the map that an example is."""
    size, body = len(feature), len(key) + len(feature) + 2
    if body < 128:
        return b"\n%c%b\x12%c%b" % (body, key, size, feature)
    return framed(_FIRST, key + framed(_VALUE, feature))
