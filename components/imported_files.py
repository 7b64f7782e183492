"""Finds the files of the modules that a Python file imports, without importing any.

Both that identify code use it: the cache's key of a component, and that of a recipe.
"""

import ast
import functools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_CHECKER_ONLY = ("TYPE_CHECKING", "typing.TYPE_CHECKING")


class _Imports(NamedTuple):
    """What a file imports: (level, module, names); and, for type checkers only, name → module.

    A package that exports lazily (PEP 562) tells the checkers, and nobody else, where a name is
    from; it is imported by whoever asks for the name.
    """

    always: tuple[tuple[int, str, tuple[str, ...]], ...]
    lazily: dict[str, tuple[int, str, str]]


def imported_files(files: Iterable[Path], folder: Path, package: str | None = None) -> list[Path]:
    """Lists `files` and the files in `folder` that they import, and those import, and so on.

    Imports within functions count, as does `import_module("name")`. A name that is put together
    while the program runs is not seen.

    Args:
        files: Python files in `folder`, or in packages there.
        folder: Where the names of modules are looked up.
        package: The one package of `folder` whose modules count; None for all but those of the
            standard library and of branchline.

    Returns:
        The paths, sorted; `__init__.py` of packages among them.

    Raises:
        OSError: A file cannot be read.
    """
    found: set[Path] = set()
    asked: set[tuple[str, ...]] = {()}
    todo: list[tuple[str, ...]] = []

    def take(path: Path, name: tuple[str, ...]) -> None:
        if path not in found:
            found.add(path)
            own_package = name if path.name == "__init__.py" else name[:-1]
            targets = _targets(_imports(path.read_bytes()), own_package, folder)
            todo.extend(target for target in targets if _counts(target, package))

    for path in files:
        name = path.relative_to(folder).with_suffix("").parts
        todo.append(name[:-1])
        take(path, name[:-1] if path.name == "__init__.py" else name)
    while todo:
        name = todo.pop()
        if name in asked:
            continue
        asked.add(name)
        todo.append(name[:-1])  # Python runs the packages of a module before it
        path = _file(folder, name)
        if path is not None:
            take(path, name)
    return sorted(found)


def _counts(name: tuple[str, ...], package: str | None) -> bool:
    if package is not None:
        return name[:1] == (package,)
    return bool(name) and name[0] != "branchline" and name[0] not in sys.stdlib_module_names


def _file(folder: Path, name: tuple[str, ...]) -> Path | None:
    base = folder.joinpath(*name)
    choices = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return next((path for path in choices if path.is_file()), None)


def _targets(
    imports: _Imports, package: tuple[str, ...], folder: Path
) -> Iterator[tuple[str, ...]]:
    """The names of modules, some of which may be names within modules."""
    for level, module, names in imports.always:
        base = _absolute(level, module, package)
        yield base
        for name in names:
            if name == "*":  # a package may name modules of its own in __all__
                yield from ((*base, path.stem) for path in folder.joinpath(*base).glob("*.py"))
                continue
            yield (*base, name)
            init = _file(folder, base) if base else None
            if init is not None and init.name == "__init__.py":
                lazy = _imports(init.read_bytes()).lazily.get(name)
                if lazy is not None:
                    yield (*_absolute(lazy[0], lazy[1], base), lazy[2])


def _absolute(level: int, module: str, package: tuple[str, ...]) -> tuple[str, ...]:
    within = package[: len(package) - level + 1] if level else ()
    return (*within, *(module.split(".") if module else ()))


@functools.cache
def _imports(source: bytes) -> _Imports:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # is told by Python when it comes to import the file
        return _Imports((), {})
    always: list[tuple[int, str, tuple[str, ...]]] = []
    lazily: dict[str, tuple[int, str, str]] = {}
    todo: list[ast.AST] = [tree]
    calls = b"import_module" in source or b"__import__" in source
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in _CHECKER_ONLY:
            for each in node.body:
                if isinstance(each, ast.ImportFrom):
                    module = each.module or ""
                    known = {a.asname or a.name: (each.level, module, a.name) for a in each.names}
                    lazily |= known
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            always += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            always.append((node.level, node.module or "", names))
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            name = node.args[0]
            if called in ("import_module", "__import__") and isinstance(name, ast.Constant):
                always.append((0, str(name.value), ()))
        if calls or not isinstance(node, ast.expr | ast.Return | ast.Assign):  # hold no statement
            todo += ast.iter_child_nodes(node)
    return _Imports(tuple(always), lazily)
