"""Builds the package and uses the wheel in a project that has a `pipeline` and `schemas` too."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import branchline

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE")
PAGES = (("components", "README.md"), ("branch_trainer", "README.md"))
FOLDERS = ("branchline", "components", "pipeline", "schemas")
CONSUMER = {
    "pipeline/__init__.py": "OWNER = 'consumer'",
    "schemas/__init__.py": "OWNER = 'consumer'",
    "records/records.csv": "kind,message,urgent,reading,days\n"
    + "text,hello,1,,\n" * 30
    + "meter,,,2.5,3.5\n" * 20
    + "other,,,,\n" * 5,
    "run.py": """
import json
import sys
from importlib.metadata import version
from pathlib import Path

import branchline
import pipeline
import schemas
import tensorflow as tf
import tensorflow_data_validation as tfdv
from branchline.components import Router
from branchline.pipeline.local import BEAM_ARGS
from branchline.schemas import Numeric, Route, RoutingTable, Text, when
from tfx.components import CsvExampleGen, StatisticsGen
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline

here = Path(__file__).parent
table = RoutingTable(
    Route("text", when.equals("kind", "text"), features={"message": Text()}, label="urgent",
          task="binary"),
    Route("meter", when.greater("reading", 0.0), features={"reading": Numeric()}, label="days",
          task="regression"),
)
generate = CsvExampleGen(input_base=str(here / "records"))
route = Router(generate.outputs["examples"], table)
measure = StatisticsGen(examples=route.outputs["routed_examples"])
LocalDagRunner().run(
    Pipeline(
        pipeline_name="consumer",
        pipeline_root=str(here / "root"),
        components=[generate, route, measure],
        metadata_connection_config=sqlite_metadata_connection_config(str(here / "metadata.sqlite")),
        beam_pipeline_args=list(BEAM_ARGS),
    )
)


def count(split, route):
    found = (here / "root").glob(f"Router/routed_examples/*/Split-{split}/{route}-*")
    files = [str(path) for path in found]
    return sum(1 for _ in tf.data.TFRecordDataset(files, compression_type="GZIP"))


def measured(split):
    (path,) = (here / "root").glob(f"StatisticsGen/statistics/*/{split}/FeatureStats.pb")
    return tfdv.load_stats_binary(str(path)).datasets[0].num_examples


(counts,) = (here / "root").glob("Router/quarantine/*/counts.json")
splits = {f"{s}-{name}": (s, name) for s in ("train", "eval") for name in ("text", "meter")}
print(json.dumps({
    "branchline": branchline.__file__,
    "version": version("branchline"),
    "own": [pipeline.OWNER, schemas.OWNER],
    "routed": {name: count(*split) for name, split in splits.items()},
    "measured": {split: measured(f"Split-{split}") for split in ("train", "eval")},
    "quarantined": sum(json.loads(counts.read_text())["quarantined"].values()),
}))
""",
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The sdist, the wheel made of it, and the wheel made of the checkout."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, symlinks=True)
    for out, kinds in (("both", []), ("straight", ["--wheel"])):
        command = [sys.executable, "-m", "build", "--no-isolation", *kinds]
        run([*command, "--outdir", folder / out, source], cwd=folder)
    (sdist,) = (folder / "both").glob("*.tar.gz")
    (from_sdist,) = (folder / "both").glob("*.whl")
    (wheel,) = (folder / "straight").glob("*.whl")
    return sdist, from_sdist, wheel


def run(command, cwd):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def sources():
    """What git would have the package hold: all but the bytecode and the page for readers."""
    return {
        f"branchline/{path.relative_to(ROOT)}"
        for folder in FOLDERS[1:]
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.parts[-2:] not in PAGES
    } | {"branchline/__init__.py", "branchline/py.typed"}


def test_wheels_hold_every_file_of_the_folders_and_nothing_else(packages):
    _, from_sdist, wheel = packages
    assert names_in(wheel) == sources()
    assert names_in(from_sdist) == sources()
    for suffix in (".jinja", ".csv.xz", "README.md", "py.typed"):
        assert any(name.endswith(suffix) for name in names_in(wheel))


def test_packages_carry_licence_and_version(packages):
    sdist, _, wheel = packages
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("/LICENSE") for name in archive.getnames())
        assert not any(member.issym() for member in archive.getmembers())
    with zipfile.ZipFile(wheel) as archive:
        (licence,) = [n for n in archive.namelist() if n.endswith(".dist-info/licenses/LICENSE")]
        assert b"Apache License" in archive.read(licence)
    assert wheel.name.startswith(f"branchline-{branchline.__version__}-py3-none-any")
    assert importlib.metadata.version("branchline") == branchline.__version__


@pytest.mark.e2e
def test_a_consumer_with_its_own_pipeline_and_schemas_runs_the_router(packages, tmp_path):
    *_, wheel = packages
    venv, project = tmp_path / "venv", tmp_path / "project"
    run([sys.executable, "-m", "venv", "--without-pip", venv], cwd=tmp_path)
    site = venv / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    # Not site.addsitedir: the environment's own .pth files would bring the checkout in.
    (site / "environment.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    run([*install, "--target", site, wheel], cwd=tmp_path)
    for name, text in CONSUMER.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    told = json.loads(run([venv / "bin" / "python", "run.py"], cwd=project).splitlines()[-1])

    assert Path(told["branchline"]).is_relative_to(site)
    assert told["version"] == branchline.__version__
    assert told["own"] == ["consumer", "consumer"]
    for split, number in told["measured"].items():
        assert number == told["routed"][f"{split}-text"] + told["routed"][f"{split}-meter"]
    assert told["routed"]["train-text"] + told["routed"]["eval-text"] == 30
    assert told["routed"]["train-meter"] + told["routed"]["eval-meter"] == 20
    assert told["quarantined"] == 5
