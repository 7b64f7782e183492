"""Files in a bucket are found by one listing, however many there are."""

import logging
import time

from object_store import BUCKET, object_store

from branchline.components.mixed_example_gen.find_files import find_files, fingerprint_of


def put(client, numbers):
    for number in numbers:
        client.put_object(Bucket=BUCKET, Key=f"records/{number:04d}.jsonl", Body=b'{"a": 1}\n')
    time.sleep(1.1)  # files of this very second are listed a second time for a fingerprint


def requests_of(caplog, ask):
    """What is asked of the server, and what came of it."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "werkzeug"):
        found = ask()
    return [each.getMessage() for each in caplog.records if each.name == "werkzeug"], found


def test_d20_ten_thousand_files_are_found_by_one_listing_not_by_a_request_for_each(
    monkeypatch, caplog
):
    root = f"s3://{BUCKET}/records"
    with object_store(monkeypatch) as client:
        put(client, range(3))
        few, _ = requests_of(caplog, lambda: (find_files([root]), fingerprint_of([root])))
        put(client, range(3, 60))
        many, (found, _) = requests_of(caplog, lambda: (find_files([root]), fingerprint_of([root])))
    assert len(found[0]) == 60
    assert few and len(many) == len(few)


def test_in_a_bucket_too_the_fingerprint_changes_with_the_files(monkeypatch):
    root = f"s3://{BUCKET}/records"
    with object_store(monkeypatch) as client:
        put(client, range(3))
        first = fingerprint_of([root])
        assert fingerprint_of([root]) == first
        client.put_object(Bucket=BUCKET, Key="records/0001.jsonl", Body=b'{"a": 12}\n')
        second = fingerprint_of([root])
        client.delete_object(Bucket=BUCKET, Key="records/0001.jsonl")
        assert len({first, second, fingerprint_of([root])}) == 3
