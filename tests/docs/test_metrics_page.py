"""The reference of metrics is what the code declares, and the alerts and the dashboard ask for what nodes export.

After a change of the metrics: `python -m tests.docs.test_metrics_page --rewrite`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chain.log import LEVELS, PARTS
from chain.metrics.metric import Kind, Metric
from chain.metrics.node import DECLARED, catalogue
from tests.chain.test_cli import running_node
from tests.docs.pages import commands
from tests.ports import free_port
from tests.scrape import scraped
from trainer.metrics import Meter

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "metrics.md"
ALERTS = ROOT / "docs" / "operate" / "alerts.yml"
GRAFANA = ROOT / "docs" / "operate" / "grafana.json"
MONITORING = ROOT / "docs" / "operate" / "monitoring.md"
ALERTS_TEST = Path(__file__).parent / "data" / "alerts_test.yml"

# Of the process itself, by the client library.
PROCESS = {
    "process_cpu_seconds_total": "CPU time of the process, in seconds.",
    "process_resident_memory_bytes": "Memory that it has.",
    "process_virtual_memory_bytes": "Address space that it has, with the whole map of the database.",
    "process_open_fds": "Files and sockets that it has open.",
    "process_max_fds": "How many it may have open.",
    "process_start_time_seconds": "When it began, in seconds since 1970.",
}
HEAD = """# Metrics

What a node answers at `http://127.0.0.1:9615/metrics`, and a worker, auditor or aggregator at its `--prometheus-port`.
Names that begin with `substrate_` are Substrate's and mean what they mean there; Substrate's metrics of caches have no
counterpart, since the database has none but the system's. How to collect them, and what to do about them:
[monitoring](operate/monitoring.md).

This page is written by `python -m tests.docs.test_metrics_page --rewrite` from what the code declares.
"""


def table(metrics: list[Metric]) -> str:
    rows = [f"| `{each.name}` | {each.kind} | {', '.join(each.labels)} | {each.about} |" for each in metrics]
    return "\n".join(["| metric | kind | labels | what it says |", "|---|---|---|---|", *rows]) + "\n"


def declared(part: Any) -> list[Metric]:
    return [each for each in vars(part).values() if isinstance(each, Metric)]


def of_role(role: str) -> list[Metric]:
    """What the registry of a worker, auditor or aggregator has."""
    meter, found = Meter(role), []
    for family in meter.registry.collect():
        kind = Kind.GAUGE if family.type == "info" else Kind(family.type)
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = tuple(getattr(meter.registry._names_to_collectors[family.name], "_labelnames", ()))
        found.append(Metric(name, kind, family.documentation, labels))
    return found


def parts_table() -> str:
    """The parts of the log, as the page on monitoring has them."""
    return "\n".join(f"| `{part}` | {about} |" for part, about in PARTS.items())


def page() -> str:
    parts = [HEAD]
    for part in DECLARED:
        assert part.__doc__ is not None
        title = part.__doc__.splitlines()[0].removeprefix("Metrics of ").rstrip(".")
        parts.append(f"## {title[0].upper()}{title[1:]}\n\n{table(declared(part))}")
    process = [
        Metric(name, Kind.COUNTER if name.endswith("_total") else Kind.GAUGE, about) for name, about in PROCESS.items()
    ]
    parts.append(f"## The process, as every program of Prometheus's client has it\n\n{table(process)}")
    parts.append(
        "## Workers, auditors and aggregators\n\nWith `potchain_auditor_` or `potchain_aggregator_` in place of "
        f"`potchain_worker_` for those.\n\n{table(of_role('worker'))}"
    )
    return "\n".join(parts)


def test_the_page_of_metrics_is_what_the_code_declares() -> None:
    assert PAGE.read_text() == page(), "python -m tests.docs.test_metrics_page --rewrite"


WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def names_in(expression: str) -> set[str]:
    """The metrics that an expression asks for: its words that are neither functions nor labels nor strings."""
    bare = re.sub(r'"(\\.|[^"\\])*"', "", expression)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    bare = re.sub(r"\b(by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)", "", bare)
    return {word for word in WORD.findall(bare) if "_" in word and f"{word}(" not in bare.replace(" ", "")}


def expressions() -> dict[str, str]:
    """What the alerts and the panels of the dashboard ask for, by where."""
    found = {}
    rule = None
    text = re.sub(
        r">-\n\s+((?:.+\n)+?)(?=\s+(?:for|labels):)", lambda m: " ".join(m[1].split()) + "\n", ALERTS.read_text()
    )
    for line in text.splitlines():
        if match := re.match(r"\s+- alert: (\w+)", line):
            rule = match[1]
        elif match := re.match(r"\s+expr: (.+)", line):
            found[f"alert {rule}"] = match[1]
    for panel in json.loads(GRAFANA.read_text())["panels"]:
        for target in panel.get("targets", ()):
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    return found


def test_alerts_and_dashboard_ask_for_what_a_node_exports_and_nothing_else(tmp_path: Path) -> None:
    port = free_port()
    with running_node(tmp_path, "--validator=alice", "--bootnode=127.0.0.1:1", f"--prometheus-port={port}"):
        exported = {name for name, _ in scraped(port)}
        (command,) = commands("docs/operate/monitoring.md", "Metrics")
        seen = subprocess.check_output(command.replace(":9615", f":{port}"), shell=True, text=True)
        assert re.search(r'^substrate_block_height\{status="best"\} 0', seen, re.MULTILINE), seen
    # What is counted by labels is there once it has happened; that a node does export it, its declaration says.
    counted = {f"{each.name}{end}" for each in catalogue() if each.labels for end in ("", "_bucket", "_sum", "_count")}
    asked = {where: names_in(expression) - {"up"} for where, expression in expressions().items()}
    assert len([where for where in asked if where.startswith("alert")]) >= 14
    assert all(names or where == "alert NodeDown" for where, names in asked.items())
    assert {where: names - exported - counted for where, names in asked.items() if names - exported - counted} == {}
    assert set(PROCESS) <= exported


def test_an_expression_is_searched_for_its_metrics_alone() -> None:
    expression = 'sum by (le, kind) (rate(a_b_bucket{x="c_d"}[5m])) > on (instance) group_left () e_f and abs(g_h)'
    assert names_in(expression) == {"a_b_bucket", "e_f", "g_h"}


def test_the_dashboard_has_each_of_its_panels_in_a_place_of_its_own() -> None:
    dashboard = json.loads(GRAFANA.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert all(target["datasource"]["uid"] == "${datasource}" for each in panels for target in each.get("targets", ()))


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus's tool; CI has it."""
    found = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if found is None:
        assert os.environ.get("CI") != "true", "CI needs promtool: apt-get install prometheus, or set PROMTOOL"
        pytest.skip("no promtool in PATH or PROMTOOL")
    return found


@pytest.mark.parametrize("words", [("check", "rules", ALERTS), ("test", "rules", ALERTS_TEST)])
def test_prometheus_takes_the_alert_rules_and_they_do_what_they_say(
    promtool: str, words: tuple[str | Path, ...]
) -> None:
    done = subprocess.run([promtool, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_prometheus_can_read_what_panels_ask_for(promtool: str, tmp_path: Path) -> None:
    panels = {where: text for where, text in expressions().items() if where.startswith("panel")}
    rules = [
        {"record": f"panel:{number}", "expr": text.replace("$instance", ".*")}
        for number, text in enumerate(panels.values())
    ]
    file = tmp_path / "rules.yml"  # JSON is YAML, too.
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_on_monitoring_names_the_parts_and_levels_of_the_log_and_every_alert() -> None:
    text = MONITORING.read_text()
    assert f"| part | what it says |\n|---|---|\n{parts_table()}\n\n" in text
    assert all(f"`{level}`" in text for level in LEVELS)
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    assert all(f"`{alert}`" in text for alert in alerts)


if __name__ == "__main__":
    assert sys.argv[1:] == ["--rewrite"], "expected --rewrite"
    PAGE.write_text(page())
