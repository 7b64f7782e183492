"""Writes routed examples: what came, with the fields of its route in their declared types.

A field nobody declared is passed on in its bytes; only where it would stand in for a declared one
of another type it gets the name `key.type`. A declared field is passed on in its bytes too, unless
it came in another type.

This is plain Python, unlike what decides the route: only the Router does it, and the operations
that it would take in TensorFlow need a second to be laid out, which is as long as routing 20 000
records takes.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from branchline.components.files.wire import framed, varint
from branchline.components.routing.class_names import class_names
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
from branchline.schemas.class_names import NONE_OF_THEM
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
        sizes: int64 [n].
        entry: string [n].
        feature: string [n].
        declared: bool [n], as the following ones of `read_cells.Cells`.
        cell_row: int64 [m].
        cell_field: int64 [m].
        cell_entry: int64 [m].
        names: int64, the names of all cells end to end.
        name_splits: int64 [m + 1], where those of each cell begin and end; [1] if there are none.
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
    sizes: np.ndarray
    entry: np.ndarray
    feature: np.ndarray
    declared: np.ndarray
    cell_row: np.ndarray
    cell_field: np.ndarray
    cell_entry: np.ndarray
    names: np.ndarray
    name_splits: np.ndarray
    floats: np.ndarray
    float_splits: np.ndarray
    ints: np.ndarray
    int_splits: np.ndarray


def tensors_of(entries: Entries, index: tf.Tensor, cells: Cells) -> list[tf.Tensor]:
    """The tensors of a batch that `Read` holds as arrays, in its order."""
    none = tf.zeros([1], tf.int64)
    names = (
        (none, none) if cells.names is None else (cells.names.flat_values, cells.names.row_splits)
    )
    return [
        index,
        cells.problem,
        entries.row,
        entries.name,
        entries.kind,
        entries.size,
        entries.entry,
        entries.feature,
        cells.declared,
        cells.row,
        cells.field,
        cells.entry,
        *names,
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
        self._key_sizes = _sizes(self._keys)
        self._field_dtype = numbered.dtype
        self._class_names = [name.encode() for name in class_names(numbered.fields).names]
        self._learnt_lists = numbered.is_set & numbered.learns
        self._tags = [
            framed(_FIRST, _key(ROUTE) + framed(_VALUE, _texts([name.encode()])))
            for name in table.names
        ]

    def __call__(self, read: Read) -> list[bytes]:
        """Gives an example for each row, with a `_route`, without where it came from.

        For a row without a route or with a problem it is empty.
        """
        goes_on = (read.route >= 0) & (read.problem < 0)
        kept = np.flatnonzero(~(read.declared | self._is_ours[read.name + 1]) & goes_on[read.row])
        others, fields = self._undeclared(read, kept), self._declared(read)
        rows = np.arange(len(read.route) + 1)
        first_other = (np.searchsorted(read.row[kept], rows) * others.shape[1]).tolist()
        first_field = (np.searchsorted(read.cell_row, rows) * fields.shape[1]).tolist()
        route = read.route.tolist()
        others, fields = others.ravel().tolist(), fields.ravel().tolist()
        texts = [b""] * len(route)
        for row in np.flatnonzero(goes_on).tolist():
            parts = others[first_other[row] : first_other[row + 1]]
            parts += fields[first_field[row] : first_field[row + 1]]
            parts.append(self._tags[route[row]])
            texts[row] = framed(_FIRST, b"".join(parts))
        return texts

    def _undeclared(self, read: Read, kept: np.ndarray) -> np.ndarray:
        """The entries kept though they are no fields of their routes, in parts [kept, 2]."""
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
        return np.stack([_heads(_FIRST, _sizes(entries)), entries], axis=1)

    def _declared(self, read: Read) -> np.ndarray:
        """The entries of the cells, their features in their declared types, in parts [m, 4]."""
        features, came = read.feature[read.cell_entry], read.kind[read.cell_entry]
        wanted = self._field_dtype[read.cell_field]
        named = np.flatnonzero(np.diff(read.name_splits))
        if len(named):
            features[named] = self._named(read, named)
            came[named] = STRING
        empty = self._learnt_lists[read.cell_field] & (read.sizes[read.cell_entry] == 0)
        features[empty], came[empty] = _texts([NONE_OF_THEM.encode()]), STRING
        for want, have in {*zip(wanted.tolist(), came.tolist(), strict=True)}:
            if want != have:
                mine = np.flatnonzero((wanted == want) & (came == have))
                values, splits = read.floats, read.float_splits
                if have == INT:
                    values, splits = read.ints, read.int_splits
                entry = read.cell_entry[mine]
                features[mine] = _CONVERT[want](values, splits[entry], splits[entry + 1])
        key, size = self._keys[read.cell_field], _sizes(features)
        value = _heads(_VALUE, size)
        body = self._key_sizes[read.cell_field] + _sizes(value) + size
        return np.stack([_heads(_FIRST, body), key, value, features], axis=1)

    def _named(self, read: Read, cells: np.ndarray) -> np.ndarray:
        """Features of the names that cells stand for, as the recipe writes them."""
        if (np.diff(read.name_splits)[cells] == 1).all():  # each of a few names is written once
            texts = np.array([_texts([name]) for name in self._class_names], object)
            return texts[read.names[read.name_splits[cells]]]
        names = [self._class_names[name] for name in read.names.tolist()]
        start, stop = read.name_splits[cells].tolist(), read.name_splits[cells + 1].tolist()
        made = [_texts(names[i:j]) for i, j in zip(start, stop, strict=True)]
        return np.array(made, object)


def _as_floats(values: np.ndarray, start: np.ndarray, stop: np.ndarray) -> list[bytes]:
    """Ranges of values as features of floats."""
    size = 4 * (stop - start)
    heads = {each: _feature_head(FLOAT, each) for each in np.unique(size).tolist()}
    packed = values.astype("<f4").tobytes()
    ranges = zip(size.tolist(), (4 * start).tolist(), (4 * stop).tolist(), strict=True)
    return [heads[each] + packed[begin:end] for each, begin, end in ranges]


def _as_ints(values: np.ndarray, start: np.ndarray, stop: np.ndarray) -> list[bytes]:
    packed = (
        b"".join([varint(int(each)) for each in values[begin:end]])
        for begin, end in zip(start.tolist(), stop.tolist(), strict=True)
    )
    return [_feature_head(INT, len(each)) + each for each in packed]


def _as_texts(values: np.ndarray, start: np.ndarray, stop: np.ndarray) -> list[bytes]:
    # TensorFlow writes a number as the exported model does that looks it up.
    texts = tf.strings.as_string(values, shortest=values.dtype == np.float32).numpy().tolist()
    ranges = zip(start.tolist(), stop.tolist(), strict=True)
    return [_texts(texts[begin:end]) for begin, end in ranges]


_CONVERT = {FLOAT: _as_floats, INT: _as_ints, STRING: _as_texts}


def _feature_head(dtype: int, size: int) -> bytes:
    """What comes in a feature of numbers before their bytes, `size` of them."""
    head = _FIRST + varint(size)
    return _KIND[dtype] + varint(len(head) + size) + head


def _texts(values: list[bytes]) -> bytes:
    return framed(_KIND[STRING], b"".join([framed(_FIRST, value) for value in values]))


def _key(key: str) -> bytes:
    return framed(_FIRST, key.encode())


def _sizes(texts: np.ndarray) -> np.ndarray:
    return np.fromiter(map(len, texts), np.int64, len(texts))


def _heads(tag: bytes, sizes: np.ndarray) -> np.ndarray:
    """What comes before bodies of these sizes, see `framed`: each size is written once."""
    different, which = np.unique(sizes, return_inverse=True)
    return np.array([tag + varint(size) for size in different.tolist()], object)[which]
