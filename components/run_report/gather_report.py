"""Gathers what the components of a run say about it into one plain dict."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from branchline.components.files.storage import exists, read_json
from branchline.components.run_report.read_evaluation import read_evaluation
from branchline.components.run_report.word_labels import word_labels
from branchline.schemas.splits import EVAL, TEST, TRAIN

Counts = Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """The URIs of the artifacts that a report reads; None for one that it was not given."""

    evaluation: str | None = None
    blessing: str | None = None
    example_quarantine: str | None = None
    router_quarantine: str | None = None
    anomalies: str | None = None
    model_run: str | None = None


def gather_report(sources: Sources, recipe: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Reads everything that is said about a run.

    Args:
        sources: Where.
        recipe: As `json.loads(to_json(recipe))`; None when the pipeline has none.

    Returns:
        `recipe` (name or None), `blessed` (None without a blessing), `baseline`, `records` (`in`,
        `train`, `eval`, any further splits, `quarantined`), `samples` of quarantined records,
        `problems` (a sentence each, such as counts that do not add up), `checks` (route, metric,
        bound, value, holds), `anomalies` (split → route → examples, anomalies), `history`
        (its `warnings` are sentences),
        `routes` (name → labels, features, train, eval, examples, metrics, baseline, confusion and
        by_class and weight as in `evaluation.json`, note), `test`
        (route → examples, metrics, by_class, note, of the last evaluation; empty where there was
        none), and `missing`: which of these the report was not given.
    """
    evaluation = read_evaluation(sources.evaluation) if sources.evaluation else None
    examples = _read(sources.example_quarantine, "counts.json")
    router = _read(sources.router_quarantine, "counts.json")
    anomalies = _read(sources.anomalies, "anomalies.json")
    history = _read(sources.model_run, "history.json")
    declared = {
        route["name"]: route for route in (recipe or {}).get("routing", {}).get("routes", [])
    }
    evaluated = None if evaluation is None else evaluation["routes"]
    rows = (router or {}).get("out")
    routes = {
        name: _route(declared.get(name, {}), evaluated, rows, name)
        for name in _names(declared, evaluated, rows)
    }
    said = {
        "evaluation": evaluation,
        "blessing": sources.blessing,
        "records": examples or router,
        "routing": router,
        "anomalies": anomalies,
        "training": history,
        "recipe": recipe,
    }
    return {
        "recipe": (recipe or {}).get("name"),
        "blessed": exists(os.path.join(sources.blessing, "BLESSED")) if sources.blessing else None,
        "baseline": (evaluation or {}).get("baseline"),
        "records": _records(examples, router),
        "samples": _samples(examples, router),
        "problems": [*_unbalanced(examples, router), *_unevaluated(routes, evaluation, rows)],
        "checks": [c for name, route in (evaluated or {}).items() for c in _checks(name, route)],
        "anomalies": (anomalies or {}).get("splits", {}),
        "history": history or {},
        "routes": routes,
        "test": (evaluation or {}).get("test", {}),
        "missing": sorted(what for what, found in said.items() if not found),
    }


def to_metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a report that programs rely on: the content of `metrics.json`.

    `weighted_by` has, for each route with a weight, the key by which its metrics are weighted.
    """
    weights = {name: of["weight"] for name, of in report["routes"].items() if of["weight"]}
    return {
        "recipe": report["recipe"],
        "blessed": report["blessed"],
        "routes": _figures(report["routes"]),
        "records": report["records"],
        **({"weighted_by": weights} if weights else {}),
        **({"test": _figures(report["test"])} if report["test"] else {}),
    }


def _figures(routes: Counts) -> dict[str, dict[str, Any]]:
    return {
        name: {"examples": of["examples"]} | of["metrics"] | _of_classes(of)
        for name, of in routes.items()
    }


def _of_classes(route: Counts) -> dict[str, Any]:
    """The metrics of single classes.

    >>> table = {"topics": {"sports": {"positives": 3, "auc": 0.9}}}
    >>> _of_classes({"metrics": {"auc": 0.8}, "by_class": table})
    {'positives[sports]': 3, 'auc[sports]': 0.9}
    >>> list(_of_classes({"metrics": {"topics/auc": 0.8}, "by_class": table}))
    ['topics/positives[sports]', 'topics/auc[sports]']
    """
    return {
        (f"{key}/" if f"{key}/auc" in route["metrics"] else "") + f"{figure}[{name}]": value
        for key, table in route.get("by_class", {}).items()
        for name, figures in table.items()
        for figure, value in figures.items()
    }


def _read(uri: str | None, name: str) -> Any:
    path = os.path.join(uri, name) if uri else None
    return read_json(path) if path and exists(path) else None


def _names(declared: Counts, evaluated: Counts | None, rows: Counts | None) -> list[str]:
    routed = [name for by_route in (rows or {}).values() for name in by_route]
    return list(dict.fromkeys([*declared, *(evaluated or {}), *routed]))


def _route(
    declared: Counts, evaluated: Counts | None, rows: Counts | None, name: str
) -> dict[str, Any]:
    found = (evaluated or {}).get(name, {"examples": None if evaluated is None else 0})
    return {
        "labels": word_labels(declared),
        "features": {key: kind["type"] for key, kind in declared.get("features", [])},
        **{split: _rows(rows, split, name) for split in (TRAIN, EVAL)},
        "examples": found["examples"],
        "metrics": found.get("metrics") or {},
        "baseline": found.get("baseline") or {},
        "confusion": found.get("confusion") or {},
        "by_class": found.get("by_class") or {},
        "weight": found.get("weight"),
        "note": found.get("note"),
    }


def _rows(rows: Counts | None, split: str, route: str) -> int | None:
    return rows[split].get(route, 0) if rows and split in rows else None


def _records(examples: Counts | None, router: Counts | None) -> dict[str, Any]:
    first, last = examples or router or {}, router or examples or {}
    quarantined: Counter[str] = Counter()
    for counts in (examples, router):
        quarantined.update((counts or {}).get("quarantined", {}))
    out = last.get("out", {})
    rows = {TRAIN: None, EVAL: None} | {split: _total(each) for split, each in out.items()}
    return {"in": first.get("in")} | rows | {"quarantined": dict(sorted(quarantined.items()))}


def _total(out: Any) -> int:
    """All examples of `counts["out"]`, or of a part of it.

    >>> _total({"train": 4, "eval": 1}), _total({"train": {"text": 3, "scan": 1}})
    (5, 4)
    """
    return sum(map(_total, out.values())) if isinstance(out, Mapping) else out


def _samples(examples: Counts | None, router: Counts | None) -> dict[str, list[Any]]:
    merged: dict[str, list[Any]] = {}
    for counts in (examples, router):
        for reason, samples in (counts or {}).get("samples", {}).items():
            merged.setdefault(reason, []).extend(samples)
    return merged


def _unbalanced(examples: Counts | None, router: Counts | None) -> list[str]:
    problems = []
    for step, counts in (("reading", examples), ("routing", router)):
        if counts is None or "out" not in counts:
            continue
        out, aside = _total(counts["out"]), sum(counts["quarantined"].values())
        if out + aside != counts["in"]:
            problems.append(
                f"{counts['in'] - out - aside} of {counts['in']} records are unaccounted for after "
                f"{step}: {out} examples out + {aside} quarantined"
            )
    read = _total(examples["out"]) if examples and "out" in examples else None
    if router and read not in (None, router["in"]):
        problems.append(f"reading put out {read} examples, but routing took in {router['in']}")
    return problems


def _unevaluated(routes: Counts, evaluation: Counts | None, rows: Counts | None) -> list[str]:
    by_split = {EVAL: routes, TEST: (evaluation or {}).get("test", {})}
    numbers = [
        (name, split, _rows(rows, split, name), route["examples"])
        for split, evaluated in by_split.items()
        for name, route in evaluated.items()
        if route["examples"] or not route.get("note")  # which says why it was not evaluated
    ]
    return [
        f"route {name} has {there} {split} examples, but {evaluated} were evaluated"
        for name, split, there, evaluated in numbers
        if None not in (there, evaluated) and there != evaluated
    ]


def _checks(name: str, route: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "route": name,
            "metric": check["metric"],
            "kind": check["kind"],
            "bound": _bound(check.get("least"), check.get("greatest")),
            "value": check["value"],
            "holds": check["holds"],
        }
        for check in route.get("checks", [])
    ]


def _bound(least: float | None, greatest: float | None) -> str:
    """Words a bound.

    >>> _bound(0.9, None), _bound(None, 2.0), _bound(0.1, 0.2)
    ('≥ 0.9', '≤ 2', '0.1 to 0.2')
    """
    # Without either it says that a value has to be a finite number.
    if least is not None and greatest is not None:
        return f"{least:.4g} to {greatest:.4g}"
    if greatest is not None:
        return f"≤ {greatest:.4g}"
    return f"≥ {least:.4g}" if least is not None else "a finite number"
