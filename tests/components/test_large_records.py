"""D18: MixedExampleGen and Router need memory for bytes, not for rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import measure_memory
import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchline.components.files import tfrecords

QUARANTINED = {"long-lists.jsonl": {"wrong_shape": 2}}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Case → reasons, of a process that fails where it needs more memory than a case states."""
    script, root = Path(measure_memory.__file__), Path(__file__).parents[2]
    path = os.pathsep.join([str(root), *sys.path])
    done = subprocess.run(
        [sys.executable, script, tmp_path_factory.mktemp("d18")],
        env=os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr[-2000:]  # native code that gets no memory aborts
    return json.loads(done.stdout)


@pytest.mark.e2e
@pytest.mark.parametrize("case", measure_memory.CASES, ids="D18-{}".format)
def test_large_records_go_through_in_the_stated_memory(outcomes, case):
    assert outcomes[case] == QUARANTINED.get(case, {})


@given(st.lists(st.sampled_from([0, 1, 3, 10, 99, 200]), max_size=60))
def test_batches_hold_every_record_and_rows_times_the_largest_is_bounded(sizes):
    records = [bytes([i]) * size for i, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfrecords, "BATCH_BYTES", 100)
        patch.setattr(tfrecords, "MOST_ROWS", 8)
        batch = tfrecords.Batch()
        batches = [full for each in records if (full := batch.add(each))] + [batch.take()]
    assert [each for batch in batches for each in batch] == records
    for each in batches[: len(records)]:
        if len(each) > 1:
            assert len(each) <= 8 and len(each) * max(map(len, each)) <= 100


def test_ordinary_records_come_in_full_batches():
    batch = tfrecords.Batch()
    sizes = [len(full) for _ in range(10_000) if (full := batch.add(b"x" * 300))]
    assert sizes == [tfrecords.MOST_ROWS] * 4


def test_framed_records_are_those_that_tensorflow_reads(tmp_path):
    import tensorflow as tf

    records = [b"", b"x" * 300, b"y" * 70_000]
    (tmp_path / "a").write_bytes(tfrecords.frame(records))
    assert [row.numpy() for row in tf.data.TFRecordDataset(str(tmp_path / "a"))] == records
    with open(tmp_path / "a", "rb") as file:
        assert list(tfrecords.read_framed(file)) == records
