"""The follower against honest answers and every kind of wrong one, without network: what it proves and what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.light.checkpoint import Checkpoint
from chain.light.errors import Behind, Contradicted, Fork, LightError, Unprovable, Untrue, Withheld
from chain.light.follower import follow, read, trusted
from chain.primitives import bls
from chain.rpc.methods_chain import header_json
from runtime.handover import handover_keys
from runtime.potchain import RUNTIME
from tests.light.kit import (
    Answers,
    Made,
    SetChain,
    Tamper,
    counted,
    encoded_seal,
    hexed,
    keypairs,
    reseal,
    tampered,
    validator_set,
    withheld,
    work_through,
)


@pytest.fixture(scope="module")
def chain() -> SetChain:
    """Four whole sessions of three blocks, and a block of the fifth."""
    made = SetChain(sessions=4)
    made.extend()
    return made


# --- Honest nodes


def test_a_follower_gets_from_genesis_over_every_set_change_to_the_head(chain: SetChain) -> None:
    found = work_through(follow(RUNTIME, chain.genesis), chain.answer)
    assert found == chain.checkpoint()
    assert found.validators == validator_set(4, chain.n)


def test_a_head_that_hands_over_names_the_next_set(chain: SetChain) -> None:
    found = work_through(follow(RUNTIME, chain.genesis), chain.upto(6).answer)
    assert found == chain.checkpoint(6)
    assert found.validators == validator_set(2, chain.n)


@pytest.mark.parametrize("session", [1, 2, 7])
def test_sessions_of_any_length_are_followed(session: int) -> None:
    chain = SetChain(sessions=3, session=session)
    chain.extend()
    assert work_through(follow(RUNTIME, chain.genesis), chain.answer) == chain.checkpoint()


def test_a_follower_from_any_block_ends_at_the_same_head(chain: SetChain) -> None:
    for height in range(len(chain.blocks)):
        assert work_through(follow(RUNTIME, chain.checkpoint(height)), chain.answer) == chain.checkpoint()


def test_a_session_costs_one_question_however_long_it_is() -> None:
    chain = SetChain(sessions=8, session=40)
    calls = list[str]()
    work_through(follow(RUNTIME, chain.genesis), counted(chain.answer, calls))
    head = ["chain_getFinalizedHead", "chain_getHeader", "consensus_getSeal"]
    # The head, block 320, is itself the last of a session: its own set has decided it.
    assert calls == [*head, *["consensus_getHandover"] * 7, "state_getReadProof"]


def test_a_node_with_nothing_new_is_asked_for_one_hash(chain: SetChain) -> None:
    calls = list[str]()
    start = chain.checkpoint()
    assert work_through(follow(RUNTIME, start), counted(chain.answer, calls)) == start
    assert calls == ["chain_getFinalizedHead"]


def test_a_known_hash_is_a_checkpoint_without_any_seal(chain: SetChain) -> None:
    wanted = chain.checkpoint(8)
    answers = tampered(chain.answer, "consensus_getSeal", lambda _: withheld("no seals here"))
    assert work_through(trusted(RUNTIME, chain.genesis_hash, wanted.block_hash), answers) == wanted


def test_a_known_hash_of_another_chain_is_refused(chain: SetChain) -> None:
    other = SetChain(sessions=1, salt=1)
    with pytest.raises(Untrue, match=f"of the chain of genesis 0x{other.genesis_hash.hex()}"):
        work_through(trusted(RUNTIME, chain.genesis_hash, other.head.header.hash), other.answer)


def test_what_is_read_at_the_head_is_what_the_state_holds(chain: SetChain) -> None:
    account = keypairs(0, chain.n)[0].public
    found = work_through(read(RUNTIME, chain.checkpoint(), lambda view: view.system.account[account]), chain.answer)
    assert found == RUNTIME.at(chain.head.tree).system.account[account]
    assert found.data.free > 0
    assert (
        work_through(read(RUNTIME, chain.checkpoint(), lambda view: view.training.tasks.get(7)), chain.answer) is None
    )


def test_a_list_of_keys_is_refused_because_nothing_proves_it_whole(chain: SetChain) -> None:
    with pytest.raises(Unprovable, match="nodes prove values by key, not that a list is whole"):
        work_through(read(RUNTIME, chain.checkpoint(), lambda view: list(view.system.account.keys())), chain.answer)


def test_a_read_without_end_ends(chain: SetChain) -> None:
    def look(view: Any) -> None:
        for number in range(10**9):
            view.training.tasks.get(number)

    with pytest.raises(LightError, match="more than 256 storage values"):
        work_through(read(RUNTIME, chain.checkpoint(), look), chain.answer)


# --- Wrong answers


def refusal(answers: Answers, start: Checkpoint, kind: type[LightError] = Untrue) -> str:
    """Why a follower believes nothing of these answers."""
    with pytest.raises(LightError) as caught:
        work_through(follow(RUNTIME, start), answers)
    assert type(caught.value) is kind, caught.value
    return str(caught.value)


@pytest.mark.parametrize("field", ["parentHash", "stateRoot", "extrinsicsRoot", "number"])
def test_a_forged_header_is_refused(chain: SetChain, field: str) -> None:
    forged = hex(99) if field == "number" else "0x" + "77" * 32
    answers = tampered(chain.answer, "chain_getHeader", lambda header: {**header, field: forged})
    assert "it is forged" in refusal(answers, chain.genesis)


def test_a_forged_block_with_a_true_hash_of_its_own_lacks_a_seal(chain: SetChain) -> None:
    assert chain.head.seal is not None
    header = replace(chain.head.header, state_root=bytes(32))
    forged = Made(header, replace(chain.head.seal, block_hash=header.hash), chain.head.tree)
    message = refusal(chain.upto(12, forged).answer, chain.checkpoint(12))
    assert "its signature is not that of the 4 validators whom it names" in message


SEALS: list[tuple[str, Tamper, str]] = [
    (
        "a signature of somebody else",
        lambda answer: reseal(answer, signature=bls.sign(b"\1" * 32, b"no vote")),
        "its signature is not that of the 4 validators",
    ),
    ("a signature of no point", lambda answer: reseal(answer, signature=bytes(96)), "its signature is not that of"),
    ("fewer voters named", lambda answer: reseal(answer, voters=b"\x07"), "not that of the 3 validators whom it names"),
    ("too few voters", lambda answer: reseal(answer, voters=b"\x03"), "expected the votes of 3 of 4 validators, got 2"),
    ("a voter too high", lambda answer: reseal(answer, voters=b"\xff"), "expected no bit at or above 4"),
    ("a longer bitmap", lambda answer: reseal(answer, voters=b"\x0f\0"), "expected a bitmap of 1 bytes for 4 members"),
    ("another view", lambda answer: reseal(answer, view=1), "its signature is not that of"),
    ("another height", lambda answer: reseal(answer, height=1), "got one of block 1"),
    ("another block", lambda answer: reseal(answer, block_hash=bytes(32)), "got one of block 13 (0x00000000…)"),
    ("truncated", lambda answer: {"encoded": answer["encoded"][:-2]}, "expected the seal of block 13, got"),
    ("longer", lambda answer: {"encoded": answer["encoded"] + "00"}, "expected the seal of block 13, got"),
    ("odd hex", lambda answer: {"encoded": answer["encoded"][:-1]}, "expected hex digits after 0x"),
    ("no hex", lambda _: {"encoded": 7}, "expected hex digits after 0x, got 7"),
    ("no object", lambda answer: [answer], "no object"),
]


@pytest.mark.parametrize(("change", "words"), [case[1:] for case in SEALS], ids=[case[0] for case in SEALS])
def test_a_forged_seal_is_refused_and_the_message_says_what_is_wrong(
    chain: SetChain, change: Tamper, words: str
) -> None:
    # From the last handover on, so that the head's seal is the only one.
    assert words in refusal(tampered(chain.answer, "consensus_getSeal", change), chain.checkpoint(12))


PROOFS: list[tuple[str, Tamper, str]] = [
    ("a node left out", lambda answer: {**answer, "proof": answer["proof"][:-1]}, "does not hold: expected node"),
    ("a node too many", lambda answer: {**answer, "proof": [*answer["proof"], "0x00"]}, "does not hold: expected a"),
    ("none", lambda answer: {**answer, "proof": []}, "does not hold: expected node"),
    (
        "a byte changed",
        lambda answer: {**answer, "proof": [answer["proof"][0][:-2] + "99", *answer["proof"][1:]]},
        "does not hold: expected node",
    ),
    ("of another block", lambda answer: {**answer, "at": "0x" + "11" * 32}, "(of another block)"),
    ("no list", lambda answer: {**answer, "proof": 5}, "expected a storage proof at block"),
    ("no answer", lambda _: None, "expected a storage proof at block"),
]


@pytest.mark.parametrize(("change", "words"), [case[1:] for case in PROOFS], ids=[case[0] for case in PROOFS])
def test_a_wrong_storage_proof_is_refused(chain: SetChain, change: Tamper, words: str) -> None:
    answers = tampered(chain.answer, "state_getReadProof", change)
    assert words in refusal(answers, chain.genesis)
    with pytest.raises(Untrue) as caught:
        work_through(read(RUNTIME, chain.checkpoint(), lambda view: view.system.account[bytes(32)]), answers)
    assert words in str(caught.value)


METHODS = [
    *("chain_getFinalizedHead", "chain_getHeader", "consensus_getSeal", "consensus_getHandover", "state_getReadProof"),
]
GARBAGE: list[Any] = [
    None,
    1,
    "",
    "0x",
    "zz",
    [],
    {},
    {"encoded": None},
    {"digest": 1},
    {"digest": {"logs": [[]]}},
    [[[[]]]],
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
@pytest.mark.parametrize("method", METHODS)
def test_garbage_in_any_answer_is_an_error_that_says_so(chain: SetChain, method: str, garbage: Any) -> None:
    with pytest.raises((Untrue, Withheld)):
        work_through(follow(RUNTIME, chain.genesis), tampered(chain.answer, method, lambda _: garbage))


@given(st.integers(0), st.lists(st.tuples(st.integers(0), st.characters(codec="ascii")), min_size=1, max_size=3))
def test_no_answer_with_wrong_characters_ever_gives_another_block(
    chain: SetChain, number: int, changes: list[tuple[int, str]]
) -> None:
    """Some characters of one answer are others: what follows is the true head or an error, whatever they are."""
    asked = 0

    def answer(method: str, params: list[Any]) -> Any:
        nonlocal asked
        found = chain.answer(method, params)
        asked += 1
        if asked != 1 + number % 8:  # as many as there are answers
            return found
        text = list(json.dumps(found))
        for position, character in changes:
            text[position % len(text)] = character
        try:
            return json.loads("".join(text))
        except ValueError:
            return None  # What is no JSON is no answer.

    try:
        found = work_through(follow(RUNTIME, chain.genesis), answer)
    except LightError:
        pass
    else:
        assert found == chain.checkpoint()


def test_another_chain_is_refused(chain: SetChain) -> None:
    other = SetChain(sessions=1, salt=1)
    message = refusal(other.answer, chain.genesis)
    assert f"of another chain than that of genesis 0x{chain.genesis_hash.hex()[:8]}" in message


def test_another_chains_genesis_is_refused(chain: SetChain) -> None:
    other = SetChain(sessions=0, salt=1)
    assert "it is forged, or of another chain" in refusal(other.answer, chain.genesis, Contradicted)


def test_a_node_that_replays_an_older_head_is_stale(chain: SetChain) -> None:
    message = refusal(chain.upto(5).answer, chain.checkpoint(), Behind)
    assert message == "the node is at block 5, and block 13 is known to be final: it is behind"


def test_an_old_set_seals_nothing_after_it_was_replaced(chain: SetChain) -> None:
    """Somebody has all keys of set 0: of no use against who knows that set 3 decides."""
    header = replace(chain.head.header, height=50)
    forged = chain.upto(13, Made(header, chain.seal(header, set_id=0), chain.head.tree))
    message = refusal(forged.answer, chain.checkpoint(9))
    assert "the seal of block 50 is of validator set 0, and set 3 has decided since block 9" in message


def test_a_new_sets_number_on_an_old_sets_votes_is_refused(chain: SetChain) -> None:
    header = replace(chain.head.header, height=50)
    forged = chain.upto(13, Made(header, replace(chain.seal(header, set_id=3), set_id=4), chain.head.tree))
    assert "its signature is not that of" in refusal(forged.answer, chain.checkpoint(12))


HANDOVERS: list[tuple[str, Tamper, str]] = [
    ("no object", lambda answer: [answer], "expected the handover of validator set 0, got"),
    ("no seal", lambda answer: {**answer, "seal": None}, "expected the handover of validator set 0, got"),
    ("a truncated seal", lambda answer: {**answer, "seal": answer["seal"][:-2]}, "expected the handover of"),
    (
        "a forged state",
        lambda answer: {**answer, "header": {**answer["header"], "stateRoot": "0x" + "77" * 32}},
        "the seal is of block 3, the header of 3",
    ),
    (
        "a forged seal",
        lambda answer: {**answer, "seal": reseal({"encoded": answer["seal"]}, view=7)["encoded"]},
        "its signature is not that of the 4 validators",
    ),
    (
        "another set's seal",
        lambda answer: {**answer, "seal": reseal({"encoded": answer["seal"]}, set_id=1)["encoded"]},
        "expected the votes of validator set 0, got those of set 1",
    ),
    ("a proof cut short", lambda answer: {**answer, "proof": answer["proof"][:-1]}, "does not hold: expected node"),
    ("a proof with more", lambda answer: {**answer, "proof": [*answer["proof"], "0x00"]}, "does not hold: expected a"),
    ("no proof", lambda answer: {**answer, "proof": 3}, "expected the handover of validator set 0, got"),
]


@pytest.mark.parametrize(("change", "words"), [case[1:] for case in HANDOVERS], ids=[case[0] for case in HANDOVERS])
def test_a_forged_handover_is_refused(chain: SetChain, change: Tamper, words: str) -> None:
    assert words in refusal(tampered(chain.answer, "consensus_getHandover", change), chain.genesis)


def test_a_block_that_does_not_hand_over_is_no_handover(chain: SetChain) -> None:
    """The node shows, with a true seal and a true proof, a block in the middle of the session."""
    made = chain.blocks[1]
    assert made.seal is not None
    middle = {
        "header": header_json(made.header),
        "seal": encoded_seal(made.seal)["encoded"],
        "proof": [hexed(node) for node in made.tree.prove(handover_keys(RUNTIME))],
    }
    message = refusal(tampered(chain.answer, "consensus_getHandover", lambda _: middle), chain.genesis)
    assert message == (
        "expected block 1 to hand over from validator set 0 to a later one, but set 0 decides block 2, too"
    )


def test_a_set_hands_over_nothing_before_the_block_that_is_known(chain: SetChain) -> None:
    """Set 1 seals a second block 4, with which it would have handed over; this client knows block 5 of the first."""
    forged = chain.upto(3)
    forged.extend(lambda view, _: view.validators.set_id.put(4))
    answers = tampered(chain.answer, "consensus_getHandover", lambda _: forged.handover(1))
    message = refusal(answers, chain.checkpoint(5))
    assert message == "expected a block of validator set 1 after 5, got 4"


def test_an_earlier_handover_does_for_no_later_one(chain: SetChain) -> None:
    answers = tampered(chain.answer, "consensus_getHandover", lambda _: chain.handover(0))
    message = refusal(answers, chain.genesis)
    assert message == "the seal of block 3: expected the votes of validator set 1, got those of set 0"


def test_a_set_number_out_of_the_air_costs_a_question_for_each_true_set(chain: SetChain) -> None:
    answers = tampered(chain.answer, "consensus_getSeal", lambda answer: reseal(answer, set_id=2**32 - 1))
    calls = list[str]()
    message = refusal(counted(answers, calls), chain.genesis, Withheld)
    assert message.startswith("the node does not show which block handed over from validator set 4 to the next: ")
    assert message.endswith("begin at a newer block that you know, with --trust HASH")
    assert calls.count("consensus_getHandover") == 5


def test_a_known_block_whose_state_is_pruned_is_withheld(chain: SetChain) -> None:
    answers = tampered(chain.answer, "state_getReadProof", lambda _: withheld("it refuses: State already discarded"))
    with pytest.raises(Withheld, match="of a block of the last minutes any node can prove the state"):
        work_through(trusted(RUNTIME, chain.genesis_hash, chain.blocks[5].header.hash), answers)


def test_a_second_chain_of_the_same_keys_is_a_fork(chain: SetChain) -> None:
    """All of set 4 seals another history than the one that this client knows: proof that they are dishonest."""
    forked = chain.upto(12)
    forked.extend(lambda view, _: view.timestamp.now.put(1))
    forked.extend()
    message = refusal(forked.answer, chain.checkpoint(), Fork)
    assert "block 14 is sealed and names" in message
    assert "as block 13, which is known to be" in message


def test_another_block_at_the_known_height_is_refused(chain: SetChain) -> None:
    forked = chain.upto(12)
    forked.extend(lambda view, _: view.timestamp.now.put(1))
    assert "block 13 is known to be" in refusal(forked.answer, chain.checkpoint(), Contradicted)


def test_a_state_of_another_runtime_is_an_error_in_one_sentence() -> None:
    chain = SetChain(sessions=0)
    chain.extend(lambda view, state: state.put(view.validators.authorities.key, b"\xff"))
    with pytest.raises(LightError, match=r"does not read as that of the runtime potchain [0-9]+ \("):
        work_through(follow(RUNTIME, chain.genesis), chain.answer)
