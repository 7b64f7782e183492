"""Writes a gathered report as a page for people and as JSON for programs."""

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

import branchline
from branchline.components.files.storage import write_bytes
from branchline.components.run_report.draw_curves import HEIGHT, WIDTH, draw_curve
from branchline.components.run_report.gather_report import to_metrics
from branchline.components.run_report.wording import duration, number

_PACKAGES = (
    "tfx",
    "tensorflow",
    "keras",
    "tensorflow-transform",
    "tensorflow-data-validation",
    "tensorflow-model-analysis",
    "apache-beam",
)


def write_report(report: Mapping[str, Any], folder: str) -> None:
    """Writes `report.html`, `metrics.json` and `report.json` into a folder, local or remote.

    Args:
        report: As `gather_report` makes it.
        folder: Where to.
    """
    files = {
        "report.json": _json(report),
        "metrics.json": _json(to_metrics(report)),
        "report.html": render_page(report, versions()),
    }
    for name, text in files.items():
        write_bytes(os.path.join(folder, name), text.encode(errors="backslashreplace"))


def render_page(report: Mapping[str, Any], used: Mapping[str, str]) -> str:
    """The page, self-contained; all that comes from records is escaped.

    Args:
        report: As `gather_report` makes it.
        used: Name → version of what the run was made with.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, duration=duration, compact=_compact)
    trained = report["history"].get("routes", {})
    return environment.get_template("report.html.jinja").render(
        report=report,
        versions=used,
        curves={
            name: draw_curve(route.get("losses", []), len(trained))
            for name, route in trained.items()
        },
        size=(WIDTH, HEIGHT),
        metrics=_metric_rows(report),
    )


def versions() -> dict[str, str]:
    """Name → version of branchline, Python and the libraries a run depends on most."""
    found = {"branchline": branchline.__version__, "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _metric_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, route in report["routes"].items():
        checks = [check for check in report["checks"] if check["route"] == name]
        unreported = {
            c["metric"]: c["value"] for c in checks if c["metric"] not in route["metrics"]
        }
        of_test = report["test"].get(name, {}).get("metrics", {})
        for metric, value in (route["metrics"] | unreported).items():
            rows.append(
                {
                    "route": name,
                    "metric": metric,
                    "value": value,
                    "baseline": route["baseline"].get(metric),
                    "test": of_test.get(metric),
                    "checks": [check for check in checks if check["metric"] == metric],
                }
            )
    return rows


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _json(value: Any) -> str:
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
