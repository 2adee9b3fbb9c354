"""The checks of clients' histories find what they are for: every lie that a chain can tell, one at a time."""

from __future__ import annotations

from chain.primitives.hashing import Hash, blake2_256
from tests.perturbation.history import VIOLATIONS_MAX, History

TIME = b"the time"  # the first extrinsic of every block
PAYMENT = b"a payment"
NAMES = {height: blake2_256(b"block %d" % height) for height in range(4)}
OTHER = blake2_256(b"another block")
Chain = dict[int, tuple[Hash, list[bytes]]]


def told() -> History:
    """Three blocks that alice told of, the payment final in the second."""
    history = History()
    history.sent(PAYMENT, 0.0)
    for height in range(3):
        history.told_head("alice", height, NAMES[height])
    history.told_final("alice", blake2_256(PAYMENT), NAMES[1], 1.0)
    return history


def chain() -> Chain:
    """What alice has."""
    return {0: (NAMES[0], []), 1: (NAMES[1], [TIME, PAYMENT]), 2: (NAMES[2], [TIME])}


def test_a_true_history_holds() -> None:
    history = told()
    for node in ("alice", "bob"):
        history.check_chain(node, chain(), 2)
    history.read_body("alice", 1, [TIME, PAYMENT], 2.0)
    history.read_body("bob", 2, [TIME], 2.0)
    assert history.violations == []
    assert history.height == 2


def test_a_second_hash_at_one_height_is_found_whichever_node_tells_of_it() -> None:
    history = told()
    history.told_block("bob", 1, OTHER)
    assert history.violations == [f"height 1: bob says 0x{OTHER.hex()}, and 0x{NAMES[1].hex()} was told before"]


def test_a_node_that_goes_back_is_found_unless_it_has_lost_its_folder() -> None:
    history = told()
    history.told_head("alice", 1, NAMES[1], floor=history.heights["alice"])
    assert history.violations == ["alice went back: it says that its newest block is 1, after it told of 2"]
    history = told()
    history.forgot("alice")
    history.told_head("alice", 1, NAMES[1], floor=history.heights["alice"])
    assert history.violations == []


def test_a_block_that_was_told_and_is_gone_is_found() -> None:
    history, lost = told(), chain()
    del lost[2]
    history.check_chain("bob", lost, 2)
    assert history.violations == [f"height 2: bob has no block, and 0x{NAMES[2].hex()} was told"]


def test_a_block_that_came_after_the_check_began_is_not_missed() -> None:
    history = told()
    history.told_block("alice", 3, NAMES[3])
    history.check_chain("bob", chain(), 2)
    assert history.violations == []


def test_a_rewritten_block_is_found() -> None:
    history, rewritten = told(), chain()
    rewritten[2] = OTHER, [TIME]
    history.check_chain("bob", rewritten, 2)
    assert history.violations == [f"height 2: bob has 0x{OTHER.hex()} now; 0x{NAMES[2].hex()} was told"]


def test_a_final_payment_that_is_gone_is_found() -> None:
    history, lost = told(), chain()
    lost[1] = NAMES[1], [TIME]
    history.check_chain("bob", lost, 2)
    assert history.violations == [f"0x{blake2_256(PAYMENT).hex()} was told final, and is not in bob's chain"]


def test_a_payment_that_is_in_a_chain_twice_is_found_then_and_while_blocks_are_read() -> None:
    history, doubled = told(), chain()
    doubled[2] = NAMES[2], [TIME, PAYMENT]
    history.check_chain("bob", doubled, 2)
    assert history.violations == [f"0x{blake2_256(PAYMENT).hex()} is in bob's chain 2 times, at [1, 2]"]
    history = told()
    history.read_body("alice", 1, [TIME, PAYMENT], 2.0)
    history.read_body("alice", 2, [TIME, PAYMENT], 2.0)
    assert history.violations == [f"0x{blake2_256(PAYMENT).hex()} is in two blocks, 1 and 2, says alice"]


def test_a_payment_that_is_in_another_block_than_was_told_is_found() -> None:
    history, moved = told(), chain()
    moved[1], moved[2] = (NAMES[1], [TIME]), (NAMES[2], [TIME, PAYMENT])
    history.check_chain("bob", moved, 2)
    told_in, found_in = NAMES[1].hex(), NAMES[2].hex()
    payment = blake2_256(PAYMENT).hex()
    assert history.violations == [f"0x{payment} was told final in 0x{told_in}, and bob has it in 0x{found_in}"]


def test_a_payment_that_two_blocks_made_final_is_found() -> None:
    history = told()
    history.told_final("bob", blake2_256(PAYMENT), NAMES[2], 2.0)
    payment = blake2_256(PAYMENT).hex()
    assert history.violations == [f"bob says that 0x{payment} is final in a second block, 0x{NAMES[2].hex()}"]


def test_what_is_wrong_is_said_once() -> None:
    history = told()
    for _ in range(2):
        history.told_block("bob", 1, OTHER)
    assert len(history.violations) == 1


def test_a_chain_that_is_wrong_everywhere_is_told_of_in_so_many_words_at_most() -> None:
    history = told()
    for height in range(2 * VIOLATIONS_MAX):
        history.told_block("alice", height, NAMES[0])
        history.told_block("bob", height, OTHER)
    assert len(history.violations) == VIOLATIONS_MAX
