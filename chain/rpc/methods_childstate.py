"""`childstate_*`: this chain has no child tries, so every one of them is empty, at every block that there is."""

from __future__ import annotations

from typing import Annotated, Any

from chain.rpc.context import Context, hexed
from chain.rpc.params import BlockHash, Hex, HexBytes, PageSize, StorageKey, StorageKeys, WrongParameter
from chain.rpc.registry import Registry

registry = Registry()

PREFIX = b":child_storage:default:"


def decode_child(value: object) -> bytes:
    """The storage key of a child trie."""
    found = Hex()(value)
    if not found.startswith(PREFIX):
        raise WrongParameter(f"a child storage key, which begins with 0x{PREFIX.hex()}")
    return found


ChildKey = Annotated[bytes, decode_child]


@registry.thread("state_getChildReadProof")
def state_get_child_read_proof(
    context: Context, child_storage_key: ChildKey, keys: StorageKeys, hash: BlockHash | None = None
) -> dict[str, Any]:
    """The tree nodes that prove that there is no such child trie, and so none of its keys."""
    del keys
    with context.state(hash) as state:
        return {"at": hexed(state.header.hash), "proof": [hexed(node) for node in state.prove([child_storage_key])]}


@registry.thread("childstate_getKeys")
def childstate_get_keys(
    context: Context, child_storage_key: ChildKey, prefix: HexBytes | None = None, hash: BlockHash | None = None
) -> list[str]:
    """Nothing: this chain has no child tries."""
    del child_storage_key, prefix
    context.ensure_known(hash)
    return []


@registry.thread("childstate_getKeysPaged", "childstate_getKeysPagedAt")
def childstate_get_keys_paged(
    context: Context,
    child_storage_key: ChildKey,
    prefix: HexBytes | None,
    count: PageSize,
    start_key: HexBytes | None = None,
    hash: BlockHash | None = None,
) -> list[str]:
    """Nothing: this chain has no child tries."""
    del child_storage_key, prefix, count, start_key
    context.ensure_known(hash)
    return []


@registry.thread("childstate_getStorage", "childstate_getStorageHash", "childstate_getStorageSize")
def childstate_get_storage(
    context: Context, child_storage_key: ChildKey, key: StorageKey, hash: BlockHash | None = None
) -> None:
    """Null: this chain has no child tries."""
    del child_storage_key, key
    context.ensure_known(hash)


@registry.thread("childstate_getStorageEntries")
def childstate_get_storage_entries(
    context: Context, child_storage_key: ChildKey, keys: StorageKeys, hash: BlockHash | None = None
) -> list[None]:
    """A null for each key: this chain has no child tries."""
    del child_storage_key
    context.ensure_known(hash)
    return [None] * len(keys)
