"""The gate: readers together, or one alone, and nobody waits for ever."""

import threading

import pytest

from chain.gate import Gate


def test_readers_pass_together_and_again() -> None:
    gate = Gate()

    def read() -> None:
        with gate.reading():
            pass

    with gate.reading(), gate.reading():
        together = threading.Thread(target=read)
        together.start()
        together.join(60)
        assert not together.is_alive()


def test_who_waits_to_be_alone_lets_a_reader_read_again_and_end() -> None:
    gate = Gate()
    order: list[str] = []
    waiting = threading.Event()

    def be_alone() -> None:
        waiting.set()
        with gate.alone(20):
            order.append("alone")

    with gate.reading():
        alone = threading.Thread(target=be_alone)
        alone.start()
        waiting.wait(60)
        for _ in range(100):
            with gate.reading():
                pass
        order.append("read")
    alone.join(60)
    assert order == ["read", "alone"]


def test_a_new_reader_waits_while_the_gate_is_closed() -> None:
    gate = Gate()
    order: list[str] = []
    started = threading.Event()

    def read() -> None:
        started.set()
        with gate.reading():
            order.append("read")

    with gate.closed():
        reader = threading.Thread(target=read)
        reader.start()
        started.wait(60)
        order.append("closed")
    reader.join(60)
    assert order == ["closed", "read"]


def test_a_reader_that_stays_is_reported_and_the_gate_opens_again() -> None:
    gate = Gate()
    failures: list[str] = []

    def be_alone() -> None:
        try:
            with gate.alone(0):
                pass
        except TimeoutError as error:
            failures.append(str(error))

    with gate.reading():
        alone = threading.Thread(target=be_alone)
        alone.start()
        alone.join(60)
    assert failures == ["1 readers did not end within 0 s"]
    with gate.reading():
        pass
    with gate.alone(0):
        pass


def test_a_reader_may_not_wait_to_be_alone() -> None:
    gate = Gate()
    with gate.reading(), pytest.raises(AssertionError, match="it would wait for itself"), gate.alone(0):
        pass
