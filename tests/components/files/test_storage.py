"""Files on this machine and in a bucket are listed, read, written and copied the same way."""

import gzip
import os

import pytest
from object_store import BUCKET, object_store, reach

from branchline.components.files import storage
from branchline.components.files.storage import (
    copy_tree,
    delete_tree,
    exists,
    list_files,
    read_bytes,
    read_json,
    read_text,
    write_bytes,
)
from branchline.schemas import BranchlineError

TREE = {"a.txt": b"one", "deep/er/[b]*.gz": gzip.compress(b"two"), "deep/empty": b""}


@pytest.fixture(params=["local", "s3", "minio"])
def root(request, tmp_path, monkeypatch):
    """A directory in which nothing is."""
    if request.param == "local":
        yield str(tmp_path / "files")
    else:
        with object_store(monkeypatch):
            yield f"{request.param}://{BUCKET}/files"


def write_tree(root, files=TREE):
    for name, content in files.items():
        write_bytes(f"{root}/{name}", content)


def tree(root):
    return {each.path.removeprefix(f"{root}/"): read_bytes(each.path) for each in list_files(root)}


def test_what_was_written_is_listed_and_read_as_it_is(root):
    assert list_files(root) == [] and not exists(f"{root}/a.txt")
    write_tree(root)
    assert tree(root) == TREE and list(tree(root)) == sorted(TREE)
    assert [each.size for each in list_files(root)] == [len(TREE[name]) for name in sorted(TREE)]
    assert all(each.changed > 1e9 for each in list_files(root))
    assert exists(f"{root}/deep/empty") and not exists(f"{root}/deep/other")
    write_bytes(f"{root}/a.txt", b'{"x": "\xc3\xa9"}')
    assert read_text(f"{root}/a.txt") == '{"x": "é"}' and read_json(f"{root}/a.txt") == {"x": "é"}


def test_a_sibling_whose_name_begins_alike_is_not_below(root):
    write_tree(f"{root}-2")
    write_tree(root, {"a.txt": b""})
    assert tree(root) == {"a.txt": b""}
    delete_tree(root)
    assert tree(root) == {} and tree(f"{root}-2") == TREE


def test_markers_of_directories_are_no_files(monkeypatch):
    with object_store(monkeypatch) as client:
        client.put_object(Bucket=BUCKET, Key="files/deep/", Body=b"")
        client.put_object(Bucket=BUCKET, Key="files/deep/a", Body=b"1")
        assert tree(f"s3://{BUCKET}/files") == {"deep/a": b"1"}
        delete_tree(f"s3://{BUCKET}/files")
        assert "Contents" not in client.list_objects_v2(Bucket=BUCKET)


@pytest.mark.parametrize("to_local", [False, True], ids=["beside", "to-local"])
def test_a_tree_is_copied_whole_and_replaces_what_is_there(root, tmp_path, to_local):
    target = str(tmp_path / "copy") if to_local else f"{root}-copy"
    write_tree(root)
    write_tree(target, {"left.txt": b"", "a.txt": b"before"})
    copy_tree(root, target)
    assert tree(target) == TREE == tree(root)


def test_a_local_tree_is_copied_to_a_bucket(tmp_path, monkeypatch):
    write_tree(str(tmp_path / "here"))
    with object_store(monkeypatch):
        copy_tree(f"{tmp_path}/here", f"s3://{BUCKET}/there")
        assert tree(f"s3://{BUCKET}/there") == TREE


def test_of_a_copy_that_fails_nothing_remains(root):
    write_tree(root)
    paths = [each.path for each in list_files(root)]
    with pytest.raises(BranchlineError, match="gone"):
        copy_tree(root, f"{root}-copy", [*paths, f"{root}/gone"])
    assert tree(f"{root}-copy") == tree(f"{root}-copy.part") == {}


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (lambda root: read_bytes(f"{root}/no"), "/files/no: cannot be listed or read: "),
        (lambda root: copy_tree(f"{root}/no", f"{root}/copy"), "/files/no: there is no such dir"),
        (lambda root: read_json(f"{root}/a"), "/files/a: got no JSON"),
        (lambda root: read_text(f"{root}/b"), "/files/b: got no text in UTF-8"),
    ],
    ids=["missing", "no-tree", "json", "text"],
)
def test_what_goes_wrong_is_told_in_one_line_with_the_path(root, use, told):
    write_tree(root, {"a": b"{", "b": b"\xff"})
    with pytest.raises(BranchlineError) as error:
        use(root)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = str(tmp_path / "a.txt")
    write_bytes(path, b"before")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", full)
    with pytest.raises(BranchlineError, match="a.txt: cannot be written: .*No space left"):
        write_bytes(path, b"after")
    assert read_bytes(path) == b"before"


@pytest.mark.parametrize(
    "use", [list_files, exists, read_bytes, delete_tree, lambda path: write_bytes(path, b"x")]
)
def test_a_store_that_lets_nobody_in_is_told_within_seconds(use, monkeypatch):
    reach(monkeypatch, "http://127.0.0.1:9")  # nobody listens
    with pytest.raises(BranchlineError, match="s3://b/files: cannot be .*Could not connect"):
        use("s3://b/files")
    assert os.environ["AWS_ENDPOINT_URL"]
