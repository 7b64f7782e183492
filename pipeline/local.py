"""Runs a recipe on this machine: what run_local.py does."""

import fcntl
import gc
import logging
import os
import shutil
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from branchline.pipeline.arguments import read_arguments
from branchline.pipeline.load_recipe import list_recipes, load_recipe
from branchline.pipeline.plain_name import plain_name
from branchline.pipeline.set_fields import set_fields
from branchline.schemas import BranchlineError, Recipe, RecipeError

if TYPE_CHECKING:
    from branchline.pipeline.logs import Capture

# The runner by its long name, because Beam from 2.68 on first tries Prism, which it downloads, and
# for "FnApiRunner" alone too. The image is not used by this runner; naming one keeps TFX from
# building an sdist of itself for every executor (tfx/utils/dependency_utils.py).
BEAM_ARGS = (
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--sdk_container_image=unused",
)


def main(argv: list[str] | None = None) -> int:
    """Runs what the command line says.

    Args:
        argv: The arguments; None for those of the process.

    Returns:
        The exit code: 0 ran, 1 failed, 2 wrong arguments, recipe or data, 3 not blessed where
        that is required, 130 interrupted.
    """
    arguments = read_arguments(argv)
    if arguments.list:
        for name, line in list_recipes().items():
            print(f"{name:<16}{line}")
        return 0
    sys.argv = sys.argv[:1]  # TFX's Beam executors parse it for flags of their own
    from branchline.components.files.scratch import own_temporary_folder
    from branchline.pipeline.logs import captured

    with captured() as capture, own_temporary_folder():
        try:
            return _run(arguments, capture)
        except RecipeError as error:
            traceback.print_exc()
            print(f"run_local: error: {_one_line(error)}", file=capture.err)
            return 2
        except KeyboardInterrupt:
            print(
                "run_local: interrupted; nothing half-written counts. The same command goes on "
                "from the last finished component, with --resume also within training",
                file=capture.err,
            )
            return 130


def _run(arguments: Namespace, capture: "Capture") -> int:
    with _importing():
        from branchline.pipeline.collect_outputs import collect_outputs, find_kept, find_pushed
        from branchline.pipeline.console import make_display
        from branchline.pipeline.explain import explain
        from branchline.pipeline.find_data import find_data, write_data
        from branchline.pipeline.free_memory import free_memory
        from branchline.pipeline.summary import print_summary
        from branchline.pipeline.watch import Watcher

        recipe, recipe_file, recipe_module = load_recipe(arguments.recipe)
    recipe = set_fields(recipe, arguments.assignments)
    output_dir = Path(arguments.output or Path("runs") / recipe.name).expanduser().resolve()
    if arguments.set_aside:
        return _write_set_aside(output_dir, arguments.set_aside, capture)
    data_paths = find_data(recipe, recipe_file, arguments.data)
    with _claimed(output_dir):
        capture.keep(output_dir / "run.log")
        display = make_display(capture.out)
        watcher = Watcher(display, on_finished=free_memory)
        logging.getLogger().addHandler(watcher)
        try:
            if data_paths is None:
                display.waiting(f"writing the records of {recipe.name}")
                again = arguments.no_cache
                data_paths = [write_data(recipe, recipe_file, output_dir, again)]
            display.waiting("loading TensorFlow and TFX")
            run_pipeline(
                recipe,
                recipe_file=recipe_file,
                recipe_module=recipe_module,
                data_paths=data_paths,
                output_dir=plain_name(output_dir),
                enable_cache=not arguments.no_cache,
                resume=arguments.resume,
                on_components=display.components.extend,
            )
            if watcher.skipped:
                component, why = next(iter(watcher.skipped.items()))
                watcher.component = component
                raise BranchlineError(why)
            report = collect_outputs(output_dir / "metadata.sqlite", output_dir)
        except Exception as error:
            if isinstance(error, RecipeError) and watcher.component is None:
                raise
            display.close()
            traceback.print_exc()
            failure = explain(error)
            place = f"{watcher.component} failed" if watcher.component else "the run failed"
            print(f"run_local: {place}: {failure.cause}", file=capture.err)
            print(f"  what to do: {failure.advice}", file=capture.err)
            if find_kept(output_dir / "metadata.sqlite"):
                told = "the same command with --set-aside FOLDER writes it as files to be mended"
                print(f"  what was set aside: {told}", file=capture.err)
            print(f"  log: {capture.path}", file=capture.err)
            return 1
        finally:
            display.close()
            logging.getLogger().removeHandler(watcher)
    pushed = find_pushed(output_dir / "serving" / recipe.name)
    print_summary(
        display.console,
        report,
        {
            "report": output_dir / "report.html",
            "model": pushed if report["blessed"] else None,
            "log": capture.path,
        },
    )
    return 3 if arguments.require_blessing and not report["blessed"] else 0


def _write_set_aside(output_dir: Path, path: str, capture: "Capture") -> int:
    from branchline.pipeline.set_aside import REASONS, name_folder, write_set_aside

    metadata = output_dir / "metadata.sqlite"
    if not metadata.is_file():
        raise RecipeError(f"--set-aside: got --output {output_dir}, where nothing has run yet")
    try:
        folder = name_folder(path)
        number = write_set_aside(metadata, folder)
    except BranchlineError as error:
        if isinstance(error, RecipeError):
            raise
        print(f"run_local: {_one_line(error)}", file=capture.err)
        return 1
    print(f"{number} records in {folder}; {REASONS} says what is wrong with each", file=capture.out)
    return 0


def run_pipeline(
    recipe: Recipe,
    *,
    recipe_file: Path,
    recipe_module: ModuleType,
    data_paths: list[str],
    output_dir: Path,
    enable_cache: bool,
    resume: bool,
    on_components: Callable[[list[str]], None] = lambda names: None,
) -> None:
    """Makes the recipe's pipeline and runs its components one after the other.

    Args:
        recipe: What to run.
        recipe_file: Where it was defined.
        recipe_module: That file, imported.
        data_paths: Files and folders of records.
        output_dir: Where everything is written.
        enable_cache: Take outputs of earlier runs for components whose inputs are the same.
        resume: Training goes on from its last checkpoint.
        on_components: Is told the components' names in order, before the first runs.
    """
    with _importing():
        from tfx.orchestration.local.local_dag_runner import LocalDagRunner

        from branchline.pipeline.graph import CHECKPOINTS, create_pipeline

    if not resume:
        shutil.rmtree(output_dir / CHECKPOINTS, ignore_errors=True)
    pipeline = create_pipeline(
        recipe,
        recipe_file=recipe_file,
        recipe_module=recipe_module,
        data_paths=data_paths,
        output_dir=output_dir,
        enable_cache=enable_cache,
        beam_pipeline_args=list(BEAM_ARGS),
    )
    on_components([component.id for component in pipeline.components])
    LocalDagRunner().run(pipeline)


@contextmanager
def _importing() -> Iterator[None]:
    """Looks for no garbage meanwhile: modules are none, and going through them takes a second."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _claimed(output_dir: Path) -> Iterator[None]:
    """Makes the output directory and keeps other runs out of it."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(output_dir / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise RecipeError(
            f"cannot write to --output {output_dir}: {error.strerror or error}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RecipeError(f"another run is writing to --output {output_dir}") from None
    finally:
        os.close(lock)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
