"""Checks the streams of a training, and opens them in a fixed order at a given place."""

from collections.abc import Iterator, Mapping

import tensorflow as tf

from branchline.components.branch_trainer.private_api import inputs_of


def check_stream(path: str, stream: tf.data.Dataset) -> None:
    """Checks what can be seen of a stream without reading it.

    Args:
        path: that it trains.
        stream: dataset of batches.

    Raises:
        TypeError: it is no dataset.
        ValueError: its elements are not (features, labels[, sample_weight]), or it is empty.
    """
    if not isinstance(stream, tf.data.Dataset):
        raise TypeError(
            f"The stream of path {path!r} is a {type(stream).__name__}, expected a tf.data.Dataset"
        )
    spec = stream.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            f"The stream of path {path!r} has elements {spec}, expected (features, labels) or "
            "(features, labels, sample_weight)"
        )
    if stream.cardinality() == 0:
        raise ValueError(f"The stream of path {path!r} is empty")


def is_mixed(stream: tf.data.Dataset) -> bool:
    """Returns whether a stream is of mixed batches, ((features, path ids), labels, …)."""
    spec = getattr(stream, "element_spec", None)
    return isinstance(spec, tuple) and isinstance(spec[0], tuple) and len(spec[0]) == 2


def check_separate(streams: Mapping[str, tf.data.Dataset]) -> None:
    """Checks that no two streams read one shuffled dataset.

    All iterators over a `shuffle` draw from one random state, so that which batches they give
    depends on the order in which they are read, and cannot be had again when resuming.

    Args:
        streams: path → dataset.

    Raises:
        ValueError: two do; names them.
    """
    owners: dict[int, str] = {}
    for path, stream in streams.items():
        for dataset in _with_inputs(stream):
            if "shuffle" not in type(dataset).__name__.lower():
                continue
            other = owners.setdefault(id(dataset), path)
            if other != path:
                raise ValueError(
                    f"The streams of paths {other!r} and {path!r} read one shuffled dataset, so "
                    "their order depends on each other and training could not be resumed: build "
                    "each from its own Dataset, or train without checkpoint_dir"
                )


def _with_inputs(dataset: tf.data.Dataset) -> Iterator[tf.data.Dataset]:
    yield dataset
    for parent in inputs_of(dataset):
        yield from _with_inputs(parent)


def open_at(stream: tf.data.Dataset, num_read: int, *, repeat: bool) -> tf.data.Dataset:
    """Returns the stream from a place on, in an order that does not depend on timing.

    Args:
        stream: dataset of batches.
        num_read: batches before that place, counted over all repetitions.
        repeat: whether it starts again when it ends.
    """
    options = tf.data.Options()
    options.deterministic = True
    stream = stream.with_options(options)
    stream = stream.repeat() if repeat else stream
    return stream.skip(num_read) if num_read else stream


def rows_of(batch: tuple) -> tf.Tensor:
    """Returns the number of rows of a batch, int64 []."""
    return tf.shape(tf.nest.flatten(batch[1])[0], out_type=tf.int64)[0]
