"""A chain as one of its nodes tells of it: its metadata, its storage, fees, and what becomes of a transaction.

What a node says is read by the metadata that it gave; what does not fit is the node's fault and a `ClientError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from chain.display import Token, told_token, waiting
from chain.primitives.hashing import blake2_128_concat, storage_prefix, twox_64_concat
from chain.primitives.scale import BYTES, ScaleError
from chain.primitives.types import Mortal
from chain.rpc.client import Client, ClientError, RpcError, Stream, TransactionDropped
from chain.wallet.codec import Codec, Value, Words
from chain.wallet.metadata import Item, Metadata, MetadataError
from chain.wallet.transaction import Draft
from runtime.metadata_types import Map, Modifier, PrimitiveKind
from runtime.storage import Hasher

# As the client of workers has it: a minute of one-second blocks, begun where nodes that lag know the block.
ERA_BLOCKS: Final = 64
BIRTH_DEPTH: Final = 4
# A page of keys, and of their values, is one answer of a node.
PAGE: Final = 256
# An era and the time that blocks may take beyond a second each.
FINAL_SECONDS: Final = 300.0

_HASH: Final[dict[Hasher, tuple[Callable[[bytes], bytes], int]]] = {
    Hasher.BLAKE2_128_CONCAT: (blake2_128_concat, 16),
    Hasher.TWOX_64_CONCAT: (twox_64_concat, 8),
    Hasher.IDENTITY: (bytes, 0),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A block."""

    height: int
    hash: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed: `Balances.InsufficientBalance`, and what the chain's metadata says of that."""

    name: str
    docs: str

    def __str__(self) -> str:
        return f"{self.name}: {self.docs}" if self.docs else self.name


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a transaction in its block.

    `failure` is its own; `inner` are those of calls that it carried, by where they were. `events` are as they were
    asked for, without the one that says whether it succeeded.
    """

    block: Place
    index: int
    failure: Failure | None
    inner: list[tuple[str, Failure]]
    fee: int
    events: list[dict[str, Value]]


@dataclass(frozen=True)
class Chain:
    """A chain, over a connection to one of its nodes."""

    client: Client
    codec: Codec
    token: Token
    prefix: int
    name: str
    genesis_hash: bytes
    spec_name: str
    spec_version: int
    transaction_version: int

    @property
    def metadata(self) -> Metadata:
        return self.codec.metadata

    @cached_property
    def people(self) -> Codec:
        """Decodes amounts as people write them: `1.5 POT`."""
        return for_people(self.codec, self.token)

    @cached_property
    def programs(self) -> Codec:
        """Decodes integers of 64 bits and more to text: not every program reads such numbers in JSON exactly."""
        return Codec(self.metadata, replace(self.codec.words, number=_exact))

    # --- Blocks and storage

    async def block(self, at: str | None = None) -> Place:
        """A block by its height or hash (0x-hex); the newest for None. ClientError where there is none such."""
        if at is None or at.isdigit():
            found = await self.client.request("chain_getBlockHash", *([] if at is None else [int(at)]))
            if not isinstance(found, str):
                head = await self.block()
                raise ClientError(f"there is no block {at} yet: the newest is {head.height}")
        else:
            found = at
        header = await self.client.request("chain_getHeader", found)
        if header is None:
            raise ClientError(f"the node has no block {at}: give a height, or the hash of a block of this chain")
        with self.reading("a header"):
            return Place(int(header["number"], 16), found)

    async def read(self, item: Item, key: bytes, at: Place, codec: Codec | None = None) -> tuple[Value, bool]:
        """The value under a whole storage key, and whether it is stored: else it is the default, or None."""
        found = await self.client.request("state_getStorage", "0x" + key.hex(), at.hash)
        with self.reading(f"{item.module}.{item.name}"):
            codec = codec or self.codec
            if found is not None:
                return codec.decode(item.value, _unhex(found)), True
            if item.entry.modifier is Modifier.OPTIONAL:
                return None, False
            return codec.decode(item.value, item.entry.default), False

    async def keys(self, prefix: bytes, most: int, at: Place) -> tuple[list[str], bool]:
        """Up to `most` storage keys with a prefix, ascending, and whether there are more."""
        keys: list[str] = []
        while len(keys) <= most:
            page = min(PAGE, most + 1 - len(keys))
            after = keys[-1] if keys else None
            found = await self.client.request("state_getKeysPaged", "0x" + prefix.hex(), page, after, at.hash)
            with self.reading("a page of keys"):
                if len(found) > page or (keys and found and not found[0] > keys[-1]):
                    raise ValueError(f"more than {page} keys, or keys that do not ascend")
                keys += [str(key) for key in found]
            if len(found) < page:
                break
        return keys[:most], len(keys) > most

    async def values(self, keys: Sequence[str], at: Place) -> dict[str, bytes]:
        """What is stored under some storage keys."""
        stored: dict[str, bytes] = {}
        for start in range(0, len(keys), PAGE):
            wanted = keys[start : start + PAGE]
            changes = await self.client.request("state_queryStorageAt", list(wanted), at.hash)
            with self.reading("some storage values"):
                found = changes[0]["changes"]
                stored |= {str(key): _unhex(value) for key, value in found if value is not None}
        return stored

    async def entries(
        self, item: Item, prefix: bytes, most: int, at: Place, codec: Codec
    ) -> tuple[list[tuple[list[Value], Value]], bool]:
        """Up to `most` entries of a map whose storage keys begin with `prefix`, and whether there are more."""
        keys, more = await self.keys(prefix, most, at)
        stored = await self.values(keys, at)
        with self.reading(f"{item.module}.{item.name}"):
            return [(map_keys(codec, item, _unhex(key)), codec.decode(item.value, stored[key])) for key in keys], more

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Whatever does not read as it has to is the node's fault."""
        try:
            yield
        except (ScaleError, MetadataError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ClientError(f"{self.client.url} told what is not {what} of its metadata: {error}") from None

    # --- Accounts

    async def system_account(self, public: bytes, at: Place | None = None) -> dict[str, Any]:
        """`nonce`, and `data` with `free` and `reserved`; as for an account that has nothing where it is not stored."""
        _, item = self.metadata.item("System", "Account")
        assert isinstance(item, Item)
        value, _ = await self.read(item, storage_key(item, [public]), at or await self.block())
        with self.reading("an account"):
            return {
                "nonce": int(value["nonce"]),
                "data": {name: int(found) for name, found in value["data"].items() if isinstance(found, int)},
            }

    def constant(self, module: str, name: str) -> Value:
        """A constant by the names that metadata has for it; None where there is none."""
        for found in self.metadata.modules:
            for constant in found.constants:
                if found.name == module and constant.name == name:
                    with self.reading(f"{module}.{name}"):
                        return self.codec.decode(constant.type, constant.value)
        return None

    # --- Transactions

    async def draft(
        self, call: bytes, account: bytes, *, blocks: int | None = ERA_BLOCKS, nonce: int | None = None, tip: int = 0
    ) -> Draft:
        """A transaction that may be included for so many blocks, or for ever, with the account's next nonce."""
        head = await self.block()
        birth, era, era_hash = 0, None, self.genesis_hash
        if blocks is not None:
            birth = max(0, head.height - BIRTH_DEPTH)
            era = Mortal.at(blocks, birth)
            birth = era.birth(birth)
            era_hash = _unhex((await self.block(str(birth))).hash)
        if nonce is None:
            nonce = int(await self.client.request("system_accountNextIndex", "0x" + account.hex()))
        return Draft(
            call=call,
            account=account,
            nonce=nonce,
            tip=tip,
            era=era,
            era_hash=era_hash,
            birth=birth,
            genesis_hash=self.genesis_hash,
            spec_name=self.spec_name,
            spec_version=self.spec_version,
            transaction_version=self.transaction_version,
        )

    async def fee(self, draft: Draft) -> int:
        """The most that including it costs, in planck, its tip aside."""
        info = await self.client.request("payment_queryInfo", "0x" + draft.unsigned().hex())
        with self.reading("a fee"):
            return int(info["partialFee"])

    async def dry_run(self, raw: bytes) -> Failure | None:
        """What would come of a signed transaction in the next block; None if it would succeed.

        `Failure` also for one that no block would have. Raises RpcError of a node that does not let this be asked.
        """
        answer = await self.client.request("system_dryRun", "0x" + raw.hex())
        with self.reading("the result of a dry run"):
            result = _unhex(answer)
            match result[:2]:
                case b"\0\0":
                    return None
                case b"\0\1":
                    return self.explain(self.codec.decode(self.metadata.dispatch_error, result[2:]))
                case b"\1\0" | b"\1\1":
                    return Failure(
                        self._invalid(result[1], result[2]), "no block would include it, and it costs nothing"
                    )
            raise ValueError(answer[:80])

    def _invalid(self, kind: int, reason: int) -> str:
        """Why a transaction is refused, by the names that metadata has for it."""
        name = ("InvalidTransaction", "UnknownTransaction")[kind]
        for type in self.metadata.types.values():
            if type.path[-1:] == (name,):
                variants = getattr(type.definition, "variants", ())
                return f"{name}.{next((each.name for each in variants if each.index == reason), reason)}"
        return f"{name}.{reason}"

    def explain(self, error: Value) -> Failure:
        """A dispatch error, as events carry it, by the name and the documentation that metadata has of it."""
        if isinstance(error, dict) and isinstance(error.get("Module"), dict):
            index, raw = error["Module"]["index"], _unhex(error["Module"]["error"])
            module = self.metadata.at_index.get(index)
            for each in module.errors if module else ():
                if each.index == raw[0] and module:
                    return Failure(f"{module.name}.{each.name}", " ".join(each.docs).strip())
            return Failure(f"error {raw[0]} of module {index}", "")
        name, inside = (error, None) if isinstance(error, str) else next(iter(error.items()))
        return Failure(f"{name}.{inside}" if isinstance(inside, str) else name, "")

    async def outcome(self, raw: bytes, block_hash: str, codec: Codec) -> Outcome:
        """What became of a transaction in a block that has it, with events as that codec decodes them."""
        place = await self.block(block_hash)
        block = await self.client.request("chain_getBlock", place.hash)
        _, item = self.metadata.item("System", "Events")
        assert isinstance(item, Item)
        key = "0x" + storage_key(item, []).hex()
        stored = await self.values([key], place)
        with self.reading("a block's events"):
            index = block["block"]["extrinsics"].index("0x" + raw.hex())
            phase = {"ApplyExtrinsic": index}
            events, shown = (
                [record["event"] for record in each.decode(item.value, stored[key]) if record["phase"] == phase]
                for each in (self.codec, codec)
            )
            failure, fee = None, 0
            inner: list[tuple[str, Failure]] = []
            for name, inside in (pair for event in events for pair in event.items()):
                match name, inside:
                    case "System.ExtrinsicFailed", {"dispatch_error": error}:
                        failure = self.explain(error)
                    case "TransactionPayment.TransactionFeePaid", {"actual_fee": int(paid)}:
                        fee += paid
                    case "Utility.BatchInterrupted", {"index": int(place_of), "error": error}:
                        inner.append((f"call {place_of} of the batch", self.explain(error)))
                    case "Utility.ItemFailed", {"error": error}:
                        inner.append(("a call of the batch", self.explain(error)))
                    case _, dict():
                        errors = (each["Err"] for each in inside.values() if isinstance(each, dict) and "Err" in each)
                        inner += [("the call inside", self.explain(error)) for error in errors]
            is_news = [not name.startswith("System.Extrinsic") for event in events for name in event]
            told = [event for event, is_told in zip(shown, is_news, strict=True) if is_told]
        return Outcome(place, index, failure, inner, fee, told)

    async def submit(self, raw: bytes) -> str:
        """Hand a signed transaction to the node's pool; its hash."""
        return str(await self.client.request("author_submitExtrinsic", "0x" + raw.hex()))

    @asynccontextmanager
    async def watched(self, raw: bytes) -> AsyncIterator[Stream]:
        """Hand it over and be told what becomes of it, for `news_of`; RpcError where it is refused."""
        async with self.client.subscribe("author_submitAndWatchExtrinsic", "0x" + raw.hex()) as stream:
            yield stream


def news_of(update: object) -> tuple[str, str | None]:
    """What a node says of a transaction that is watched: (`ready`, None), (`inBlock`, hash), (`finalized`, hash).

    TransactionDropped where it left the pool for no block.
    """
    match update:
        case {"inBlock": str(found)}:
            return "inBlock", found
        case {"finalized": str(found)}:
            return "finalized", found
        case {"usurped": found}:
            raise TransactionDropped(f"it was replaced by {found}, which has the same nonce and pays more")
        case "invalid" | "dropped":
            raise TransactionDropped(f"it left the pool as {update}: check nonce and balance, and send it again")
    return str(update), None


def map_keys(codec: Codec, item: Item, raw: bytes) -> list[Value]:
    """The keys that a map's storage key was made of."""
    assert isinstance(item.entry.type, Map)
    offset, keys = 32, []
    for number, hasher in zip(item.keys, item.entry.type.hashers, strict=True):
        value, offset = codec.decode_at(number, raw, offset + _HASH[hasher][1])
        keys.append(value)
    if offset != len(raw):
        raise ScaleError(f"expected a storage key of {offset} bytes, got {len(raw)}")
    return keys


def for_people(codec: Codec, token: Token) -> Codec:
    """The same codec, which decodes amounts to `1.5 POT`."""

    def number(kind: PrimitiveKind, value: int) -> int | str:
        return token.format(value) if kind is PrimitiveKind.u128 else value

    return Codec(codec.metadata, replace(codec.words, number=number))


def _exact(kind: PrimitiveKind, value: int) -> int | str:
    return str(value) if int(kind.name[1:]) >= 64 else value


def storage_key(item: Item, keys: list[bytes]) -> bytes:
    """The storage key of a value, or the prefix of a map's entries, from keys that are encoded."""
    prefix = storage_prefix(item.prefix, item.name)
    if not keys:
        return prefix
    assert isinstance(item.entry.type, Map)
    return prefix + b"".join(
        _HASH[hasher][0](key) for hasher, key in zip(item.entry.type.hashers[: len(keys)], keys, strict=True)
    )


@asynccontextmanager
async def open_chain(url: str, words: Callable[[Token, int], Words]) -> AsyncIterator[Chain]:
    """A chain by one of its nodes; `words` says how its people write, for its token and its SS58 prefix."""
    async with AsyncExitStack() as stack:
        with waiting(f"waiting for {url} to answer …"):
            chain = await _chain(await stack.enter_async_context(Client.connect(url)), words)
        yield chain


async def _chain(client: Client, words: Callable[[Token, int], Words]) -> Chain:
    properties = await client.request("system_properties")
    name = await client.request("system_chain")
    genesis = await client.request("chain_getBlockHash", 0)
    version = await client.request("state_getRuntimeVersion")
    try:
        token, prefix = told_token(properties), int(properties["ss58Format"])
        return Chain(
            client=client,
            codec=Codec(Metadata.parse(await _metadata(client)), words(token, prefix)),
            token=token,
            prefix=prefix,
            name=str(name)[:80],
            genesis_hash=_unhex(genesis),
            spec_name=str(version["specName"])[:80],
            spec_version=int(version["specVersion"]),
            transaction_version=int(version["transactionVersion"]),
        )
    except (MetadataError, KeyError, TypeError, ValueError) as error:
        raise ClientError(f"{client.url} does not describe its chain as nodes do: {error}") from None


async def _metadata(client: Client) -> bytes:
    """The newest metadata that the node and we know: V15, which has modules' documentation, else V14."""
    try:
        answer = _unhex(await client.request("state_call", "Metadata_metadata_at_version", "0x0f000000"))
        if answer[:1] == b"\1":
            return BYTES.decode(answer[1:])
    except (RpcError, ScaleError, ValueError):
        pass
    return _unhex(await client.request("state_getMetadata"))


def _unhex(text: Any) -> bytes:
    """The bytes of a 0x-prefixed hex string from a node; ValueError or TypeError for anything else."""
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError(f"expected 0x and hex digits, got {str(text)[:80]!r}")
    return bytes.fromhex(text[2:])
