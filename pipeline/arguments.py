"""Reads the command line of run_local.py; imports nothing heavy."""

import argparse
from typing import NoReturn

_EXAMPLES = """\
examples:
  python run_local.py                                   the default recipe on its real data
  python run_local.py --list                            the built-in recipes
  python run_local.py --recipe my/support.py --data my/records/
  python run_local.py --set training.steps=500 --set thresholds.text.auc=0.9
  python run_local.py --set training.routes.text='{"optimizer": "sgd"}'
  python run_local.py --resume                          after an interruption in training
  python run_local.py --data 'my/day-{SPAN}' --set spans=7      the seven newest spans
  python run_local.py --set-aside mended/               what was quarantined, to be mended

under --output:
  report.html, metrics.json      what the run came to, for people and for programs
  serving/<recipe>/<version>/    the model, if it was blessed
  run.log                        all that the libraries said
  pipeline/, metadata.sqlite     the artifacts of all runs and where each comes from

exit codes:
  0 ran   1 failed   2 wrong arguments, recipe or data path   3 --require-blessing, and not blessed
"""


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments, and exits with code 2."""

    def error(self, message: str) -> NoReturn:  # noqa: D102
        self.exit(2, f"{self.prog}: error: {message} (--help explains)\n")


def read_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The options of run_local.py; exits with code 2 and one line where they are wrong."""
    parser = Parser(
        prog="run_local",
        description="Runs a recipe on this machine: from raw mixed records to a blessed model.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--recipe",
        default="mixed",
        metavar="NAME|FILE.py",
        help="a built-in recipe, or a file that defines one (default: mixed)",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        action="extend",
        metavar="PATH",
        help="files and folders of records, instead of the recipe's own data; {SPAN}, {VERSION} "
        "and {YYYY}{MM}{DD} in a path stand for the newest",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="where everything is written (default: runs/<recipe>)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="FIELD=VALUE",
        help="changes a field of the recipe by its dotted name; the value is JSON or a string",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="training goes on from the last checkpoint of an interrupted run",
    )
    parser.add_argument(
        "--no-cache", action="store_true", help="runs every component, also what has not changed"
    )
    parser.add_argument(
        "--require-blessing",
        action="store_true",
        help="exit code 3 when the model is not blessed",
    )
    parser.add_argument(
        "--set-aside",
        metavar="FOLDER",
        help="runs nothing: writes what the latest run under --output quarantined into FOLDER, as "
        "files of records to be mended and given to --data; {SPAN} in it stands for the next one",
    )
    parser.add_argument("--list", action="store_true", help="lists the built-in recipes")
    return parser.parse_args(argv)
