import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from branchline.pipeline import local

ROOT = Path(__file__).parents[2]
RUN_LOCAL = ROOT / "run_local.py"
STAND_IN = ROOT / "tests" / "helpers" / "stand_in_graph.py"
RECIPE = """
from branchline.schemas import Numeric, Recipe, Route, RoutingTable, Text, when

def write(folder):
    (folder / "records.jsonl").write_text('{"message": "a"}\\n' * 5)

recipe = Recipe(
    name="two",
    routing=RoutingTable(
        Route("text", when.present("message"), features={"message": Text()}, label="urgent",
              task="binary"),
    ),
    thresholds={"text": {"auc": 0.9}},
    data=DATA,
)
"""


@pytest.fixture
def write_recipe(tmp_path):
    def write(data="None", name="two.py"):
        path = tmp_path / name
        path.write_text(RECIPE.replace("DATA", data))
        return str(path)

    return write


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"message": "a"}\n' * 7)
    return str(path)


def run(*arguments, cwd):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(RUN_LOCAL), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def assert_refused(done, told):
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("run_local: error: ") and done.stderr.count("\n") == 1
    assert told in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_has_examples_and_does_not_import_tensorflow(tmp_path):
    begun = time.monotonic()
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0 and "--set training.steps=500" in done.stdout
    check = (
        "import sys\nfrom branchline.pipeline import local\n"
        "try:\n    local.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "local.main(['--list'])\n"
        "assert not {'tensorflow', 'tfx', 'apache_beam', 'rich'} & set(sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", check], env=environment, check=True)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--steps", "5"], "unrecognized arguments: --steps 5"),
        (["--recipe"], "expected one argument"),
        (["--recipe", "no_such_recipe"], "no recipe is named 'no_such_recipe'"),
        (["--recipe", "no_such.py"], "no_such.py does not exist"),
        (["--recipe", "RECIPE"], "brings no data of its own; give --data PATH"),
        (["--recipe", "RECIPE", "--data", "nowhere"], "--data nowhere does not exist"),
        (["--recipe", "RECIPE", "--data", "empty"], "holds no file with anything in it"),
        (["--recipe", "RECIPE", "--data", "empty/none.jsonl"], "is an empty file"),
        (["--recipe", "RECIPE", "--data", "no*.csv"], "got a pattern that no file matches"),
        (["--recipe", "RECIPE", "--set", "training.step=5"], "did you mean steps"),
        (["--recipe", "RECIPE", "--data", "two.py", "--output", "two.py/x"], "cannot write to"),
        (["--recipe", "raises.py"], "raises.py, line 1: ZeroDivisionError"),
    ],
    ids=lambda value: "-".join(value)[2:] if isinstance(value, list) else "",
)
def test_wrong_arguments_are_told_in_one_line(tmp_path, write_recipe, arguments, told):
    recipe = write_recipe()
    (tmp_path / "raises.py").write_text("1 / 0")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "none.jsonl").touch()
    arguments = [recipe if argument == "RECIPE" else argument for argument in arguments]
    assert_refused(run(*arguments, cwd=tmp_path), told)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("'nowhere/'", "Recipe.data of two.py:"),
        ("lambda folder: 1 / 0", "ZeroDivisionError: division by zero"),
        ("lambda folder: None", "holds no file with anything in it"),
    ],
    ids=["path", "raises", "nothing"],
)
def test_data_of_the_recipe_that_fails_is_told(tmp_path, write_recipe, data, told):
    done = run("--recipe", write_recipe(data), cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert told in done.stderr and done.stderr.count("\n") == 1


def test_two_runs_do_not_write_to_one_place(tmp_path, write_recipe, records):
    with local._claimed(tmp_path / "out"):
        done = run("--recipe", write_recipe(), "--data", records, "--output", "out", cwd=tmp_path)
    assert_refused(done, "another run is writing to")


@pytest.fixture(scope="session")
def stand_in():
    spec = importlib.util.spec_from_file_location("branchline_stand_in_graph", STAND_IN)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_here(stand_in, monkeypatch, tmp_path, capfd):
    def main(*arguments):
        code = local.main([*map(str, arguments), "--output", str(tmp_path / "out")])
        return code, *capfd.readouterr()

    monkeypatch.setitem(sys.modules, "branchline.pipeline.graph", stand_in)
    monkeypatch.setattr(sys, "argv", sys.argv)
    return main


def test_a_run_ends_with_a_table_and_where_everything_is(run_here, write_recipe, records, tmp_path):
    code, out, err = run_here("--recipe", write_recipe(), "--data", records)
    assert code == 0, err + out
    assert err == ""
    lines = out.splitlines()
    assert "[1/3] Ingest: 8 records, 1 quarantined" in lines
    assert "error: some.library: a harmless error" in lines
    assert "[2/3] Judge: step 100/100, loss text 0.01" in lines
    assert any(line.split()[:5] == ["text", "–", "–", "auc", "0.95"] for line in lines)
    assert "blessed; 8 records in, 1 quarantined" in lines
    log = (tmp_path / "out" / "run.log").read_text()
    for chatter in ("library on stdout", "of a subprocess", "with details"):
        assert f"{chatter}" in log and chatter not in out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics == {
        "recipe": "two",
        "blessed": True,
        "routes": {"text": {"examples": 1, "auc": 0.95}},
        "records": {"in": 8, "train": 6, "eval": 1, "quarantined": {"malformed JSON": 1}},
    }
    assert "<title>two: blessed</title>" in (tmp_path / "out" / "report.html").read_text()

    code, out, _ = run_here("--recipe", write_recipe(), "--data", records)
    assert code == 0 and [line for line in out.splitlines() if line.endswith(" cached")] == [
        f"[{n}/3] {name} cached" for n, name in enumerate(("Ingest", "Judge", "RunReport"), 1)
    ]
    assert (tmp_path / "out" / "run.log.1").exists()

    # The report is that of this run, not the newest one that was made.
    strict = ("--set", "thresholds.text.auc=0.99")
    code, out, _ = run_here("--recipe", write_recipe(), "--data", records, *strict)
    assert code == 0 and "not blessed (1 of 1 checks missed)" in out
    code, out, _ = run_here("--recipe", write_recipe(), "--data", records, "--require-blessing")
    assert code == 0 and "RunReport cached" in out
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["blessed"] is True
    code, out, _ = run_here(
        "--recipe", write_recipe(), "--data", records, *strict, "--require-blessing"
    )
    assert code == 3
    code, out, _ = run_here("--recipe", write_recipe(), "--data", records, "--no-cache")
    assert code == 0 and "cached" not in out


def test_a_run_that_fails_tells_component_cause_and_what_to_do(
    run_here, write_recipe, records, tmp_path
):
    code, out, err = run_here("--recipe", write_recipe(), "--data", records, "--set=split_key=fail")
    assert code == 1
    lines = err.splitlines()
    assert lines[0] == "run_local: Ingest failed: record 1 is no good: mend it"
    assert lines[1].startswith("  what to do: ") and lines[2] == f"  log: {tmp_path}/out/run.log"
    assert len(lines) == 3 and "Traceback" not in err + out
    assert "Traceback" in (tmp_path / "out" / "run.log").read_text()


@pytest.mark.parametrize(("mode", "code"), [("work", 0), ("fail", 1)])
def test_nothing_temporary_is_left_behind(
    run_here, write_recipe, records, tmp_path, monkeypatch, mode, code
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    done, *_ = run_here("--recipe", write_recipe(), "--data", records, f"--set=split_key={mode}")
    assert done == code
    assert not list((tmp_path / "temporary").iterdir())
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(tmp_path / "temporary")


def test_data_is_written_again_when_code_or_inputs_changed_and_without_the_cache(
    run_here, write_recipe, tmp_path
):
    def write(line):
        (tmp_path / "helper.py").write_text(f"LINE = {line!r}")
        read = "(folder / 'records.jsonl').write_text((helper.LINE + more()) * 5)"
        code = "import helper, pathlib\n\ndef more():\n    here = pathlib.Path(__file__).parent\n"
        code += f"    return (here / 'more.txt').read_text()\n\ndef own(folder):\n    {read}\n"
        path = tmp_path / "two.py"
        path.write_text(code + RECIPE.replace("DATA", "own, data_inputs=['more.txt']"))
        return path

    def records(*arguments):
        code, out, err = run_here("--recipe", tmp_path / "two.py", *arguments)
        assert code == 0, err + out
        assert not (tmp_path / "out" / ".data-unfinished").exists()
        written = tmp_path / "out" / "data" / "records.jsonl"
        return written.read_text().split("\n")[0], written.stat().st_mtime_ns

    (tmp_path / "more.txt").write_text("}\n")
    write('{"message": "a"')
    first, when = records()
    assert records() == (first, when)
    write('{"message": "longer"')
    assert records()[0] == '{"message": "longer"}'
    (tmp_path / "more.txt").write_text(', "x": 1}\n')
    third, when = records()
    assert third == '{"message": "longer", "x": 1}'
    assert records() == (third, when)
    again = records("--no-cache")
    assert again[0] == third and again[1] > when


def test_an_input_of_the_data_function_that_is_not_there_is_told(write_recipe, tmp_path):
    done = run("--recipe", write_recipe("write, data_inputs=['raw']"), cwd=tmp_path)
    told = f"Recipe.data_inputs: {tmp_path}/raw: there is no such file"
    assert done.returncode == 2 and done.stderr == f"run_local: error: {told}\n"


def test_standard_streams_are_given_back(run_here, write_recipe, records, capfd):
    run_here("--recipe", write_recipe(), "--data", records)
    os.write(1, b"after")
    assert capfd.readouterr().out == "after"


def test_an_interrupted_run_says_so_and_the_next_one_starts_over(tmp_path, write_recipe, records):
    script = tmp_path / "run.py"
    script.write_text(
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('stand_in_graph', {str(STAND_IN)!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['stand_in_graph'] = sys.modules['branchline.pipeline.graph'] = module\n"
        "spec.loader.exec_module(module)\n"
        f"exec(compile(open({str(RUN_LOCAL)!r}).read(), {str(RUN_LOCAL)!r}, 'exec'))\n"
    )
    command = [sys.executable, str(script), "--recipe", write_recipe(), "--data", records]
    command += ["--output", str(tmp_path / "out")]
    (tmp_path / "temporary").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "temporary")}
    running = subprocess.Popen(
        [*command, "--set", "split_key=linger"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What runs the tests in the background ignores it, and so would the process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not Path(f"{records}.lingers").exists() and running.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130, err
    told = err[err.index("run_local: ") :]  # before it stands what importing TFX in here said
    assert told.startswith("run_local: interrupted; nothing half-written counts")
    assert told.count("\n") == 1
    assert not list((tmp_path / "temporary").iterdir())
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Ingest done" in done.stdout, done.stderr
    assert not list((tmp_path / "temporary").iterdir())
