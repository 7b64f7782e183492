"""Files of odd bytes have one documented outcome each: see docs/reference/recipes.md."""

import csv
import gzip
import io
import json
from operator import itemgetter

import pytest

from branchline.components.mixed_example_gen.count_again import count_again
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.ingest import read_records
from branchline.schemas import BranchlineError

MARK = "\ufeff".encode()


def read(folder, kind, content):
    path = folder / f"f.{kind}"
    path.write_bytes(content)
    return list(read_records(RecordFile(str(path), kind.removesuffix(".gz")), Declared()))


def told(parsed):
    """Line, and the record or the reason."""
    return [(each.offset, each.record or each.reason) for each in parsed]


ONE_TWO = {"a": [1], "b": [2]}
CSV = {
    "short-row": (b"a,b\n1\n2,3\n", [(2, "csv_row_length"), (3, {"a": [2], "b": [3]})]),
    "long-row": (b"a,b\n1,2,3\n2,3\n", [(2, "csv_row_length"), (3, {"a": [2], "b": [3]})]),
    "stray-return": (b"a,b\n1\r,2\n2,3\n", [(2, "malformed_csv"), (3, {"a": [2], "b": [3]})]),
    "return-in-quotes": (b'a,b\n"1\rx",2\n', [(2, {"a": ["1\rx"], "b": [2]})]),
    "mixed-ends": (b"a\r\n1\n2\r\n3", [(2, {"a": [1]}), (3, {"a": [2]}), (4, {"a": [3]})]),
    "mark-in-the-middle": (b"a\n1\n" + MARK + b"2\n", [(2, {"a": [1]}), (3, {"a": [2]})]),
    "mark-in-a-cell": (b"a\nx" + MARK + b"\n", [(2, {"a": ["x\ufeff"]})]),
    "blank-lines-first": (b"\n\r\n\na,b\n1,2\n", [(5, ONE_TWO)]),
    "blank-lines-alone": (b"\n\r\n", []),
    "semicolons": (b"a;b\n1;2\n", [(2, ONE_TWO)]),
    "semicolons-after-a-short-row": (
        b"a;b\nx\n1;2\n",
        [(2, "csv_row_length"), (3, ONE_TWO)],
    ),
    "tabs": (b"a\tb\n1\t2\n", [(2, ONE_TWO)]),
    "bars": (MARK + b'"a"|"b"\n1|2\n', [(2, ONE_TWO)]),
    "a-quoted-semicolon": (b'"a;b"\n"1;2"\n', [(2, {"a;b": ["1;2"]})]),
    "a-semicolon-in-the-header": (b"a;b\n1\n", [(2, {"a;b": [1]})]),
    "semicolons-beside-commas": (b"a,b;c\n1,2;3\n", [(2, {"a": [1], "b;c": ["2;3"]})]),
    "nul": (b"a,b\n1,x\0\n2,3\n", [(2, "malformed_csv"), (3, {"a": [2], "b": [3]})]),
}


@pytest.mark.parametrize(("content", "outcome"), CSV.values(), ids=map("D26-csv-{}".format, CSV))
def test_each_oddity_of_a_csv_file_has_its_outcome(tmp_path, content, outcome):
    assert told(read(tmp_path, "csv", content)) == outcome
    if "malformed_csv" not in map(itemgetter(1), outcome):  # then the file tells no number
        assert count_again(RecordFile(str(tmp_path / "f.csv"), "csv")) == len(outcome)


def test_a_tsv_file_with_commas_is_read(tmp_path):
    assert told(read(tmp_path, "tsv", b"a,b\n1,2\n")) == [(2, ONE_TWO)]


def test_a_csv_file_whose_lines_end_in_returns_is_one_error_that_says_so(tmp_path):
    with pytest.raises(BranchlineError, match=r"f.csv:1: .* its lines end in \\r, expected \\n"):
        read(tmp_path, "csv", b"a,b\r1,2\r3,4\r")


A, B = {"a": [1]}, {"a": [2]}
JSON = {
    "return-between": (b'{"a":\r1}\n{"a": 2}', [(1, A), (2, B)]),
    "return-in-a-text": (b'{"a": "x\ry"}\n{"a": 2}', [(1, "malformed_json"), (2, B)]),
    "mixed-ends": (b'{"a": 1}\r\n{"a": 2}\n\r\n{"a": 1}', [(1, A), (2, B), (4, A)]),
    "mark-in-the-middle": (b'{"a": 1}\n' + MARK + b'{"a": 2}\n', [(1, A), (2, B)]),
    "nul": (b'{"a": "\0"}\n{"a": 2}\n', [(1, "malformed_json"), (2, B)]),
    "escaped-nul": (b'{"a": "\\u0000"}', [(1, {"a": ["\0"]})]),
}


@pytest.mark.parametrize(("content", "outcome"), JSON.values(), ids=map("D26-json-{}".format, JSON))
def test_each_oddity_of_a_file_of_json_lines_has_its_outcome(tmp_path, content, outcome):
    assert told(read(tmp_path, "jsonl", content)) == outcome


def test_d26_a_mark_between_objects_over_many_lines_is_passed_over(tmp_path):
    content = b'{"a":\n1}\n' + MARK + b'{"a":\n2}\n'
    assert told(read(tmp_path, "json", content)) == [(1, A), (3, B)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"], ids="D26-{}".format)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "csv.gz"])
def test_a_file_of_utf16_with_its_mark_is_read(tmp_path, encoding, kind):
    rows = [{"a": "é\U0001f600", "b": 1}, {"a": "x\n€", "b": 2}]
    written = io.StringIO()
    if "json" in kind:
        written.write("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    else:
        writer = csv.DictWriter(written, ["a", "b"], delimiter="\t" if kind == "tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    content = ("\ufeff" + written.getvalue()).encode(encoding)
    parsed = read(tmp_path, kind, gzip.compress(content) if kind == "csv.gz" else content)
    assert [each.record for each in parsed] == [{"a": [r["a"]], "b": [r["b"]]} for r in rows]


def test_d26_utf16_cut_within_a_sign_keeps_the_lines_before(tmp_path):
    content = '\ufeff{"a": 1}\n{"a": 2}\n{"a"'.encode("utf-16-le")[:-1]
    first, second, rest = read(tmp_path, "jsonl", content)
    assert (first.record, second.record, rest.reason) == (A, B, "unreadable_rest")


def test_d26_half_a_pair_in_utf16_costs_its_line(tmp_path):
    content = '\ufeff{"a": "\ud83d"}\n{"a": 2}\n'.encode("utf-16-le", errors="surrogatepass")
    assert told(read(tmp_path, "jsonl", content)) == [(1, "invalid_utf8"), (2, B)]


def test_d26_utf16_without_a_mark_is_one_error_that_says_so(tmp_path):
    with pytest.raises(BranchlineError, match="header cannot be read: .*is this UTF-16 without"):
        read(tmp_path, "csv", "a,b\n1,2\n".encode("utf-16-le"))
