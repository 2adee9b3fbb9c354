"""What a worker hides in a commitment is what the runtime looks for: each computes it on its own side of the RPC."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.modules import training_types
from trainer.files import Pending
from trainer.worker import PAUSE_BLOCKS_MAX, commitment_of

HASHES = st.binary(min_size=32, max_size=32)
U32S = st.integers(0, 2**32 - 1)


@settings(max_examples=50, deadline=None)
@given(worker=HASHES, task=U32S, round_=U32S, attempt=U32S, slot=st.integers(0, 2**16 - 1), salt=HASHES, root=HASHES)
def test_a_workers_commitment_is_the_one_that_the_runtime_computes(
    worker: bytes, task: int, round_: int, attempt: int, slot: int, salt: bytes, root: bytes
) -> None:
    mine = commitment_of(worker, task, round_, attempt, slot, Pending(salt, root, b""))
    assert mine == training_types.commitment_of(worker, task, round_, attempt, slot, salt, root)


def test_a_worker_that_is_there_resumes_before_the_chain_takes_it_for_missing() -> None:
    assert PAUSE_BLOCKS_MAX < training_types.MISSING_BLOCKS
