import csv
import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.find_files import (
    RecordFile,
    file_format,
    find_files,
    fingerprint_of,
)
from branchline.components.mixed_example_gen.parse_csv import parse_csv
from branchline.components.mixed_example_gen.parse_json import parse_json, parse_jsonl
from branchline.components.mixed_example_gen.split_records import choose_split
from branchline.schemas import BranchlineError
from branchline.schemas.missing_cells import MISSING_CELLS


def jsonl(content: bytes, declared=Declared()):  # noqa: B008
    return list(parse_jsonl(io.BytesIO(content), declared))


def read_json(content: bytes, declared=Declared()):  # noqa: B008
    return list(parse_json(io.BytesIO(content), declared))


def read_csv(content: bytes, text_keys=(), number_keys=(), keys=None):
    declared = Declared(keys and frozenset(keys), frozenset(text_keys), frozenset(number_keys))
    return list(parse_csv(io.BytesIO(content), "f.csv", declared))


def only(parsed):
    (one,) = parsed
    return one


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b'{"a": 1}', {"a": [1]}),
        (b'{"a": 1.0}', {"a": [1.0]}),
        (b'{"a": "1"}', {"a": ["1"]}),
        (b'{"a": true, "b": [false, true]}', {"a": [1], "b": [0, 1]}),
        (b'{"a": null, "b": [], "c": {}, "d": 0}', {"d": [0]}),
        (b'{"a": {"b": {"c": 2}}, "a.d": 3}', {"a.b.c": [2], "a.d": [3]}),
        (b'{"a": [[1, 2], [3, [4]]]}', {"a": [1, 2, 3, 4]}),
        (b'{"a": [1, 2.5, 3]}', {"a": [1.0, 2.5, 3.0]}),
        (b'{"a": [true, 2.5]}', {"a": [1.0, 2.5]}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": ["\U0001f600"]}),
        (b'{"a": 9223372036854775807}', {"a": [2**63 - 1]}),
        (b'{"a": "", "": 1}', {"": [1]}),
        (b'{"a": ["", "x"]}', {"a": ["", "x"]}),
        (b"{}", {}),
    ],
)
def test_a_json_object_becomes_lists_of_one_type(line, record):
    read = only(jsonl(line)).record
    assert read == record
    types = {key: [type(value) for value in values] for key, values in read.items()}
    assert types == {key: [type(value) for value in values] for key, values in record.items()}


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b'{"a": 1', "malformed_json", "expected one JSON object in a line"),
        (b"[", "malformed_json", "expected one JSON object in a line"),
        (b'[{"a": 1}]', "malformed_json", "got a JSON list, expected one JSON object in a line"),
        (b'"text"', "malformed_json", "got a JSON text"),
        (b"null", "malformed_json", "got a JSON null"),
        (b'{"a": "\xff"}', "invalid_utf8", "byte 8"),
        (b'{"a": "\\ud83d"}', "invalid_utf8", "a: the text is not Unicode"),
        (b'{"\\udcff": 1}', "invalid_utf8", "the key is not Unicode"),
        (b'{"a": [1, "x"]}', "wrong_type", "a: got texts and numbers"),
        (b'{"o": {"a": [{"b": 1}]}}', "wrong_type", "o.a: got a object in a list"),
        (b'{"a": [1, null]}', "wrong_type", "a: got a null in a list"),
        (b'{"a": 9223372036854775808}', "number_too_large", "64 bits"),
        (b'{"a": 1e39}', "number_too_large", "32 bits"),
        (b'{"a": -1e400}', "number_too_large", "32 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "number_too_large", "digits"),
        (b'{"branchline": {"offset": 1}}', "reserved_key", "branchline.offset: this key is"),
        (b'{"a": ' + b"[" * 3000 + b"]" * 3000 + b"}", "nested_too_deeply", "at most 100"),
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, "nested_too_deeply", "at most 100"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_line_that_is_no_record_says_why(line, reason, detail):
    good = b'{"good": 1}\n'
    before, parsed, after = jsonl(good + line + b"\n" + good)
    assert before.record == after.record == {"good": [1]}
    assert (parsed.offset, parsed.record, parsed.reason) == (2, None, reason)
    assert detail in parsed.detail


@pytest.mark.parametrize("key", ["_source", "_offset", "_id", "_route", "branchline"])
def test_keys_that_other_systems_use_for_themselves_are_keys_like_any_other(key):
    (parsed,) = jsonl(f'{{"{key}": 1}}'.encode())
    assert (parsed.record, parsed.reason) == ({key: [1]}, "")


def test_nan_is_a_float_that_the_router_judges():
    (value,) = only(jsonl(b'{"a": NaN}')).record["a"]
    assert value != value


def test_bytes_that_are_not_utf8_are_kept_readable():
    assert only(jsonl(b'{"a": "\xe9"}')).raw == b'{"a": "\xe9"}'
    assert only(read_csv(b"a,b\n\xe9,2\n")).raw == b"\xe9,2"


LINES = [b'{"a": 1}', b'{"a": 2}', b'{"a": 3}']


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "last-line-not-ended"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["no-mark", "byte-order-mark"])
def test_line_ends_and_a_byte_order_mark_are_no_part_of_records(end, last, mark):
    parsed = jsonl(mark + end.join(LINES) + (end if last else b""))
    assert [(p.offset, p.record) for p in parsed] == [(i, {"a": [i]}) for i in (1, 2, 3)]
    rows = [b'"a","b"', b"1,x", b"2,x", b"3,x"]
    parsed = read_csv(mark + end.join(rows) + (end if last else b""))
    assert [(p.offset, p.record) for p in parsed] == [
        (i + 1, {"a": [i], "b": ["x"]}) for i in (1, 2, 3)
    ]


def test_blank_lines_are_no_records_but_count_as_lines():
    assert [p.offset for p in jsonl(b"\n" + LINES[0] + b"\n  \n\r\n" + LINES[1])] == [2, 5]
    assert [p.offset for p in read_csv(b"a,b\n\n1,2\n\r\n3,4\n")] == [3, 5]


def test_a_very_long_line_is_one_record():
    text = "x" * 5_000_000
    assert only(jsonl(json.dumps({"a": text}).encode())).record == {"a": [text]}


CELLS = {
    "0": 0,
    "-7": -7,
    "1.5": 1.5,
    "1.50": 1.5,
    "-.5": -0.5,
    "1.": 1.0,
    "1e5": 1e5,
    "2E-3": 2e-3,
    "007": "007",
    "00.5": "00.5",
    "+49": "+49",
    "1_000": "1_000",
    " 7": " 7",
    "7 ": "7 ",
    "nan": "nan",
    "NaN": "NaN",
    "inf": "inf",
    "-inf": "-inf",
    "0x10": "0x10",
    "1e": "1e",
    ".": ".",
    "-": "-",
    "True": "True",
    "\u0661\u0662": "\u0661\u0662",
    "1\u0662": "1\u0662",
}


@pytest.mark.parametrize(("cell", "value"), CELLS.items(), ids=map(ascii, CELLS))
def test_a_cell_is_a_number_only_if_it_is_written_as_one(cell, value):
    read = only(read_csv(f"a,b\n{cell},x\n".encode())).record["a"]
    assert read == [value] and type(read[0]) is type(value)
    assert only(read_csv(f"a,b\n{cell},x\n".encode(), ["a"])).record["a"] == [cell]


@given(
    st.integers(-(2**63), 2**63 - 1) | st.floats(width=32, allow_nan=False, allow_infinity=False)
)
@example(-0.0)
def test_what_python_writes_for_a_number_is_read_back_as_that_number(number):
    (read,) = only(read_csv(f"a,b\n{number},x\n".encode())).record["a"]
    assert repr(read) == repr(number)


@pytest.mark.parametrize("cell", ["1" * 25, "1e39", "9" * 400 + ".5", "9" * 5000])
def test_a_number_that_no_example_can_hold_is_said_to_be_too_large(cell):
    assert only(read_csv(f"a\n{cell}\n".encode())).reason == "number_too_large"
    assert only(read_csv(f"a\n{cell}\n".encode(), ["a"])).record == {"a": [cell]}


def test_an_empty_cell_is_an_absent_value():
    assert only(read_csv(b'a,b,c\n1,,""\n')).record == {"a": [1]}


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        (b"1", "csv_row_length", "got 1 cells, expected 2"),
        (b"1,2,3", "csv_row_length", "got 3 cells, expected 2"),
        (b'1,"x"y', "malformed_csv", "expected after"),
        (b"1,\xff", "invalid_utf8", "not UTF-8"),
        (b'"' + b"x\n" * 100_000, "malformed_csv", "is a quote not closed?"),
    ],
    ids=["short", "long", "quote", "utf8", "unclosed"],
)
def test_a_row_that_is_no_record_says_why_and_the_rows_after_it_are_read(row, reason, detail):
    before, bad, *rest = read_csv(b"a,b\n0,0\n" + row + b"\n3,4\n")
    assert (before.record, bad.record, bad.offset) == ({"a": [0], "b": [0]}, None, 3)
    assert bad.reason == reason and detail in bad.detail
    assert rest[-1].record == {"a": [3], "b": [4]}


def test_an_unclosed_quote_at_the_end_is_one_malformed_row_and_the_rest_is_read():
    first, bad, last = read_csv(b'a,b\n1,2\n3,"x\n5,6\n')
    assert first.record and bad.reason == "malformed_csv"
    assert (bad.offset, bad.raw) == (3, b'3,"x')
    assert (last.offset, last.record) == (4, {"a": [5], "b": [6]})


@pytest.mark.parametrize("tail", ["plain", "quoted", "odd"], ids="D1-{}".format)
def test_one_broken_quote_costs_one_row(tail):
    rows = [f"{i},text {i}" for i in range(660)]
    if tail != "plain":
        rows[100::7] = [f'{i},"text, {i}"' for i in range(100, 660, 7)]
    if tail == "odd":
        rows[300] = '300,a 3" pipe'  # a quote within a cell is a sign like any other
    rows[60] = '60,"never closed'
    parsed = read_csv("\n".join(["id,text", *rows]).encode())
    (bad,) = [p for p in parsed if p.record is None]
    assert (bad.offset, bad.raw, bad.reason) == (62, rows[60].encode(), "malformed_csv")
    assert [p.record["id"] for p in parsed if p.record] == [[i] for i in range(660) if i != 60]


def test_a_cell_of_any_length_is_read_as_in_jsonl():
    text = "x, y\n" * 100_000
    written = io.StringIO()
    csv.writer(written).writerows([["a", "b"], [text, "1"]])
    assert only(read_csv(written.getvalue().encode())).record == {"a": [text], "b": [1]}


@pytest.mark.parametrize(
    "content", [b"", b"a,b\n", b"a,b"], ids=["D3-empty", "D3-header", "D3-end"]
)
def test_a_file_without_rows_holds_no_records(content):
    assert read_csv(content) == []


def test_d4_columns_without_a_name_are_passed_over():
    (first, second) = read_csv(b",a,b,,\n0,1,2,,\n1,3,4,x,\n")
    assert first.record == {"a": [1], "b": [2]} and second.record == {"a": [3], "b": [4]}


NUMBERS = {
    "True": [1],
    "FALSE": [0],
    " 5": [5],
    "007": [7],
    "+4.5": [4.5],
    "1e5": [1e5],
    "1,5": ["1,5"],
    "five": ["five"],
    **dict.fromkeys(MISSING_CELLS, None),
    "  ": None,
}


@pytest.mark.parametrize(("cell", "values"), NUMBERS.items(), ids=lambda value: f"D12-{value!r}")
def test_a_cell_of_a_column_of_numbers_is_read_as_one(cell, values):
    parsed = only(read_csv(f'a,b\n"{cell}",x\n'.encode(), number_keys=["a"]))
    assert parsed.record.get("a") == values


@pytest.mark.parametrize(
    ("cell", "values"),
    {" ?": None, "-999": None, "-999.0": [-999.0], "": None, "NA": ["NA"]}.items(),
    ids=lambda value: f"D12-{value!r}",
)
def test_d12_what_a_missing_number_looks_like_is_given(cell, values):
    declared = Declared(numbers=frozenset("a"), missing_cells=frozenset(["?", "-999"]))
    parsed = only(parse_csv([b"a,b\n", f"{cell},NA\n".encode()], "f.csv", declared))
    assert parsed.record.get("a") == values and parsed.record["b"] == ["NA"]


WHOLES = {
    "float": (1.7e12 + 123, [1_700_000_000_123]),
    "mixed": ([1, 2.0], [1, 2]),
    "fraction": (1.5, [1.5]),
    "fractions": ([1, 2.5], [1.0, 2.5]),
    "too-large": (1e30, [1e30]),
    "nan": (float("nan"), ["nan"]),
    "text": ("5", ["5"]),
}


@pytest.mark.parametrize(("value", "values"), WHOLES.values(), ids=lambda v: f"K7-{v!r}")
def test_k7_a_float_without_a_fraction_is_an_int_where_one_is_needed(value, values):
    line = json.dumps({"x": value, "other": 2.0}).encode()
    record = only(jsonl(line, Declared(wholes=frozenset(["x"])))).record
    found = ["nan" if x != x else x for x in record["x"]]
    assert found == values and [type(x) for x in found] == [type(x) for x in values]
    assert record["other"] == [2.0] and isinstance(record["other"][0], float)


UNREAD = {
    "D5-objects": [{"b": 1}],
    "D5-nulls": [1, None],
    "D5-mixed": [1, "x"],
    "D6-unsigned": 2**64 - 1,
    "D6-long": 10**40,
    "D6-thousands": int("9" * 4200),
    "float": 1e300,
    "half-a-pair": "\ud83d",
}


@pytest.mark.parametrize("value", UNREAD.values(), ids=UNREAD)
def test_only_what_is_read_can_cost_a_record(value):
    line = json.dumps({"other": value, "x": 1}).encode()
    assert only(jsonl(line, Declared(frozenset(["x"])))).record == {"x": [1]}
    assert only(jsonl(line, Declared(frozenset(["x", "other"])))).record is None


def test_d6_whole_numbers_of_any_length_are_categories():
    declared = Declared(None, frozenset(["id"]))
    for digits in (str(2**63), str(2**64), "9" * 50, "9" * 5000, "-" + "9" * 20):
        assert only(jsonl(b'{"id": ' + digits.encode() + b"}", declared)).record == {"id": [digits]}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b'{"a.b": 1, "a": {"b": 2}}', ["a.b: got it twice", "'a.b'", "'a' \u2192 'b'"]),
        (b'{"a": {"b": 2}, "a.b": 1}', ["'a.b'", "'a' \u2192 'b'"]),
        (b'{"a.b": 1, "a.b": 2}', ["a.b: got it twice in one object: [1, 2]"]),
        (b'{"a": {"b": 1, "b": 1}}', ["a.b: got it twice in one object"]),
    ],
    ids="D8-{}".format,
)
def test_two_values_for_one_key_are_told(line, named):
    parsed = only(jsonl(line))
    assert (parsed.record, parsed.reason) == (None, "duplicate_key")
    assert all(each in parsed.detail for each in named)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([{"a": 1}, {"a": [2, 3]}]),
        json.dumps([{"a": 1}, {"a": [2, 3]}], indent=1),
        "\ufeff" + json.dumps([{"a": 1}, {"a": [2, 3]}], indent=4),
        '\n\n{"a": 1}\n{"a": [2, 3]}\n',
        '{\n"a": 1\n}\n{\n"a": [2,\n3]}',
    ],
    ids=["D9-array", "D9-lines", "D9-mark", "D9-jsonl", "D9-objects"],
)
def test_a_json_file_is_read_by_what_it_holds(content):
    assert [p.record for p in read_json(content.encode())] == [{"a": [1]}, {"a": [2, 3]}]


def test_elements_of_a_json_list_are_set_aside_one_by_one_with_their_lines():
    first, bad, last = read_json(b'[\n{"a": 1},\n7,\n\n{"a": 2}\n]\n')
    assert (first.offset, bad.offset, last.offset) == (2, 3, 5)
    assert (bad.raw, bad.reason) == (b"7", "malformed_json") and last.record == {"a": [2]}


@pytest.mark.parametrize(
    "content", [b'[{"a": 1}, {"a": ', b'[{"a": 1}, {"a"} {"a": 3}]', b'[{"a": 1}, ]]']
)
def test_the_rest_of_a_broken_json_list_is_one_malformed_record(content):
    first, rest = read_json(content)
    assert first.record == {"a": [1]} and rest.reason == "malformed_json"
    assert "the rest of the file is not read" in rest.detail


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text()), max_size=8))
def test_a_json_list_and_lines_hold_the_same_records(records):
    lines = jsonl("\n".join(map(json.dumps, records)).encode())
    for indent in (None, 2):
        listed = read_json(json.dumps(records, indent=indent).encode())
        assert [p.record for p in listed] == [p.record for p in lines]


def test_quoted_line_ends_stay_in_the_cell_and_the_next_row_has_the_right_line():
    parsed = read_csv(b'a,b\r\n"one\ntwo\r\nthree",1\r\nx\r\ny,2\r\n')
    assert [p.offset for p in parsed] == [2, 5, 6]
    assert parsed[0].record == {"a": ["one\ntwo\r\nthree"], "b": [1]}
    assert parsed[0].raw == b'"one\ntwo\r\nthree",1'
    assert parsed[1].reason == "csv_row_length"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b,a\n1,2,3\n", "got a more than once"),
        (b",,\n", "a header that names each column"),
        (b'"a,b\n', "f.csv:1: the CSV header cannot be read"),
        (b"caf\xe9,b\n1,2\n", "not UTF-8"),
    ],
    ids=["twice", "unnamed", "unclosed", "utf8"],
)
def test_a_wrong_header_fails_with_the_file_and_what_is_expected(content, message):
    with pytest.raises(BranchlineError) as error:
        read_csv(content)
    assert message in str(error.value)


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"a,b"], ids=["D3-no-bytes", "D3-header", "D3"])
def test_a_csv_file_without_rows_holds_no_records(content):
    assert read_csv(content) == []


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.lists(json_values, max_size=5))
def test_every_json_line_comes_out_once_with_its_line_number(lines):
    parsed = jsonl("\n".join(map(json.dumps, lines)).encode())
    assert [p.offset for p in parsed] == list(range(1, len(lines) + 1))
    assert [p.raw for p in parsed] == [json.dumps(line).encode() for line in lines]
    for each in parsed:
        assert (each.record is None) == bool(each.reason) == bool(each.detail)
        for values in (each.record or {}).values():
            assert values and len({type(value) for value in values}) == 1


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parsers(content):
    assert all((p.record is None) == bool(p.reason) for p in jsonl(content))
    rows = read_csv(b"a,b\n" + content)
    assert all((p.record is None) == bool(p.reason) for p in rows)


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=2, max_size=2)
    )
)
def test_rows_written_by_pythons_csv_are_read_back(rows):
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([["a", "b"], *rows])
    parsed = read_csv(written.getvalue().encode(), ["a", "b"])
    want = [{k: [v] for k, v in zip("ab", row, strict=True) if v} for row in rows]
    assert [p.record for p in parsed] == want


def test_the_split_does_not_depend_on_key_order_or_file_format():
    rows = [{"id": i, "x": i / 7, "t": f"n{i}"} for i in range(50)]
    backwards = [dict(reversed(row.items())) for row in rows]
    written = io.StringIO()
    writer = csv.DictWriter(written, ["t", "id", "x"])
    writer.writeheader()
    writer.writerows(rows)
    splits = {"train": 1, "eval": 1}

    def chosen(parsed):
        return [choose_split(p.record, splits) for p in parsed]

    first = chosen(jsonl("\n".join(map(json.dumps, rows)).encode()))
    assert first == chosen(jsonl("\n".join(map(json.dumps, backwards)).encode()))
    assert first == chosen(read_csv(written.getvalue().encode()))
    assert set(first) == {"train", "eval"}


def test_the_splits_get_about_their_shares():
    counts = {"train": 0, "eval": 0}
    for i in range(5000):
        counts[choose_split({"id": [i]}, {"train": 4, "eval": 1})] += 1
    # Five standard deviations of a binomial(5000, 0.2).
    assert abs(counts["eval"] - 1000) < 5 * (5000 * 0.2 * 0.8) ** 0.5


def test_records_of_one_split_key_stay_together_and_others_go_by_their_content():
    splits = {"train": 1, "eval": 1}
    chosen = {choose_split({"user": ["u"], "i": [i]}, splits, "user") for i in range(50)}
    assert len(chosen) == 1
    without = {choose_split({"i": [i]}, splits, "user") for i in range(50)}
    assert without == {"train", "eval"}


def test_d17_a_new_column_changes_no_split():
    splits, keys = {"train": 1, "eval": 1}, frozenset({"id"})
    for i in range(50):
        before = choose_split({"id": [i]}, splits, None, keys)
        assert choose_split({"id": [i], "new": ["x"]}, splits, None, keys) == before


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/x.jsonl", "jsonl"),
        ("x.ndjson.gz", "jsonl"),
        ("x.JSON", "json"),
        ("x.json.bz2", "json"),
        ("x.csv", "csv"),
        ("x.csv.gz", "csv"),
        ("x.csv.bak", None),
        ("a.csv/readme", None),
        ("csv", None),
        ("x.gz", None),
        ("x.tsv.zst", "tsv"),
        ("x.snappy.parquet", "parquet"),
        ("x.parquet.gz", None),
        ("x.avro", "avro"),
        ("x.tfrecord.gz", "tfrecord"),
        ("x.tfrecords-00003-of-00010", "tfrecord"),
    ],
)
def test_a_files_name_tells_its_format(path, kind):
    assert file_format(path) == kind


def test_files_are_found_in_folders_below_and_hidden_ones_passed_over(tmp_path):
    for name in ("b.jsonl", "deep/er/a.csv", ".hidden.csv", ".git/x.csv", "notes.txt", "LICENSE"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a\n1\n")
    files, others = find_files([str(tmp_path), str(tmp_path / "b.jsonl"), f"{tmp_path}/deep/"])
    assert [file.path for file in files] == [f"{tmp_path}/b.jsonl", f"{tmp_path}/deep/er/a.csv"]
    assert others == [f"{tmp_path}/LICENSE", f"{tmp_path}/notes.txt"]


MARKERS = (
    "_SUCCESS",
    "_metadata",
    "_common_metadata",
    "_delta_log/00.json",
    ".a.csv.crc",
    "a.csv.crc",
)


@pytest.mark.parametrize("named", ["", "/", "/*", "/**"], ids="D10-{}".format)
def test_markers_beside_records_are_passed_over_in_silence(tmp_path, named):
    for name in ("part.csv", *MARKERS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n1\n")
    files, others = find_files([f"{tmp_path}{named}"])
    assert [file.path for file in files] == [f"{tmp_path}/part.csv"] and not others


def test_a_marker_is_taken_where_it_is_named_itself(tmp_path):
    path = tmp_path / "_run" / "_a.csv"
    path.parent.mkdir()
    path.write_text("a\n1\n")
    assert [file.path for file in find_files([str(path)])[0]] == [str(path)]
    with pytest.raises(BranchlineError, match="got no file of records"):
        find_files([str(path.parent)])
    (path.parent / "b.csv").write_text("a\n1\n")
    assert [file.path for file in find_files([str(path.parent)])[0]] == [f"{path.parent}/b.csv"]


@pytest.mark.parametrize(
    ("named", "partitions"),
    [
        ("", (("day", "2024-01-01"), ("kind", "a/b"))),
        ("/day=*/*", (("day", "2024-01-01"), ("kind", "a/b"))),
        ("/day=2024-01-01", (("kind", "a/b"),)),
        ("/day=2024-01-01/kind=a%2Fb/none=__HIVE_DEFAULT_PARTITION__/x=1.csv", ()),
    ],
    ids=["folder", "pattern", "folder-below", "file"],
)
def test_folders_below_the_named_path_tell_fields(tmp_path, named, partitions):
    below = (
        tmp_path / "of=all" / "day=2024-01-01" / "kind=a%2Fb" / "none=__HIVE_DEFAULT_PARTITION__"
    )
    below.mkdir(parents=True)
    (below / "x=1.csv").write_text("a\n1\n")
    root = f"{tmp_path}/of=all"
    assert find_files([f"{root}{named}"])[0] == [RecordFile(f"{below}/x=1.csv", "csv", partitions)]
    both, _ = find_files([f"{root}{named}", root])
    assert [len(file.partitions) for file in both] == [2]


def test_a_pattern_finds_what_matches_it(tmp_path):
    for name in ("a1.csv", "a2.csv", "b.csv", ".a.csv"):
        (tmp_path / name).write_text("a\n1\n")
    files, _ = find_files([f"{tmp_path}/a*.csv"])
    assert [file.path for file in files] == [f"{tmp_path}/a1.csv", f"{tmp_path}/a2.csv"]
    assert len(find_files([f"{tmp_path}/*"])[0]) == 3


def test_a_file_whose_name_holds_a_patterns_signs_is_found(tmp_path):
    for name in ("part[1].csv", "part1.csv"):
        (tmp_path / name).write_text("a\n1\n")
    files, _ = find_files([f"{tmp_path}/part[1].csv"])
    assert [file.path for file in files] == [f"{tmp_path}/part[1].csv"]
    assert fingerprint_of([files[0].path]) != fingerprint_of([f"{tmp_path}/part1.csv"])
    folder = tmp_path / "run [2]"
    folder.mkdir()
    (folder / "x.csv").write_text("a\n1\n")
    assert [file.path for file in find_files([str(folder)])[0]] == [f"{folder}/x.csv"]


@pytest.mark.parametrize("name", ["in [v1]", "exp [lr=0.1] é", "(2)", "a*"], ids="D22-{}".format)
def test_a_folder_that_exists_is_taken_literally(tmp_path, name):
    (tmp_path / name / "kind=a").mkdir(parents=True)
    (tmp_path / name / "kind=a" / "x [1].csv").write_text("a\n1\n")
    want = [RecordFile(f"{tmp_path}/{name}/kind=a/x [1].csv", "csv", (("kind", "a"),))]
    assert find_files([f"{tmp_path}/{name}"])[0] == want


def test_a_path_without_records_fails_and_says_what_is_expected(tmp_path):
    with pytest.raises(BranchlineError, match="nowhere: there is no such file"):
        find_files([str(tmp_path / "nowhere")])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BranchlineError, match="empty: .*no.*file"):
        find_files([str(empty)])
    (empty / "notes.txt").write_text("x")
    with pytest.raises(BranchlineError, match=r"empty: got no file of records, expected \.jsonl"):
        find_files([str(empty)])
