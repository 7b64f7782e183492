"""Prints what a run came to: a table of the routes, and where everything is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from branchline.components.run_report.wording import number


def print_summary(
    console: Console, report: Mapping[str, Any], places: Mapping[str, Path | None]
) -> None:
    """Prints a table per route and where things are.

    Args:
        console: Where to.
        report: As `branchline.components.run_report` gathers it.
        places: What → where it lies; None is left out.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("route")
    table.add_column("train", justify="right")
    table.add_column("eval", justify="right")
    table.add_column("metrics", overflow="fold")
    if report["test"]:
        table.add_column("test", overflow="fold")
    for name, route in report["routes"].items():
        of_test = [_of_test(report["test"].get(name))] if report["test"] else []
        counts = map(number, (route["train"], route["eval"]))
        table.add_row(name, *counts, _metrics(name, route, report), *of_test)
    console.print()
    console.print(table)
    for problem in report["problems"]:
        console.print(Text(f"warning: {problem}", style="yellow"), soft_wrap=True)
    console.print()
    console.print(_verdict(report), soft_wrap=True)
    for what, path in places.items():
        if path is not None:
            console.print(Text.assemble((f"{what:<8}", "dim"), str(path)), soft_wrap=True)


def _metrics(name: str, route: Mapping[str, Any], report: Mapping[str, Any]) -> Text:
    text = Text()
    for metric, value in route["metrics"].items():
        checks = [c for c in report["checks"] if (c["route"], c["metric"]) == (name, metric)]
        missed = any(not check["holds"] for check in checks)
        text.append("  " if text else "")
        text.append(f"{metric} {number(value)}", style="bold red" if missed else "")
        for check in checks:
            style = "green" if check["holds"] else "bold red"
            text.append(f" {'✓' if check['holds'] else '✗'} {check['bound']}", style=style)
    if route.get("note"):
        text.append(f"{'  ' if text else ''}{route['note']}", style="yellow")
    return text


def _of_test(route: Mapping[str, Any] | None) -> Text:
    """What the last evaluation found; no threshold looks at it."""
    if route is None:
        return Text("–")
    if not route["examples"]:
        return Text(route["note"] or "–", style="yellow")
    figures = (f"{metric} {number(value)}" for metric, value in route["metrics"].items())
    return Text("  ".join([f"{number(route['examples'])}:", *figures]))


def _verdict(report: Mapping[str, Any]) -> Text:
    set_aside = sum(report["records"]["quarantined"].values())
    told = f"; {number(report['records']['in'])} records in, {number(set_aside)} quarantined"
    if report["blessed"]:
        return Text.assemble(("blessed", "bold green"), told)
    missed = sum(not check["holds"] for check in report["checks"])
    why = f" ({missed} of {len(report['checks'])} checks missed)" if missed else ""
    return Text.assemble(("not blessed", "bold red"), why, told)
