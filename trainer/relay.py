"""The relay: the child process that speaks with a worker's other hosts through `jax.distributed`, and nothing else.

Rule: it has a network and no secret, and never looks into what it carries; engines have it the other way round. It is a
process of its own because JAX ends every process of a cluster when one of them is lost.
`python -m trainer.relay FOLDER COORDINATOR PROCESSES ID DEVICE[,DEVICE…] LANE…`: on process 0 each lane leads to a
device of another host, on the others to one of this host's. The first lane says which devices the lanes lead to.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from trainer import confinement, wire
from trainer.lanes import Lane, in_a_thread

# Each side begins on its own, and whoever is there first waits.
JOIN_SECONDS = 60
# A host that is silent for so long is lost, and with it the cluster, which forms anew: no longer than the shortest
# phase of a round. A process whose parent has ended says so.
HEARTBEAT_SECONDS = 10
# Where nothing is asked for so long, it is waited for again.
IDLE_SECONDS = 300


class Store:
    """The key-value store of the cluster: its coordinator keeps what one process writes until another has read it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def put(self, key: str, data: bytes) -> None:
        """Write, for one reader."""
        self._client.key_value_set_bytes(key, data)

    def take(self, key: str, seconds: float) -> bytes | None:
        """Wait for what is written under a key, and remove it; None when nothing is for so long."""
        try:
            data: bytes = self._client.blocking_key_value_get_bytes(key, int(seconds * 1000))
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error):
                return None
            raise
        self._client.key_value_delete(key)
        return data


def main() -> None:
    """Carry messages until the parent ends, or the cluster does."""
    folder, coordinator, processes, number, devices, *sockets = sys.argv[1:]
    parent = os.getppid()
    missing = confinement.confine_relay(Path(folder))
    joined: list[Store] = []
    confinement.watch_parent(parent, last_words=lambda: joined[0].put(f"left/{number}", b""))
    lanes = [Lane(int(each)) for each in sockets]
    lanes[0].send({"missing": missing})

    store = _join(coordinator, int(processes), int(number))
    joined.append(store)
    if number == "0":
        for other in range(1, int(processes)):
            in_a_thread(partial(_end_with, store, f"left/{other}"))
        _lead(store, lanes, int(processes))
    else:
        store.put(f"devices/{number}", devices.encode())
        lanes[0].send({"ok": True, "devices": devices.split(",")})
        for index, lane in enumerate(lanes[1:], start=1):
            in_a_thread(partial(_follow, store, lane, f"{number}/{index}"))
        _follow(store, lanes[0], f"{number}/0")


def _join(coordinator: str, processes: int, number: int) -> Store:
    import jax
    from jax._src import distributed  # The store has no public name; JAX's own checkpoint libraries use this one.

    jax.config.update("jax_platforms", "cpu")  # type: ignore[no-untyped-call]
    jax.distributed.initialize(
        coordinator,
        processes,
        number,
        initialization_timeout=JOIN_SECONDS,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        # Never on every interface, which is what JAX does unless told.
        coordinator_bind_address=coordinator,
    )
    return Store(distributed.global_state.client)


def _lead(store: Store, lanes: list[Lane], processes: int) -> None:
    places: list[str] = []
    names: list[str] = []
    for number in range(1, processes):
        found = store.take(f"devices/{number}", JOIN_SECONDS)
        if found is None:
            raise TimeoutError(f"process {number} said nothing of its devices for {JOIN_SECONDS} s")
        names += found.decode().split(",")
        places += [f"{number}/{index}" for index in range(len(found.decode().split(",")))]
    places = places[: len(lanes)]
    lanes[0].send({"ok": True, "devices": names[: len(lanes)]})
    for lane in lanes[len(places) :]:
        lane.close()
    for lane, place in zip(lanes[1:], places[1:], strict=False):
        in_a_thread(partial(_ask, store, lane, place))
    _ask(store, lanes[0], places[0])


def _end_with(store: Store, key: str) -> None:
    """End when another process has: who waits for it shall not have to wait for its heartbeat."""
    while store.take(key, IDLE_SECONDS) is None:
        pass
    raise EOFError(f"{key}: a process of this cluster ended")


def _ask(store: Store, lane: Lane, place: str) -> None:
    """Carry questions to a device of another host, and its answers back."""
    turn = 0
    while (body := lane.read()) is not None:
        store.put(f"asked/{place}/{turn}", body)
        answer = store.take(f"answered/{place}/{turn}", float(wire.parse(body)["seconds"]))
        if answer is None:
            raise TimeoutError(f"{place} did not answer in time")
        lane.send(wire.parse(answer))
        turn += 1


def _follow(store: Store, lane: Lane, place: str) -> None:
    """Carry what process 0 asks of a device of this host to the parent, and its answers back."""
    turn = 0
    while True:
        body = store.take(f"asked/{place}/{turn}", IDLE_SECONDS)
        if body is None:
            continue
        lane.send(wire.parse(body))
        answer = lane.read()
        if answer is None:
            return
        store.put(f"answered/{place}/{turn}", answer)
        turn += 1


if __name__ == "__main__":
    main()
