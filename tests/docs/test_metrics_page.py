"""The alerts and the dashboard ask for what nodes export, and the page on monitoring names what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from chain.log import LEVELS, PARTS
from chain.metrics.node import catalogue
from scripts.reference import PROCESS
from tests.chain.test_cli import running_node
from tests.docs.pages import commands
from tests.ports import free_port
from tests.scrape import scraped

ROOT = Path(__file__).resolve().parent.parent.parent
ALERTS = ROOT / "docs" / "operate" / "alerts.yml"
GRAFANA = ROOT / "docs" / "operate" / "grafana.json"
MONITORING = ROOT / "docs" / "operate" / "monitoring.md"
ALERTS_TEST = Path(__file__).parent / "data" / "alerts_test.yml"


def parts_table() -> str:
    """The parts of the log, as the page on monitoring has them."""
    return "\n".join(f"| `{part}` | {about} |" for part, about in PARTS.items())


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
