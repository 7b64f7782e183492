"""Mutated records of all formats: nothing crashes, and nothing is lost."""

import fuzz_records
import pytest

from branchline.components.mixed_example_gen.read_record import Parsed
from branchline.schemas.reasons import REASONS


@pytest.mark.filterwarnings("ignore:Unexpected end-group tag:RuntimeWarning")
def test_no_mutated_record_crashes_or_is_lost_and_every_reason_is_reached(tmp_path):
    reasons, wrong = fuzz_records.fuzz(5000, 1, tmp_path)
    assert not wrong
    assert fuzz_records.REASONS <= set(reasons) <= {*fuzz_records.REASONS, "", "(refused)"}
    assert set(reasons) - {"", "(refused)"} <= set(REASONS)  # what can have a limit of its own
    assert not list(tmp_path.iterdir())


def fails(*_):
    raise ValueError("boom")


READERS = {
    "crash": (fails, "ValueError: boom"),
    "loss": (lambda *_: [Parsed(1, b"", {"a": [1]})], "1 items came of 50"),
    "silence": (lambda *_: [Parsed(1, b"", None)], "neither a record nor a reason"),
}


@pytest.mark.parametrize(("reader", "told"), READERS.values(), ids=READERS)
def test_the_fuzzer_notices(tmp_path, monkeypatch, reader, told):
    monkeypatch.setattr(fuzz_records, "read_records", reader)
    _, wrong = fuzz_records.fuzz(300, 1, tmp_path)
    assert any(told in each for each in wrong)
