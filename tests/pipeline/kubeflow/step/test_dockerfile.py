"""Builds the image without a container engine; dockerfile.py says what of that is real."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import dockerfile
import pytest

from branchline.pipeline.kubeflow.step import check_image
from branchline.schemas import BranchlineError

ROOT = Path(__file__).parents[4]
TEXT = (ROOT / "Dockerfile").read_text()
IGNORE = (ROOT / ".dockerignore").read_text()
INSTRUCTIONS = dockerfile.parse(TEXT)
PACKAGES = ("components", "pipeline", "schemas")
FOR_THE_BUILD = {"pyproject.toml", "uv.lock", "README.md", "LICENSE"}
SECRETS = [
    ".env",
    ".git/config",
    "secret.token",
    "runs/mixed/metadata.sqlite",
    "components/secret.token",
    "components/router/.env",
    "components/router/.hidden.py",
    "components/__pycache__/artifacts.cpython-310.pyc",
    "pipeline/recipes/data/customers.csv",
    "pipeline/kubeflow/service-account.json",
    "schemas/id_rsa",
    "tests/conftest.py",
    "branchline/.env",
]


def checkout():
    """The files that git has, or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.splitlines() if (ROOT / name).is_file()}


def package_files():
    """What the wheel is to hold, as paths in the checkout."""
    own = {"branchline/__init__.py", "branchline/py.typed"}
    for_readers = {"components/README.md", "components/branch_trainer/README.md"}
    return own | {name for name in checkout() if name.split("/")[0] in PACKAGES} - for_readers


def named(name):
    return [each for each in INSTRUCTIONS if each.name == name]


def commands():
    """Every command of every RUN."""
    return [part.strip() for each in named("RUN") for part in each.value.split("&&")]


def find_uv():
    """The binary itself: what lies on PATH may be a script that finds it by the user's settings."""
    show = ["uv", "run", "--no-project", "--no-sync", "printenv", "UV"]
    return subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """The checkout as .dockerignore lets it through, in a directory of its own."""
    folder = tmp_path_factory.mktemp("context")
    for name in dockerfile.admitted(checkout(), IGNORE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def image(context, tmp_path_factory):
    """The last stage, built; the health step has run in it."""
    folder = tmp_path_factory.mktemp("stages")
    yield dockerfile.build(INSTRUCTIONS, context, folder, find_uv())["runtime"]
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture(scope="module")
def site(image):
    (found,) = image.root.glob("opt/venv/lib/python3.*/site-packages")
    return found


def test_the_context_holds_what_the_wheel_needs_and_nothing_else():
    assert dockerfile.admitted(checkout(), IGNORE) == package_files() | FOR_THE_BUILD


@pytest.mark.parametrize("name", SECRETS)
def test_what_else_lies_in_the_checkout_stays_out_of_the_context(name):
    assert dockerfile.admitted([name], IGNORE) == set()


def test_every_file_of_the_context_is_copied():
    copies = [each.value.split()[:-1] for each in named("COPY") if not each.flag("from")]
    sources = {source for copy in copies for source in copy}
    left_out = {
        name
        for name in dockerfile.admitted(checkout(), IGNORE)
        if not sources & {name, *map(str, Path(name).parents)}
    }
    assert left_out == set()


@pytest.mark.parametrize("python", ["3.10.19", "3.12.12"])
def test_base_images_are_pinned_by_version(python):
    uv, builder, base = dockerfile.images(INSTRUCTIONS, {"PYTHON": python})
    assert re.fullmatch(r"[\w./-]+/uv:\d+\.\d+\.\d+", uv)
    assert (builder, base) == (f"python:{python}-trixie", f"python:{python}-slim-trixie")


def test_what_has_no_wheel_is_built_where_a_compiler_is():
    packages = (ROOT / "uv.lock").read_text().split("[[package]]")[1:]
    from_source = [each for each in packages if "registry" in each and "wheels = [" not in each]
    assert any('name = "pyfarmhash"' in each for each in from_source)
    _, builder, _ = dockerfile.images(INSTRUCTIONS, {})
    assert "slim" not in builder


def test_without_arguments_the_base_line_is_built():
    default = dockerfile.images(INSTRUCTIONS, {})[-1]
    assert default.startswith(f"python:{(ROOT / '.python-version').read_text().strip()}.")


def test_all_that_is_fetched_is_locked():
    fetching = [each for each in commands() if re.search(r"\b(uv|pip|apt|curl|wget)\b", each)]
    online = [each for each in fetching if not re.search(r"--(offline|no-index)\b", each)]
    assert [each[: len("uv sync --frozen --no-dev")] for each in online] == [
        "uv sync --frozen --no-dev"
    ]
    assert not named("ADD")


def test_commands_are_few_and_plain():
    programs = {Path(each.split()[0]).name for each in commands()}
    assert programs == {"uv", "python", "install"}


def test_the_user_has_a_number_and_is_not_root():
    last = named("USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:0", last.value)
    assert "USER" not in [each.name for each in INSTRUCTIONS[: INSTRUCTIONS.index(last)]]


def test_nothing_secret_is_set_or_mounted():
    names = [name for kind in ("ARG", "ENV") for each in named(kind) for name in each.value.split()]
    assert not [n for n in names if re.match(r"(?i)\w*(token|secret|passw|credential|_key)", n)]
    assert not [flag for each in named("RUN") for flag in each.flags if "secret" in flag]


def test_kubeflow_says_what_runs():
    assert not named("ENTRYPOINT")
    assert [each.value for each in named("CMD")] == [
        '["python", "-m", "branchline.pipeline.kubeflow.step.check_image"]'
    ]


def test_no_gpu_is_shown_to_steps_that_ask_for_none():
    assert not [each for each in named("ENV") if "NVIDIA_VISIBLE_DEVICES=" in each.value]


@pytest.mark.parametrize("extras", ["", "--extra gpu"])
def test_cuda_is_in_the_gpu_image_only(extras, context, tmp_path):
    dry = [
        dockerfile.Instruction(each.name, each.flags, f"{each.value} --dry-run")
        if each.value.startswith("uv sync")
        else each
        for each in INSTRUCTIONS
    ]
    arguments = {"EXTRAS": extras}
    stages = dockerfile.build(dry, context, tmp_path, find_uv(), arguments, until="dependencies")
    (said,) = stages["dependencies"].said
    assert " + tensorflow==" in said and " + kfp==" in said and " + boto3==" in said
    assert (" + nvidia-cudnn-cu12==" in said) == bool(extras)


def test_the_check_names_what_cannot_be_imported():
    with pytest.raises(BranchlineError, match=r"import no_such_module \(ModuleNotFoundError.*kube"):
        check_image.import_all(["json", "no_such_module"])


def test_the_check_covers_every_component_and_module():
    files = [name.removesuffix(".py") for name in package_files() if name.endswith(".py")]
    modules = {f"branchline.{name.replace('/', '.')}".removesuffix(".__init__") for name in files}
    modules.remove("branchline.branchline")
    assert modules | {"branchline.components.Router"} <= set(check_image.list_modules())


@pytest.mark.e2e
def test_the_health_step_imports_all_that_steps_import(image):
    assert image.user == named("USER")[-1].value
    told = r"(?m)branchline \S+, tensorflow \S+, .*: \d+ imports in \d+ s, all well$"
    assert re.search(told, image.said[-1])


@pytest.mark.e2e
def test_the_image_holds_the_wheel_and_not_the_checkout(image, site):
    held = {
        str(path.relative_to(site / "branchline"))
        for path in (site / "branchline").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert held == {name.removeprefix("branchline/") for name in package_files()}
    assert not [path for path in (site / "branchline").rglob("*") if path.is_symlink()]
    assert sorted(each.name for each in image.root.iterdir()) == [
        *("gcs", "minio", "opt", "recipes", "s3", "tmp")
    ]


@pytest.mark.e2e
def test_all_code_is_compiled_whatever_the_times_of_its_files(site):
    compiled = 0
    for source in (*site.glob("branchline/**/*.py"), *site.glob("tfx/**/*.py")):
        for bytecode in source.parent.glob(f"__pycache__/{source.stem}.cpython-*.pyc"):
            assert bytecode.read_bytes()[4:8] == b"\1\0\0\0"  # by hash, unchecked
            compiled += 1
    sources = [*site.glob("branchline/**/*.py"), *site.glob("tfx/**/*.py")]
    assert compiled == len(sources) > 500


@pytest.mark.e2e
def test_any_user_can_read_the_image_and_write_where_launchers_do(image):
    for path in (image.root / "opt").rglob("*"):
        if not path.is_symlink():
            wanted = 0o005 if path.is_dir() else 0o004
            assert path.stat().st_mode & wanted == wanted, path
    modes = {
        each: stat.S_IMODE((image.root / each).stat().st_mode) for each in os.listdir(image.root)
    }
    assert {modes[each] for each in ("s3", "minio", "gcs")} == {0o1777}
    assert modes["recipes"] == 0o755


@pytest.mark.e2e
def test_nothing_for_development_is_in_the_image(site):
    installed = {path.name.split("-")[0].lower() for path in site.glob("*.dist-info")}
    assert {"branchline", "tensorflow", "tfx", "kfp", "boto3"} <= installed
    assert not installed & {"pytest", "ruff", "pyright", "hypothesis", "moto", "flask", "pip"}


@pytest.mark.e2e
def test_an_image_that_lacks_a_library_is_not_built(image, site):
    hidden = site / "boto3.hidden"
    (site / "boto3").rename(hidden)
    try:
        with pytest.raises(AssertionError, match=r"error: .* cannot import .*boto3"):
            dockerfile.run_again(named("RUN")[-1], image)
    finally:
        hidden.rename(site / "boto3")
