"""The dashboard and the alerts load, and use what a worker exports; the reference has just that."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hotqueue.histogram import BOUNDS_S
from hotqueue.worker.book import Book
from hotqueue.worker.metrics import BROKEN_OFF, CAUSES, STATES, Metrics
from hotqueue.worker.tally import OUTCOMES
from tests.support.transcript import Page

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "examples/grafana_dashboard.json").read_text(encoding="utf-8"))
HOW_TO = Page(ROOT / "docs/how-to/metrics.md")
REFERENCE = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
LABELS = {
    "hotqueue_messages": {"queue", "handler", "outcome"},
    "hotqueue_handler_seconds": {"queue", "handler", "le"},
    "hotqueue_wait_seconds": {"queue", "handler", "le"},
    "hotqueue_queue_messages": {"queue", "state"},
    "hotqueue_oldest_seconds": {"queue", "state"},
    "hotqueue_children": {"state"},
    "hotqueue_child_exits": {"cause"},
}
VALUES = {
    "outcome": {*OUTCOMES, *BROKEN_OFF},
    "state": {*STATES, "waiting", "in_flight", "delayed", "dead"},
    "cause": set(CAUSES),
}


def exported() -> dict[str, str]:
    """Every name that a scrape may have, and that of its family."""
    metrics = Metrics(Book())
    metrics.update({"children": [], "turned_s": time.monotonic()}, None)
    return {f"{each.name}{end}": each.name for each in metrics.collect() for end in SUFFIXES[each.type]}


def expressions() -> Iterator[str]:
    """All PromQL there is."""
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (rule["expr"] for rule in alerts())
    yield from re.findall(r"\| `(.*hotqueue_.*)` \|", HOW_TO.text)


def alerts() -> list[dict[str, Any]]:
    (rules,) = (block for block in HOW_TO.blocks("yaml") if block.startswith("# alerts.yml"))
    return [rule for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]


def test_a_worker_exports_the_families_that_are_promised() -> None:
    assert set(exported().values()) == LABELS.keys()


def test_all_promql_names_what_is_exported() -> None:
    found = list(expressions())
    assert len(found) > 20
    names = exported()
    for expression in found:
        used = set(re.findall(r"hotqueue_\w+", expression))
        assert used <= names.keys(), expression
        known = {label for name in used for label in LABELS[names[name]]} | {"instance", "job"}
        by = {word for words in re.findall(r"(?:by|on) \((.+?)\)", expression) for word in words.split(", ")}
        matched = re.findall(r'(\w+)(?:=|!=|=~)"(.*?)"', expression)
        assert by | {label for label, _ in matched} <= known, expression
        assert all(value in VALUES[label] for label, value in matched if label in VALUES), expression
        assert expression.count("(") == expression.count(")")


def test_what_every_worker_reports_of_a_queue_is_never_added_up() -> None:
    gauges = r"hotqueue_queue_messages|hotqueue_oldest_seconds"
    for expression in expressions():
        for _ in re.finditer(gauges, expression):
            assert re.search(r"max(?: by \(.+?\))? \(|max\(|unless on \(instance\)", expression), expression


def test_the_dashboard_can_be_imported() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = {
        (x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])
    }
    assert len(cells) == sum(place["w"] * place["h"] for place in places)  # none covers another
    assert max(x for x, _ in cells) == 23
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - {"__rate_interval"}
    assert used == {each["name"] for each in DASHBOARD["templating"]["list"]}


def test_all_yaml_of_the_page_is_yaml_and_each_alert_says_something() -> None:
    for block in HOW_TO.blocks("yaml"):
        assert isinstance(yaml.safe_load(block), dict)
    assert len({rule["alert"] for rule in alerts()}) == len(alerts()) >= 5


@pytest.mark.parametrize("label", VALUES)
def test_the_reference_has_every_value_of_a_label(label: str) -> None:
    assert {value for value in VALUES[label] if f"`{value}`" not in REFERENCE} <= {"exit code 1"}


def test_the_reference_has_every_name_with_its_labels_and_every_bound() -> None:
    rows = re.findall(r"^\| `(hotqueue_\w+)` \| (\w+) \| (.+?) \|", REFERENCE, re.MULTILINE)
    told = {name.removesuffix("_total"): set(re.findall(r"`(\w+)`", labels)) for name, _, labels in rows}
    assert told == {name: labels - {"le"} for name, labels in LABELS.items()}
    bounds = REFERENCE.partition("same bounds, in seconds: ")[2].partition(".\n")[0]
    assert [float(bound) for bound in bounds.split(", ")] == list(BOUNDS_S)
