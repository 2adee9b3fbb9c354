"""What people write on a command line for a value of a chain's types, and how they are told what to write.

Rule: a word is JSON only where its type has no simpler form, and files are read for words alone, never for what stands
inside JSON: a list of calls that somebody else wrote must not put a file of this machine on chain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NoReturn

from chain.wallet.codec import SHOWN_MAX, Codec, Value, WordError, is_whole, shown
from chain.wallet.metadata import Call
from runtime.metadata_types import (
    CompactOf,
    Composite,
    Field,
    FixedArray,
    Primitive,
    PrimitiveKind,
    Sequence,
    TupleOf,
    Variants,
)

# Deeper types are named, not spelled out.
DESCRIBED_DEPTH: Final = 3
# What is missing is explained in as many characters as one can read at once.
DESCRIBED_MAX: Final = 240
NONE: Final = ("none", "null")

ReadFile = Callable[[str], bytes]


def read_word(codec: Codec, number: int, word: str, read_file: ReadFile) -> bytes:
    """The bytes of a value from a word: an address, an amount, a name, JSON, or `@` and a file. WordError otherwise."""
    return codec.encode(number, _value(codec, number, word, read_file))


def read_call(codec: Codec, call: Call, words: Mapping[str, str], read_file: ReadFile) -> bytes:
    """The bytes of a call from a word for each of its arguments; WordError names the argument that is wrong."""
    fields = {option(field.name or str(place)): field.type for place, field in enumerate(call.fields)}
    given = {option(name): word for name, word in words.items()}
    for name in given.keys() - fields.keys():
        takes = f"it takes --{', --'.join(fields)}" if fields else "it takes none"
        raise WordError(f"{call.path} has no argument --{name[:SHOWN_MAX]}: {takes}")
    missing = {name: kind(codec, number) for name, number in fields.items() if name not in given}
    if missing:
        needs = ", ".join(f"--{name} ({what})" for name, what in missing.items())
        if len(needs) > DESCRIBED_MAX:
            needs = f"--{', --'.join(missing)}; what each is, says --help"
        raise WordError(f"{call.path} needs {needs}")
    parts = [call.prefix]
    for name, number in fields.items():
        try:
            parts.append(read_word(codec, number, given[name], read_file))
        except WordError as error:
            text = str(error)
            raise WordError(f"--{name}{'' if text.startswith(('[', '.')) else ': '}{text}") from None
    return b"".join(parts)


def read_json(text: str) -> Value:
    """JSON of whole numbers and of names that appear once; WordError for anything else."""
    try:
        return json.loads(text, parse_float=_no_float, parse_constant=_no_float, object_pairs_hook=_once)
    except WordError:
        raise
    except RecursionError:
        raise WordError("expected JSON, got values nested without end") from None
    except ValueError as error:
        raise WordError(f"expected JSON, got {shown(text)} ({error})") from None


def _no_float(text: str) -> NoReturn:
    raise WordError(f'expected whole numbers, and amounts with their unit as in "1.5POT", got {shown(text)}')


def _once(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in pairs:
        if name in found:
            raise WordError(f"{shown(name)} appears twice in JSON")
        found[name] = value
    return found


def _value(codec: Codec, number: int, word: str, read_file: ReadFile) -> Value:
    """A word as the codec takes it: text for what has a written form, else JSON."""
    if number == codec.metadata.call_type:
        return _json_word(word, read_file)
    type = codec.metadata.type(number)
    match type.definition:
        case Primitive(PrimitiveKind.u128) | CompactOf():
            _check_amount(codec, number, word)
        case Primitive():
            pass
        case Sequence(inner) | FixedArray(type=inner) if codec.is_u8(inner):
            return f"0x{read_file(word[1:]).hex()}" if word.startswith("@") else word
        case Composite() if codec.is_account(type):
            pass
        case Composite(fields) if len(fields) == 1 and fields[0].name is None:
            return _value(codec, fields[0].type, word, read_file)
        case Variants(variants) if type.path == ("Option",) and len(variants) == 2 and variants[1].fields:
            inner = variants[1].fields[0].type
            if word.lower() in NONE:
                return None
            value = _value(codec, inner, word, read_file)
            return {"Some": value} if codec.may_be_none(inner) else value
        case Variants() if not word.startswith(("{", "@")):
            pass
        case _:
            return _json_word(word, read_file)
    return word


def _json_word(word: str, read_file: ReadFile) -> Value:
    if not word.startswith("@"):
        return read_json(word)
    try:
        return read_json(read_file(word[1:]).decode())
    except UnicodeDecodeError:
        raise WordError(f"{word[1:]}: expected JSON, got what is no text") from None
    except WordError as error:
        raise WordError(f"{word[1:]}: {error}") from None


def _check_amount(codec: Codec, number: int, word: str) -> None:
    """A bare number could be meant in tokens, of which it is a trillionth: an amount has its unit."""
    definition = codec.metadata.type(number).definition
    if isinstance(definition, CompactOf) and codec.compact_kind(definition.type) is not PrimitiveKind.u128:
        return
    if is_whole(word) and int(word) != 0:
        try:
            codec.words.amount(word)
        except ValueError as error:
            raise WordError(str(error)) from None


# --- what to write -------------------------------------------------------------------------------------------------


def option(name: str) -> str:
    """An argument's name as options are written."""
    return name.replace("_", "-")


def kind(codec: Codec, number: int, depth: int = 0) -> str:
    """What a value of a type looks like, in a few words."""
    if number == codec.metadata.call_type:
        return 'a call as JSON, {"module.call": {…}}'
    if codec.is_address(number):
        return "an address"
    type = codec.metadata.type(number)
    name = type.path[-1] if type.path else ""
    if depth >= DESCRIBED_DEPTH:
        return name or "…"
    depth += 1
    match type.definition:
        case Primitive(PrimitiveKind.bool):
            return "true or false"
        case Primitive(PrimitiveKind.str):
            return "text"
        case Primitive(PrimitiveKind.char):
            return "a character"
        case Primitive(PrimitiveKind.u128):
            return "an amount"
        case Primitive(found):
            return f"a number ({found.name})" if depth == 1 else found.name
        case CompactOf(inner):
            return kind(codec, inner, depth)
        case Sequence(inner) if codec.is_u8(inner):
            return "text, 0x and hex digits, or @FILE"
        case FixedArray(length, inner) if codec.is_u8(inner):
            return f"0x and {2 * length} hex digits"
        case Sequence(inner):
            return f"a list as JSON, each {kind(codec, inner, depth)}"
        case FixedArray(length, inner):
            return f"a list of {length} as JSON, each {kind(codec, inner, depth)}"
        case TupleOf(types):
            return f"a list as JSON: [{'; '.join(kind(codec, inner, depth) for inner in types)}]"
        case Composite(fields):
            if len(fields) == 1 and fields[0].name is None:
                return kind(codec, fields[0].type, depth - 1) if depth < DESCRIBED_DEPTH else name
            return f"JSON {{{_fields(codec, fields, depth)}}}"
        case Variants(variants) if type.path == ("Option",) and len(variants) == 2 and variants[1].fields:
            return f"{kind(codec, variants[1].fields[0].type, depth - 1)}, or none"
        case Variants(variants):
            names = [f"{each.name}:…" if each.fields else each.name for each in variants[:8]]
            return " or ".join(names) + (" or …" if len(variants) > 8 else "")


def _fields(codec: Codec, fields: tuple[Field, ...], depth: int) -> str:
    return ", ".join(f"{field.name or '_'}: {kind(codec, field.type, depth)}" for field in fields)
