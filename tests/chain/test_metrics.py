"""A node's metrics: what it exports, under which names, and that asking for them costs the node little."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import trio
import trio.lowlevel

from chain.cli_node import NodeFlags
from chain.metrics.metric import Kind, Metric, exposition
from chain.metrics.node import catalogue
from chain.metrics.process import LoopLag
from chain.metrics.server import FRESH_SECONDS, MetricsServer
from chain.primitives.spread import Spread
from tests.chain.test_cli import running_node
from tests.ports import free_port
from tests.scrape import Samples, read, scraped


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Samples]:
    """What a validator says that is alone, in a process of its own."""
    port, rpc_port = free_port(), free_port()
    base = tmp_path_factory.mktemp("node")
    words = ("--validator=alice", "--bootnode=127.0.0.1:1", f"--prometheus-port={port}", f"--rpc-port={rpc_port}")
    with running_node(base, *words):
        for method in ("system_name", "system_name", "a stranger's\ntext"):
            call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": []}
            httpx.post(f"http://127.0.0.1:{rpc_port}", json=call, trust_env=False)
        httpx.post(
            f"http://127.0.0.1:{rpc_port}", json={**call, "method": "author_submitExtrinsic", "params": ["0x00"]}
        )
        yield scraped(port)


def families(samples: Samples) -> set[str]:
    """The names of the metrics that samples are of."""
    known = {each.name: each for each in catalogue()}
    found = set()
    for name, _ in samples:
        stem = name.rpartition("_")[0]
        found.add(stem if name not in known and stem in known and known[stem].kind is Kind.HISTOGRAM else name)
    return found


def test_a_node_exports_what_is_declared_and_what_its_process_is_known_by(scrape: Samples) -> None:
    exported = families(scrape)
    declared = {each.name for each in catalogue()}
    assert len(declared) == len(catalogue())
    assert {name for name in exported if not name.startswith("process_")} <= declared
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= exported
    assert all(each.about.endswith(".") and each.name.startswith(("substrate_", "potchain_")) for each in catalogue())


def test_a_node_says_how_high_its_chain_is_in_substrates_words(scrape: Samples) -> None:
    heights = {status: ("substrate_block_height", frozenset({("status", status)})) for status in ("best", "finalized")}
    assert [scrape[key] for key in heights.values()] == [0, 0]
    assert scrape["substrate_node_roles", frozenset()] == 4
    assert scrape["substrate_ready_transactions_number", frozenset()] == 0
    assert scrape["substrate_sub_libp2p_peers_count", frozenset()] == 0


def test_calls_are_counted_by_method_and_what_is_none_under_no_name_of_a_strangers(scrape: Samples) -> None:
    started = {
        dict(labels)["method"]: value
        for (name, labels), value in scrape.items()
        if name == "substrate_rpc_calls_started"
    }
    assert started == {"system_name": 2, "unknown": 1, "author_submitExtrinsic": 1}
    finished = {
        (dict(labels)["method"], dict(labels)["is_error"]): value
        for (name, labels), value in scrape.items()
        if name == "substrate_rpc_calls_finished"
    }
    assert finished == {
        ("system_name", "false"): 2,
        ("unknown", "true"): 1,
        ("author_submitExtrinsic", "true"): 1,
    }
    assert scrape["potchain_pool_refused_total", frozenset({("reason", "call")})] == 1


def test_a_database_has_something_in_most_of_its_file_when_it_is_new(scrape: Samples) -> None:
    file, live = (scrape[f"potchain_database_{which}_bytes", frozenset()] for which in ("file", "live"))
    assert 0 < live <= file < scrape["potchain_database_map_bytes", frozenset()]


def test_a_histogram_counts_up_to_each_bound_as_prometheus_has_it() -> None:
    spread = Spread((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        spread.add(value)
    metric = Metric("potchain_x_seconds", Kind.HISTOGRAM, "X.", ("of",))
    samples = read(exposition([metric.spread({("this",): spread})]))
    buckets = {dict(labels)["le"]: value for (name, labels), value in samples.items() if name.endswith("_bucket")}
    assert buckets == {"0.1": 2, "1.0": 3, "+Inf": 4}
    assert samples["potchain_x_seconds_sum", frozenset({("of", "this")})] == pytest.approx(7.65)
    assert samples["potchain_x_seconds_count", frozenset({("of", "this")})] == 4


def test_counters_keep_their_full_names_with_and_without_total() -> None:
    text = exposition(
        [
            Metric("potchain_a_total", Kind.COUNTER, "A.").of(3),
            Metric("substrate_rpc_calls_started", Kind.UNTYPED, "B.", ("method",)).each({("x",): 2}),
        ]
    )
    assert text.decode().splitlines() == [
        "# HELP potchain_a_total A.",
        "# TYPE potchain_a_total counter",
        "potchain_a_total 3.0",
        "# HELP substrate_rpc_calls_started B.",
        "# TYPE substrate_rpc_calls_started untyped",
        'substrate_rpc_calls_started{method="x"} 2.0',
    ]


async def test_however_many_ask_one_scrape_is_made_at_a_time_and_lasts_a_moment(
    nursery: trio.Nursery,
) -> None:
    made = 0

    async def scrape() -> bytes:
        nonlocal made
        made += 1
        await trio.lowlevel.checkpoint()
        return b"made %d\n" % made

    port = await nursery.start(MetricsServer("127.0.0.1", 0, scrape).run)
    started = trio.current_time()
    answers: list[str] = []

    async def ask() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            answers.append((await client.get(f"http://127.0.0.1:{port}/metrics")).text)

    with trio.fail_after(60):
        async with trio.open_nursery() as crowd:
            for _ in range(8):
                crowd.start_soon(ask)
    assert len(answers) == 8
    assert made <= 1 + (trio.current_time() - started) / FRESH_SECONDS
    nursery.cancel_scope.cancel()


async def test_a_loop_that_is_held_is_seen_to_lag(autojump_clock: trio.testing.MockClock) -> None:
    lag = LoopLag()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.run)
        await trio.sleep(0.05)
        autojump_clock.jump(2.0)  # what no task of the loop could use
        await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    assert lag.spread.count == 1
    assert lag.spread.total == pytest.approx(1.95)


def test_prometheus_asks_at_substrates_port_of_this_machine_unless_told_otherwise() -> None:
    assert NodeFlags().metrics(None, offset=2) == ("127.0.0.1", 9617)
    assert NodeFlags(prometheus_external=True).metrics(9700, offset=2) == ("0.0.0.0", 9700)
    assert NodeFlags(no_prometheus=True).metrics(None) is None
