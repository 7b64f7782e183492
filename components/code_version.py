"""Identifies a component's code, so that TFX's cache sees when it changes.

TFX's cache key holds a component's inputs and execution properties, not its installed source, nor
that of the libraries it works with.
"""

import hashlib
import importlib.metadata
import inspect
from collections.abc import Iterable
from pathlib import Path

import branchline
from branchline.components.imported_files import imported_files

LIBRARIES = (
    "tensorflow",
    "keras",
    "tfx",
    "tensorflow-transform",
    "tensorflow-data-validation",
    "tensorflow-model-analysis",
    "apache-beam",
)


def code_version(module_file: str) -> str:
    """Names the code of the component in `module_file`, and the libraries it was made with.

    Covered are the sources and templates in the component's own folder, of which a recipe may
    import any, and every module of branchline that they import, and so on.

    Returns:
        The package's version, a hash of the sources, and the versions of LIBRARIES.
    """
    versions = ", ".join(f"{name} {_installed(name)}" for name in LIBRARIES)
    return f"{branchline.__version__}+{sources_hash(sources(module_file))} ({versions})"


def sources(module_file: str | Path) -> list[Path]:
    """The files that `code_version` covers, sorted."""
    package = Path(inspect.getfile(branchline)).resolve().parent
    components = package / "components"  # in a checkout a link
    own = components / Path(module_file).resolve().relative_to(components.resolve()).parent
    modules = imported_files(own.rglob("*.py"), package.parent, package.name)
    return sorted([*modules, *own.rglob("*.jinja")])


def sources_hash(paths: Iterable[Path]) -> str:
    """Identifies the contents and names of files of branchline."""
    package = Path(inspect.getfile(branchline)).resolve().parent
    digest = hashlib.sha256()
    for path in paths:
        name = path.relative_to(package).as_posix()
        digest.update(f"{name}\0{file_hash(path)}\0".encode())
    return digest.hexdigest()[:16]


def file_hash(path: str | Path) -> str:
    """Identifies a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
