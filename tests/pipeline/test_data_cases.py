"""A folder of files as people have them, through the whole pipeline: no record is lost."""

import bz2
import csv
import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import fastavro
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
OUTPUT = "out [v1] é (2)*?"
RECIPE = """
from branchline.schemas import Categorical, Numeric, Recipe, Route, RoutingTable, Training, when

meter = {key: Numeric() for key in ("price/usd", "price_usd", "größe (m)")} | {"id": Categorical()}
recipe = Recipe(
    "cases",
    RoutingTable(
        Route("one", when.equals("kind", 1), features=meter, label="y 1", task="regression"),
        Route("two", when.present("tag"), features={"tag": Categorical(), "kind": Categorical()},
              label="good", task="binary"),
    ),
    training=Training(steps=60, batch_size=32),
    quarantine_limit=0.2,
    split_key="id",
)
"""


def meters(first: int, count: int = 40) -> list[dict]:
    rng = random.Random(first)
    rows = []
    for number in range(first, first + count):
        usd, eur, size = (rng.gauss(0, 1) for _ in range(3))
        row = {"price/usd": usd, "price_usd": eur, "größe (m)": size, "y 1": usd - eur}
        rows.append({"kind": 1, "id": 2**70 + number} | row)
    return rows


def write_all(folder: Path) -> int:
    """Writes files of all formats; returns how many records they hold, good and bad."""
    (folder / "day=7").mkdir(parents=True)
    junk = [{"deep": [{"er": None}]}, None, "x"]  # D5, which nothing reads
    lines = [json.dumps(row | {"junk": junk, "_source": {"a": 1}}) for row in meters(0)]
    lines += ['{"kind": 1, "id": 5, "id": 6}', "{", '{"kind": 1}']  # D8, no JSON, no label
    (folder / "a.jsonl").write_text("\n".join(lines))
    (folder / "b.json").write_text(json.dumps(meters(100), indent=1))  # D9
    text = [{**row, "id": str(row["id"])} for row in meters(200)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(text), folder / "day=7" / "c.parquet")
    with bz2.open(folder / "d.csv.bz2", "wt", newline="") as file:
        writer = csv.DictWriter(file, ["", *meters(0)[0]])  # D4
        writer.writeheader()
        writer.writerows({"": 0} | row for row in meters(300))
        file.write('0,1,"never closed,1,2,3,4\n')  # D1
        writer.writerows({"": 0} | row for row in meters(350))
    with gzip.open(folder / "e.tsv.gz", "wt") as file:
        file.write("tag\tgood\tkind\tid\n")
        file.writelines(f"t{i % 3}\t{'True' if i % 3 else ' 0'}\tk{i}\t{i}\n" for i in range(80))
    schema = {"type": "record", "name": "r", "fields": [{"name": "tag", "type": "string"}]}
    schema["fields"] += [{"name": name, "type": "long"} for name in ("good", "id")]
    with open(folder / "f.avro", "wb") as file:
        rows = [{"tag": f"t{i % 3}", "good": int(i % 3 > 0), "id": i} for i in range(40)]
        fastavro.writer(file, fastavro.parse_schema(schema), rows)
    with tf.io.TFRecordWriter(str(folder / "g.tfrecord")) as writer:
        for i in range(40):
            example = tf.train.Example()
            example.features.feature["tag"].bytes_list.value.append(b"t%d" % (i % 3))
            for key, value in {"good": int(i % 3 > 0), "id": i}.items():
                example.features.feature[key].int64_list.value.append(value)
            writer.write(example.SerializeToString())
    for name in ("_SUCCESS", "_metadata", ".d.csv.crc", "empty.jsonl", "empty.csv"):  # D3, D10
        (folder / name).write_bytes(b"")
    return 43 + 40 + 40 + 81 + 80 + 40 + 40


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs the recipe on a folder of an odd name, into another (D22).

    Gives metrics, the Router's counts and the folder of what was set aside.
    """
    folder = tmp_path_factory.mktemp("cases")
    (folder / "cases.py").write_text(RECIPE)
    number = write_all(folder / "in [v1] é (2)")
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", "cases.py"]
    done = subprocess.run(
        [*command, "--data", "in [v1] é (2)", "--output", OUTPUT],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (counts,) = (folder / OUTPUT).glob("pipeline/Router/quarantine/*/counts.json")
    metrics = json.loads((folder / OUTPUT / "metrics.json").read_text())
    aside = [*command, "--output", OUTPUT, "--set-aside", "to [mend]"]
    done = subprocess.run(aside, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "4 records in to [mend]" in done.stdout, (
        done.stdout + done.stderr
    )
    return number, metrics["records"], json.loads(counts.read_text()), folder / "to [mend]"


def test_every_record_of_every_format_comes_out_or_is_set_aside_with_its_reason(run):
    number, records, counts, _ = run
    assert records["in"] == number
    reasons = {"duplicate_key": 1, "malformed_json": 1, "malformed_csv": 1, "label_missing": 1}
    assert records["quarantined"] == reasons
    assert counts["in"] == number - 3


def test_the_same_condition_holds_whatever_the_format(run):
    out = run[2]["out"]
    routes = {name: sum(split[name] for split in out.values()) for name in ("one", "two")}
    assert routes == {"one": 40 * 5, "two": 160}  # D14: the number 1 also from a cell of CSV


def test_what_was_set_aside_is_written_as_files_of_records_to_be_mended(run):
    written = {path.name: path.read_text() for path in run[3].iterdir()}
    jsonl, header = (
        '{"kind": 1, "id": 5, "id": 6}\n{\n{"kind": 1}\n',
        ",kind,id,price/usd,price_usd",
    )
    assert written.pop("0001-a.jsonl") == jsonl
    first, second = written.pop("0002-d.csv").splitlines()
    assert first.startswith(header) and second == '0,1,"never closed,1,2,3,4'
    told = list(csv.DictReader(written.pop("_reasons.csv").splitlines()))
    assert [(each["file"], each["line"], each["reason"]) for each in told] == [
        ("0001-a.jsonl", "1", "duplicate_key"),
        ("0001-a.jsonl", "2", "malformed_json"),
        ("0001-a.jsonl", "3", "label_missing"),
        ("0002-d.csv", "2", "malformed_csv"),
    ]
    assert not written
