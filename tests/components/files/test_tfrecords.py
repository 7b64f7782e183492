"""TFRecord files: what is written is read again, and what is damaged is told."""

import io

import pytest
import tensorflow as tf

from branchline.components.files.tfrecords import frame, read_framed

RECORDS = [b"", b"a", b"b" * 300]


def read(content):
    return list(read_framed(io.BufferedReader(io.BytesIO(content))))


def test_tensorflow_reads_what_is_written_and_so_do_we(tmp_path):
    path = tmp_path / "records"
    path.write_bytes(frame(RECORDS))
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(path))] == RECORDS
    assert read(path.read_bytes()) == RECORDS
    assert read(b"") == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (frame([b"abc"])[:5], "length is cut off"),
        (frame([b"abc"])[:13], "a record is cut off"),
        (frame([b"abc"])[:-1], "a record is cut off"),
        (b"\xff" + frame([b"abc"])[1:], "checksum of a record's length"),
        (frame([b"abc"]).replace(b"abc", b"abd"), "checksum of a record is"),
    ],
    ids=["in-length", "in-record", "in-checksum", "other-length", "other-record"],
)
def test_damage_is_told_after_the_records_before_it(content, says):
    records = read_framed(io.BufferedReader(io.BytesIO(frame([b"good"]) + content)))
    assert next(records) == b"good"
    with pytest.raises(ValueError, match=says):
        next(records)
