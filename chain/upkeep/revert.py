"""Takes the last blocks off a chain on disk: the state before them becomes the head's again, in one transaction.

Nothing is undone by it but on this disk: blocks are final, and a node that goes on fetches the same ones again. The
vote log stays as it is, so that no validator signs anew what it has signed.
"""

from __future__ import annotations

from chain.adoption import KEPT_HANDOVER
from chain.primitives import merkle
from chain.store import Batch, Head


class CannotRevert(Exception):
    """So many blocks cannot be taken off; the message says how many can."""


def revert(batch: Batch, count: int) -> Head:
    """Take off the last `count` blocks and return the head that is left; CannotRevert, with nothing changed."""
    place = batch.head()
    height = place.height - count
    floor = max(place.oldest_state, batch.lowest())
    if height < floor:
        raise CannotRevert(
            f"the head is block {place.height}, and the oldest state that is kept is that of block {floor}: at most "
            f"{place.height - floor} blocks can be taken off"
        )
    root, block_hash = batch.root_at(height), batch.hash_at(height)
    assert block_hash is not None
    changes = merkle.differences((batch, batch.root_at(place.height)), (batch, root))
    batch.put_state({change.key: change.new for change in list(changes)})
    for set_id in list(batch.handover_sets()):
        kept = batch.handover(set_id)
        assert kept is not None
        if KEPT_HANDOVER.decode(kept).height > height:
            batch.drop_handover(set_id)
    for each in range(height + 1, place.height + 1):
        batch.drop_block(each)
    # A tree's topmost node is written last: all nodes of later blocks have greater ids.
    next_node = 0 if root is None else root.id + 1
    batch.drop_nodes(next_node)
    head = Head(height, block_hash, next_node, place.oldest_state)
    batch.put_head(head)
    return head
