import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tfx.components.pusher.executor import Executor as Pusher
from tfx.dsl.io import fileio
from tfx.dsl.io.filesystem import NotFoundError
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from branchline.pipeline.kubeflow.step import differences, object_store

BUCKET = "artifacts"


@pytest.fixture(scope="module")
def server():
    """The address of an S3 server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def store(server, monkeypatch):
    """Function (key → bytes) that puts objects into an empty bucket; TFX knows s3:// meanwhile."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3: Any = boto3.resource("s3")
    bucket = s3.Bucket(BUCKET)
    bucket.create()
    bucket.objects.all().delete()
    object_store.register()

    class Store:
        def put(self, **objects):
            for key, content in objects.items():
                bucket.put_object(Key=key, Body=content)

        def keys(self):
            return {each.key: each.get()["Body"].read() for each in bucket.objects.all()}

    return Store()


def saved_model(folder):
    """What the directory of a SavedModel holds, an empty vocabulary among it."""
    files = {
        "saved_model.pb": b"graph",
        "fingerprint.pb": b"\x00\x01",
        "variables/variables.index": b"index",
        "variables/variables.data-00000-of-00001": bytes(range(256)) * 64,
        "assets/vocabulary": b"",
        "assets/words.txt.gz": b"no gzip, whatever the name says",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return files


@pytest.mark.parametrize("scheme", ["s3", "minio"])
def test_tfx_copies_a_model_into_the_store_and_back(store, tmp_path, scheme):
    files = saved_model(tmp_path / "model")
    io_utils.copy_dir(str(tmp_path / "model"), f"{scheme}://{BUCKET}/m")
    assert store.keys() == {f"m/{name}": content for name, content in files.items()}
    io_utils.copy_dir(f"{scheme}://{BUCKET}/m", str(tmp_path / "back"))
    back = tmp_path / "back"
    assert {n: (back / n).read_bytes() for n in files} == files
    io_utils.copy_dir(f"{scheme}://{BUCKET}/m", f"{scheme}://{BUCKET}/copy")
    assert {k: v for k, v in store.keys().items() if k.startswith("copy/")} == {
        f"copy/{name}": content for name, content in files.items()
    }


def test_tfx_pusher_pushes_into_the_store(store, tmp_path):
    model, blessing = standard_artifacts.Model(), standard_artifacts.ModelBlessing()
    pushed = standard_artifacts.PushedModel()
    model.uri, blessing.uri, pushed.uri = (str(tmp_path / n) for n in ("model", "b", "pushed"))
    model.set_string_custom_property("tfx_version", "1.16.0")
    files = saved_model(tmp_path / "model" / "Format-Serving")
    blessing.set_int_custom_property("blessed", 1)
    destination = f'{{"filesystem": {{"base_directory": "s3://{BUCKET}/serving/mixed"}}}}'
    Pusher().Do(
        {"model": [model], "model_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {"push_destination": destination},
    )
    [version] = fileio.listdir(f"s3://{BUCKET}/serving/mixed")
    assert store.keys() == {f"serving/mixed/{version}/{n}": c for n, c in files.items()}
    address = pushed.get_string_custom_property("pushed_destination")
    assert address == f"s3://{BUCKET}/serving/mixed/{version}"


def test_text_and_bytes_are_read_as_they_were_written(store):
    with fileio.open(f"minio://{BUCKET}/a/ü [1]*.txt", "w") as file:
        file.write("zwei\nZeilen ü\n")
    assert store.keys() == {"a/ü [1]*.txt": "zwei\nZeilen ü\n".encode()}
    with fileio.open(f"s3://{BUCKET}/a/ü [1]*.txt") as file:
        assert list(file) == ["zwei\n", "Zeilen ü\n"]
    with fileio.open(f"s3://{BUCKET}/a/ü [1]*.txt", "rb") as file:
        assert file.read() == "zwei\nZeilen ü\n".encode()
    assert fileio.listdir(f"s3://{BUCKET}/a") == ["ü [1]*.txt"]


def test_an_empty_object_can_be_written(store):
    fileio.open(f"s3://{BUCKET}/BLESSED", "w").close()
    assert store.keys() == {"BLESSED": b""}


def test_directories_are_what_objects_lie_under(store):
    fileio.makedirs(f"s3://{BUCKET}/model/assets")
    assert store.keys() == {}
    store.put(**{"model/assets/words": b"a", "model/x": b"1", "model2/x": b"2", "m/": b""})
    root = f"s3://{BUCKET}"
    assert fileio.exists(f"{root}/model") and fileio.isdir(f"{root}/model/")
    assert fileio.isdir(f"{root}/model/assets") and not fileio.isdir(f"{root}/model/x")
    assert not fileio.exists(f"{root}/mod") and not fileio.isdir(f"{root}/mod")
    assert fileio.listdir(root) == ["m", "model", "model2"]
    assert fileio.listdir(f"{root}/m") == []
    assert list(fileio.walk(f"{root}/model")) == [
        (f"{root}/model", ["assets"], ["x"]),
        (f"{root}/model/assets", [], ["words"]),
    ]
    assert [d for d, _, _ in fileio.walk(root, topdown=False)][-1] == root
    assert [d for d, _, _ in fileio.walk(root)][0] == root


def test_glob_stays_within_a_directory(store):
    store.put(**{"a/x-1.gz": b"", "a/x-2.gz": b"", "a/b/x-3.gz": b"", "a/y.gz": b""})
    assert fileio.glob(f"s3://{BUCKET}/a/x-*.gz") == [
        f"s3://{BUCKET}/a/x-1.gz",
        f"s3://{BUCKET}/a/x-2.gz",
    ]
    assert fileio.glob(f"minio://{BUCKET}/*/[b]") == [f"minio://{BUCKET}/a/b"]
    assert fileio.glob(f"s3://{BUCKET}/a/x-[!1].gz") == [f"s3://{BUCKET}/a/x-2.gz"]
    assert fileio.glob(f"s3://{BUCKET}/no/*") == []


def test_objects_are_renamed_and_removed(store):
    root = f"s3://{BUCKET}"
    store.put(**{"a": b"1", "b": b"22", "tree/x": b"", "tree/y/z": b"", "tree2": b""})
    with pytest.raises(OSError, match="not to be overwritten"):
        fileio.copy(f"{root}/a", f"{root}/b")
    fileio.rename(f"{root}/b", f"{root}/a", overwrite=True)
    assert store.keys()["a"] == b"22" and "b" not in store.keys()
    status = fileio.stat(f"{root}/a")
    assert (status.length, status.is_directory) == (2, False) and status.mtime_nsec > 0
    assert fileio.stat(f"{root}/tree").is_directory
    fileio.remove(f"{root}/a")
    fileio.rmtree(f"{root}/tree")
    assert store.keys() == {"tree2": b""}


@pytest.mark.parametrize(
    "use",
    [fileio.open, fileio.remove, fileio.stat, fileio.listdir, fileio.rmtree],
    ids=lambda use: use.__name__,
)
def test_what_is_not_there_is_not_found(store, use):
    with pytest.raises(NotFoundError, match=f"s3://{BUCKET}/none"):
        use(f"s3://{BUCKET}/none")


def test_an_object_cannot_be_appended_to(store):
    with pytest.raises(ValueError, match="mode 'a'"):
        fileio.open(f"s3://{BUCKET}/x", "a")


def test_markers_of_directories_are_deleted_and_nothing_else(store):
    files = {"run/m/saved_model.pb": b"g", "run/m/assets/empty": b"", "run/m2/": b"", "run/": b""}
    store.put(**files, **{"run/m/": b"", "run/m/assets/": b"", "run/m/variables/": b""})
    outputs = {"artifacts": {"model": {"artifacts": [{"uri": f"s3://{BUCKET}/run/m"}]}}}
    differences.delete_output_markers({"outputs": outputs})
    assert store.keys() == files


def test_google_storage_is_left_to_tensorflow_unless_asked():
    from tfx.dsl.io.filesystem_registry import FilesystemRegistry
    from tfx.dsl.io.plugins.tensorflow_gfile import TensorflowFilesystem

    found = {}
    for google in (False, True):
        registry = FilesystemRegistry()
        registry.register(TensorflowFilesystem, priority=10, use_as_fallback=True)
        object_store.register(google=google, registry=registry)
        found[google] = registry.get_filesystem_for_path("gs://bucket/a")
        for uri in ("s3://bucket/a", "minio://bucket/a"):
            filesystem = registry.get_filesystem_for_path(uri)
            assert issubclass(filesystem, object_store.ObjectStoreFilesystem)
        assert registry.get_filesystem_for_path("/data/a") is TensorflowFilesystem
    assert found == {False: TensorflowFilesystem, True: object_store.ObjectStoreFilesystem}


@pytest.fixture
def google_store(monkeypatch, tmp_path):
    """Keys → sizes of a bucket of an HTTP server that lists and deletes as Google's store does."""
    sizes = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = parse_qs(urlsplit(self.path).query)
            items = [
                {"name": key, "bucket": BUCKET, "size": size, "updated": "2025-01-01T00:00:00Z"}
                for key, size in sizes.items()
                if key.startswith(asked.get("prefix", [""])[0])
            ]
            self.answer(200, json.dumps({"items": items}).encode())

        def do_DELETE(self):
            del sizes[unquote(urlsplit(self.path).path.partition("/o/")[2])]
            self.answer(204)

        def answer(self, status, body=b""):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        # Beam tries for 20 seconds to find credentials where there are none.
        user = dict.fromkeys(["client_id", "client_secret", "refresh_token", "token"], "any")
        credentials = tmp_path / "credentials.json"
        credentials.write_text(
            json.dumps(user | {"type": "authorized_user", "expiry": "2999-01-01T00:00:00Z"})
        )
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "project")
        object_store.register()
        yield sizes
        server.shutdown()


def test_markers_in_google_storage_are_deleted_and_nothing_else(google_store):
    files = {"run/m/saved_model.pb": 7, "run/m/assets/empty": 0, "run/m2/": 0}
    google_store.update(files | {"run/m/": 0, "run/m/assets/": 0})
    outputs = {"artifacts": {"model": {"artifacts": [{"uri": f"gs://{BUCKET}/run/m"}]}}}
    differences.delete_output_markers({"outputs": outputs})
    assert google_store == files
