"""Ports of tests: suites and their workers run beside each other, and their nodes never meet on a port."""

from __future__ import annotations

import socket
import subprocess
import sys
from itertools import pairwise

import pytest

from tests import ports
from tests.ports import BLOCK_PORTS, NETWORK_NODES, free_port, free_ports

MANY = BLOCK_PORTS // NETWORK_NODES // 2  # leaves room for ports that others have taken meanwhile


@pytest.fixture(autouse=True)
def at_the_start_of_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_given", 0)


def test_no_port_is_handed_out_twice_in_a_row_nor_in_the_way_of_a_network() -> None:
    given = [free_port() for _ in range(MANY)]
    assert all(later - port >= NETWORK_NODES for port, later in pairwise(given))


def test_a_port_that_somebody_listens_on_is_passed_over() -> None:
    first = free_ports(3)
    with socket.create_server(("127.0.0.1", first + 4)):
        later = free_ports(3)
    assert later > first + 4 or later + 2 < first


def test_processes_beside_each_other_have_no_port_in_common() -> None:
    script = f"from tests.ports import free_ports; print(free_ports({MANY}), flush=True); input()"
    begun = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    firsts = [free_ports(MANY)]
    for process in begun:
        assert process.stdout is not None
        firsts.append(int(process.stdout.readline()))
    for process in begun:
        process.communicate("\n")
    ranges = [range(first, first + MANY) for first in firsts]
    assert len({port for each in ranges for port in each}) == MANY * len(ranges)
