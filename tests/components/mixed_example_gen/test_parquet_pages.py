"""A page of Parquet that would unpack to more than memory holds is set aside before it is."""

import itertools

import pyarrow
import pyarrow.parquet
import pytest
from read_bombs import varint

from branchline.components.mixed_example_gen import parquet_pages
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.ingest import read_records
from branchline.components.mixed_example_gen.parquet_pages import pages_of

TABLE = pyarrow.table(
    {
        "text": [f"é{number}" * (number % 50) for number in range(3000)],
        "same": ["x" * 300] * 3000,
        "number": [None, *range(2999)],
        "float": [0.5] * 3000,
        "flag": [True, False] * 1500,
        "bytes": pyarrow.array([b"\xff" * 16] * 3000, pyarrow.binary(16)),
        "list": [[{"a": number, "b": None}] * (number % 3) for number in range(3000)],
    }
)
OPTIONS = [
    {"data_page_version": version, "compression": codec, "use_dictionary": use, "version": "2.6"}
    | {"data_page_size": size, "write_statistics": use, "row_group_size": 1000}
    for version, codec, use, size in itertools.product(
        ["1.0", "2.0"], ["none", "zstd", "gzip"], [True, False], [100, 2**20]
    )
]


@pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda options: "-".join(map(str, options.values()))
)
def test_the_pages_of_a_chunk_are_all_that_it_holds(tmp_path, options):
    pyarrow.parquet.write_table(TABLE, tmp_path / "a.parquet", **options)
    metadata = pyarrow.parquet.read_metadata(tmp_path / "a.parquet")
    numbers = []
    with open(tmp_path / "a.parquet", "rb") as file:
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                pages = list(pages_of(file, column))
                assert sum(map(sum, pages)) == column.total_uncompressed_size
                numbers.append(len(pages))
    assert len(numbers) == 3 * 8 and (options["data_page_size"] > 100 or max(numbers) > 1)


def read(path):
    return list(read_records(RecordFile(str(path), "parquet"), Declared()))


@pytest.mark.parametrize("before", [0, 1, 2])
def test_rows_before_too_large_a_page_are_read_and_the_rest_is_set_aside(
    tmp_path, monkeypatch, before
):
    monkeypatch.setattr(parquet_pages, "LARGEST_PAGE", 10_000)
    groups = [["small"] * 100] * before + [["x" * 1000] * 100, ["small"] * 100]
    schema = pyarrow.schema({"a": pyarrow.string()})
    path = tmp_path / "a.parquet"
    with pyarrow.parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for group in groups:
            writer.write_table(pyarrow.table({"a": group}, schema))
    *rows, rest = read(path)
    assert [row.record for row in rows] == [{"a": ["small"]}] * before * 100
    assert rest.reason == "unreadable_rest" and rest.offset == before * 100 + 1
    told = f"row group {before + 1}: a page of a unpacks to 1004"
    assert (
        told in rest.detail and "expected at most 10000; write the file with fewer" in rest.detail
    )


def test_a_large_chunk_of_small_pages_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_pages, "LARGEST_PAGE", 10_000)
    table = pyarrow.table({"a": [f"{number:0>100}" for number in range(5000)]})
    small = {"use_dictionary": False, "data_page_size": 2000, "write_batch_size": 10}
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", **small)
    assert len(read(tmp_path / "a.parquet")) == 5000


def test_a_damaged_header_is_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_pages, "LARGEST_PAGE", 1000)
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": list(range(1000))}), path)
    content = path.read_bytes()
    for header in (b"\x15\x04\x15\x01\x15", b"\x1b\x1b\x1b\x1b\x1b", b"\x15\xff\xff\xff\xff"):
        path.write_bytes(content[:4] + header + content[9:])
        assert read(path)[-1].reason == "unreadable_rest"


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_what_the_footer_says_of_sizes_is_not_trusted(tmp_path, monkeypatch, codec):
    monkeypatch.setattr(parquet_pages, "LARGEST_PAGE", 100_000)
    path, table = tmp_path / "a.parquet", pyarrow.table({"a": ["x" * 200_000]})
    pyarrow.parquet.write_table(table, path, use_dictionary=False, compression=codec)
    true = pyarrow.parquet.read_metadata(path).row_group(0).column(0).total_uncompressed_size
    content = path.read_bytes()
    path.write_bytes(content.replace(varint(2 * true, 3), varint(2 * 1000, 3)))
    assert (
        pyarrow.parquet.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 1000
    )
    (rest,) = read(path)
    assert rest.reason == "unreadable_rest" and "a page of a unpacks to 2000" in rest.detail
