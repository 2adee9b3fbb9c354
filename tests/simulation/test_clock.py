"""Virtual time passes where there is nothing else to do, and a simulation that gets nowhere says so."""

from __future__ import annotations

import pytest
import trio

from chain.simulation import clock
from chain.simulation.clock import Endless, VirtualClock, now_ms, run_virtually


def current_clock() -> VirtualClock:
    found = trio.lowlevel.current_clock()
    assert isinstance(found, VirtualClock)
    return found


def test_what_sleeps_and_what_is_on_the_agenda_happen_in_the_order_of_their_times() -> None:
    async def main() -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        virtual = current_clock()

        async def sleeper(ms: int) -> None:
            await trio.sleep(ms / 1000)
            seen.append(("woke", now_ms()))
            virtual.after(5, lambda: seen.append(("done", now_ms())))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(virtual.run)
            for ms in (10, 3_600_000):
                nursery.start_soon(sleeper, ms)
                virtual.after(ms + 1, lambda: seen.append(("done", now_ms())))
            await trio.sleep(3_601)
            nursery.cancel_scope.cancel()
        return seen

    times = [10, 11, 15, 3_600_000, 3_600_001, 3_600_005]
    assert run_virtually(0, main) == list(zip(["woke", "done", "done"] * 2, times, strict=True))


@pytest.mark.parametrize("waits", [True, False])
def test_time_that_would_stand_still_for_ever_ends_a_simulation(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "ASKED_MAX", 1000)

    async def main() -> None:
        await trio.sleep(7)
        while not waits:
            await trio.lowlevel.checkpoint()
        await trio.sleep_forever()

    with pytest.raises(Endless, match=r"time stands still at 7\.000 s"):
        run_virtually(0, main)


def test_messages_that_bring_forth_messages_end_a_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "AGENDA_MAX", 1000)

    async def main() -> None:
        virtual = current_clock()

        def answer_twice() -> None:
            virtual.after(1, answer_twice)
            virtual.after(1, answer_twice)

        answer_twice()
        await virtual.run()

    with pytest.raises(Endless, match=r"1000 messages are on the way at 0\.009 s"):
        run_virtually(0, main)
