"""Reads files of mutated records of all formats; tells what crashed, and what was lost.

python tests/fuzz_records.py --records 100000 --seed 1
"""

import argparse
import bz2
import collections
import csv
import gzip
import io
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pyarrow
import pyarrow.parquet
import tensorflow as tf

from branchline.components.mixed_example_gen.count_again import UNCOUNTABLE, Tally, check_count
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.encode_example import encode_example
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.ingest import read_records
from branchline.components.mixed_example_gen.limits import MOST_KEYS
from branchline.schemas import BranchlineError

RECORDS_OF_A_FILE = 50
REASONS = {  # every one that reading can give
    "csv_row_length",
    "duplicate_key",
    "invalid_utf8",
    "malformed_csv",
    "malformed_example",
    "malformed_json",
    "nested_too_deeply",
    "number_too_large",
    "record_too_large",
    "reserved_key",
    "unreadable_block",
    "unreadable_rest",
    "wrong_type",
}
DECLARED = Declared(None, frozenset(["text"]), frozenset(["number"]), wholes=frozenset(["number"]))
VALUES = [None, True, 0, -1, 2**63, 10**30, "9" * 5000, 1e300, 0.1, "", "é\0\n\r\t", "x" * 3000]
VALUES += [[], {}, [1, "x"], [[1], [2.5]], {"a": {"b": []}}, [{}], [None], "\ud83d", "a,b\"c'd"]
KEYS = ["text", "number", "a.b", "", "branchline.offset", "é", "\ud83d", "k" * 500]
SIGNS = [b"\0", b"\r", b"\n", b'"', b",", b"\t", b"\xff", b"\xef\xbb\xbf", b"{", b"]", b"\\u0000"]


def intact(number: int) -> dict[str, Any]:
    """A record that nothing is wrong with."""
    return {"id": number, "text": f"text {number}", "number": number / 2, "list": [1, 2]}


def nested(depth: int, lists: bool) -> Any:
    """Lists or objects within one another."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


def mutated(rng: random.Random, number: int) -> dict[str, Any]:
    """A record with values of other types and keys of other kinds."""
    record = intact(number)
    for _ in range(rng.randint(1, 3)):
        value = rng.choice(VALUES)
        if rng.random() < 0.1:
            value = nested(rng.choice([50, 150, 400]), rng.random() < 0.5)
        record[rng.choice([*KEYS, *record])] = value
    return record


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Bytes with bits flipped, signs put in, parts cut off or twice there."""
    body = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(body) + 1)
        match rng.randrange(5):
            case 0 if at < len(body):
                body[at] ^= 1 << rng.randrange(8)
            case 1:
                body[at:at] = rng.choice(SIGNS)
            case 2:
                del body[at:]
            case 3:
                del body[at : at + rng.randint(1, 20)]
            case 4:
                body[at:at] = body[at : at + rng.randint(1, 40)]
    return bytes(body)


def json_line(rng: random.Random, number: int) -> bytes:
    """A record in one line, intact or not."""
    chance = rng.random()
    if chance < 0.5:
        return json.dumps(intact(number)).encode()
    line = json.dumps(mutated(rng, number)).encode()
    if chance < 0.6:
        return line[:-1] + b', "id": 1}'
    return damaged(rng, line).replace(b"\n", b" ") if chance < 0.8 else line


def jsonl_file(rng: random.Random) -> tuple[bytes, int | None]:
    """Content, and how many items reading it has to give; None where that cannot be told."""
    lines = [json_line(rng, number) for number in range(RECORDS_OF_A_FILE)]
    if rng.random() < 0.2:
        lines[7] = json.dumps(dict.fromkeys(map(str, range(MOST_KEYS + 1)), 1)).encode()
    return b"\n".join(lines), sum(bool(line.strip(b"\r\n\t \v\f")) for line in lines)


def json_file(rng: random.Random) -> tuple[bytes, int | None]:
    """A list of objects over many lines."""
    records = [mutated(rng, number) for number in range(RECORDS_OF_A_FILE)]
    content = json.dumps(records, indent=rng.choice([None, 1])).encode()
    if rng.random() < 0.5:
        return damaged(rng, content), None
    return content, len(records)


def csv_file(rng: random.Random, delimiter: str = ",") -> tuple[bytes, int | None]:
    """Rows, of which at most one is damaged in a way that can take others with it."""
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, lineterminator="\n")
    names = ["id", "text", "number", "list"]
    rows = [[intact(number)[name] for name in names] for number in range(RECORDS_OF_A_FILE)]
    for row in rng.sample(rows, 10):
        row[rng.randrange(4)] = rng.choice([1e300, "9" * 400, "x y", "", "NaN", 7])
    writer.writerows([names, *rows])
    lines = written.getvalue().encode().split(b"\n")[:-1]
    at = rng.randrange(1, len(lines))
    bad = damaged(rng, lines[at]).replace(b"\n", b" ")
    lines[at] = bad
    for other in rng.sample(range(1, len(lines)), 5):
        lines[other] += delimiter.encode() * (other != at)
    blank = not bad.strip(b"\r\n")
    # A byte order mark before nothing is an empty row too; quotes may span lines.
    countable = bad.count(b'"') <= 1 and b"\r" not in bad and b"\xef" not in bad
    return b"\n".join(lines), RECORDS_OF_A_FILE - blank if countable else None


def avro_file(rng: random.Random) -> tuple[bytes, int | None]:
    """Rows of a union of types."""
    kinds = ["null", "long", "double", "string", "bytes", "boolean"]
    kinds += [
        {"type": "array", "items": ["null", "long", "string"]},
        {"type": "map", "values": "long"},
    ]
    fields = [{"name": name, "type": kinds} for name in ("text", "number", "other")]
    choices = [
        None,
        5,
        2**62,
        1e300,
        float("nan"),
        "é\0",
        b"\xff",
        True,
        [1, None],
        ["x"],
        {"a": 1},
    ]
    rows = [{f["name"]: rng.choice(choices) for f in fields} for _ in range(RECORDS_OF_A_FILE)]
    file = io.BytesIO()
    schema = {"type": "record", "name": "r", "fields": fields}
    fastavro.writer(file, schema, rows, rng.choice(["null", "deflate"]), sync_interval=500)
    content = file.getvalue()
    return (damaged(rng, content), None) if rng.random() < 0.5 else (content, len(rows))


def tfrecord_file(rng: random.Random) -> tuple[bytes, int | None]:
    """Examples, some of which are none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for number in range(RECORDS_OF_A_FILE):
                body = encode_example({"id": [number], "text": ["é"], "number": [0.5]}, "f", 1)
                if number % 5:
                    example = tf.train.Example.FromString(body)
                    del example.features.feature["branchline.source"]
                    del example.features.feature["branchline.offset"]
                    body = example.SerializeToString(deterministic=True)
                writer.write(damaged(rng, body) if rng.random() < 0.3 else body)
        content = path.read_bytes()
    return (damaged(rng, content), None) if rng.random() < 0.3 else (content, RECORDS_OF_A_FILE)


def parquet_file(rng: random.Random) -> tuple[bytes, int | None]:
    """Columns of many types."""
    types = {
        pyarrow.int64(): [1, None, -(2**63)],
        pyarrow.uint64(): [2**64 - 1, 3],
        pyarrow.float64(): [1e300, float("nan"), None],
        pyarrow.string(): ["é", "", "9" * 5000],
        pyarrow.binary(): [b"\xff", b"x", None],
        pyarrow.list_(pyarrow.int32()): [[1, None], [], None],
        pyarrow.struct([("a", pyarrow.list_(pyarrow.string()))]): [{"a": ["x"]}, {"a": None}],
        pyarrow.timestamp("ns"): [2**62, 1, None],
        pyarrow.decimal128(38): [None],
    }
    names = ["text", "number", "other", "branchline.offset"][: rng.randint(1, 4)]
    columns = {}
    for name in names:
        kind = rng.choice(list(types))
        columns[name] = pyarrow.array(rng.choices(types[kind], k=RECORDS_OF_A_FILE), kind)
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file, version="2.6")
    content = file.getvalue()
    return (damaged(rng, content), None) if rng.random() < 0.5 else (content, RECORDS_OF_A_FILE)


FORMATS: dict[str, Callable[[random.Random], tuple[bytes, int | None]]] = {
    "jsonl": jsonl_file,
    "json": json_file,
    "csv": csv_file,
    "tsv": lambda rng: csv_file(rng, "\t"),
    "avro": avro_file,
    "tfrecord": tfrecord_file,
    "parquet": parquet_file,
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda content: pyarrow.Codec("zstd").compress(content, asbytes=True),
}


def read_one(path: Path, kind: str, expected: int | None, reasons: collections.Counter) -> str:
    """Reads a file, and says what is wrong with how it was read; "" if nothing."""
    items, countable = 0, True
    try:
        for parsed in read_records(RecordFile(str(path), kind), DECLARED):
            items += 1
            reasons[parsed.reason] += 1
            countable = countable and parsed.reason not in UNCOUNTABLE
            if (parsed.record is None) != bool(parsed.reason):
                return f"neither a record nor a reason: {parsed}"
            if parsed.record is not None:
                encode_example(parsed.record, str(path), parsed.offset)
    except BranchlineError as error:
        reasons["(refused)"] += 1
        return f"an intact file was refused: {error}" if expected is not None else ""
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return f"{type(error).__name__}: {error}"
    try:
        list(check_count(str(path), [Tally(kind, items, countable)]))
    except Exception as error:  # noqa: BLE001
        return f"counted again: {type(error).__name__}: {error}"
    lost = expected is not None and items != expected
    return f"{items} items came of {expected}" if lost else ""


def fuzz(records: int, seed: int, keep: Path) -> tuple[collections.Counter, list[str]]:
    """Writes and reads so many records; keeps the files that went wrong in `keep`.

    Returns:
        How often each reason came, "" for records, and what went wrong.
    """
    reasons, wrong = collections.Counter(), []
    pairs = [(kind, end) for kind in FORMATS for end in COMPRESS if kind != "parquet" or not end]
    for number in range(-(-records // RECORDS_OF_A_FILE)):
        rng = random.Random(f"{seed}/{number}")
        kind, end = pairs[number % len(pairs)]
        content, expected = FORMATS[kind](rng)
        packed = COMPRESS[end](content)
        if end and rng.random() < 0.2:
            packed, expected = damaged(rng, packed), None
        path = keep / f"{seed}-{number}.{kind}{end}"
        path.write_bytes(packed)
        problem = read_one(path, kind, expected, reasons)
        if problem:
            wrong.append(f"{path}: {problem}")
        else:
            path.unlink()
    return reasons, wrong


def main() -> int:
    """Runs it as a script; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the files that went wrong")
    args = parser.parse_args()
    keep = args.keep or Path(tempfile.mkdtemp())
    begin = time.monotonic()
    reasons, wrong = fuzz(args.records, args.seed, keep)
    print(f"{sum(reasons.values())} items in {time.monotonic() - begin:.1f} s")
    for reason, number in sorted(reasons.items()):
        print(f"{number:8} {reason or '(records)'}")
    print(*wrong, sep="\n")
    missing = sorted(REASONS - set(reasons))
    print(f"never reached: {', '.join(missing)}" if missing else "every reason was reached")
    return 1 if wrong or missing else 0


if __name__ == "__main__":
    sys.exit(main())
