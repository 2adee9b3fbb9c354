"""The engine: the child process that parses, compiles and runs programs, and does nothing else.

Rule: it is confined before it imports JAX or reads a byte; it answers each request with one frame or dies, and its
parent survives both. `python -m trainer.engine PLATFORM CACHE_DIR DEVICES LANE…`: each lane is an inherited socket on
which requests for one device come and their answers go; DEVICES is how many to use, 0 for all. Unasked, the first lane
says which protections this system does not offer, and which devices there are.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from trainer import confinement, wire
from trainer.lanes import Lane, in_a_thread

if TYPE_CHECKING:
    from trainer.runner import Runner


class Backstop:
    """Lets the process compute for as long as the longest of its requests may take, and no longer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[Lane, float] = {}

    def begin(self, lane: Lane, seconds: float) -> None:
        """A request begins that may take so long."""
        with self._lock:
            now = time.monotonic()
            self._ends[lane] = now + seconds
            confinement.allow_seconds(max(self._ends.values()) - now)

    def end(self, lane: Lane) -> None:
        """Its answer is on its way."""
        with self._lock:
            del self._ends[lane]


def main() -> None:
    """Serve requests until the first lane ends."""
    platform, cache_dir, devices, *numbers = sys.argv[1:]
    parent = os.getppid()
    missing = confinement.confine(platform, Path(cache_dir), len(numbers))
    confinement.watch_parent(parent)
    lanes = [Lane(int(number)) for number in numbers]
    lanes[0].send({"missing": missing})

    from trainer import runner
    from trainer.operations import Refused

    try:
        found = runner.find_devices(platform, cache_dir, int(devices))[: len(lanes)]
    except Refused as error:
        lanes[0].send({"ok": False, "message": str(error)})
        return
    lanes[0].send({"ok": True, "devices": [device.device_kind for device in found]})
    for lane in lanes[len(found) :]:
        lane.close()
    backstop = Backstop()
    for lane, device in zip(lanes[1:], found[1:], strict=False):
        in_a_thread(partial(_serve, lane, runner.Runner(platform, device), backstop))
    _serve(lanes[0], runner.Runner(platform, found[0]), backstop)


def _serve(lane: Lane, runner: Runner, backstop: Backstop) -> None:
    while (body := lane.read()) is not None:
        request = wire.parse(body)
        backstop.begin(lane, float(request["seconds"]))
        answer = runner.answer(request)
        backstop.end(lane)
        lane.send(answer)


if __name__ == "__main__":
    main()
