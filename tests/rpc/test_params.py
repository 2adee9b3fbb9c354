"""Parameters are read by the handler's annotations, and a wrong one is named."""

from __future__ import annotations

import pytest

from chain.primitives import ss58
from chain.rpc.errors import Code, RpcError
from chain.rpc.params import AccountParam, BlockHash, Height, HexBytes, PageSize, bind, parameters_of


def handler(context: object, key: HexBytes, count: PageSize, at: BlockHash | None = None) -> None: ...


def height(context: object, at: Height) -> None: ...


def account(context: object, who: AccountParam) -> None: ...


HASH = "0x" + "ab" * 32


def test_positions_and_names_give_the_same_arguments() -> None:
    parameters = parameters_of(handler)
    assert bind(parameters, ["0x01", 5, HASH]) == [b"\1", 5, b"\xab" * 32]
    assert bind(parameters, {"count": 5, "key": "0x01", "at": HASH}) == [b"\1", 5, b"\xab" * 32]
    assert bind(parameters, ["0x01", 5]) == bind(parameters, ["0x01", 5, None]) == [b"\1", 5, None]


def test_hex_is_read_without_0x_too_as_substrate_reads_it() -> None:
    parameters = parameters_of(handler)
    assert bind(parameters, ["01", 5, HASH[2:]]) == bind(parameters, ["0x01", 5, HASH])
    assert bind(parameters, ["", 5]) == bind(parameters, ["0x", 5]) == [b"", 5, None]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "parameter 1 (key) is missing"),
        (["0x1", 5], "parameter 1 (key): expected 0x and hex digits, got '0x1'"),
        (["0x01", 1001], "parameter 2 (count): expected an integer from 0 to 1000, got 1001"),
        (["0x01", True], "parameter 2 (count)"),
        (["0x01", 5, "0x00"], "parameter 3 (at): expected 0x and 64 hex digits, got '0x00'"),
        (["0x01", 5, HASH, 1], "expected at most 3 parameters, got 4"),
        ({"key": "0x01", "wrong": 1}, "no parameter is called 'wrong'"),
        (["0x 00", 5], "got '0x 00'"),
        (["0X00", 5], "got '0X00'"),
        ([[1, [2]], 5], "got an array of 2"),
        ([{"a": 1}, 5], "got an object of 1"),
    ],
)
def test_a_wrong_parameter_is_named(given: list[object] | dict[str, object], words: str) -> None:
    with pytest.raises(RpcError) as caught:
        bind(parameters_of(handler), given)
    assert caught.value.code == Code.INVALID_PARAMS
    assert words in str(caught.value.data)


def test_a_height_is_a_number_or_hex() -> None:
    assert bind(parameters_of(height), [16]) == bind(parameters_of(height), ["0x10"]) == [16]
    for wrong in (-1, 2**32, "16", 1.5, True):
        with pytest.raises(RpcError, match="height"):
            bind(parameters_of(height), [wrong])


def test_an_account_is_an_address_of_any_network_or_a_public_key() -> None:
    public = bytes(range(32))
    for text in (ss58.encode(public), ss58.encode(public, 0), "0x" + public.hex()):
        assert bind(parameters_of(account), [text]) == [public]
    for wrong in ("5Grwva", "0x00", 7):
        with pytest.raises(RpcError, match="who"):
            bind(parameters_of(account), [wrong])


def test_a_long_value_is_quoted_in_part() -> None:
    with pytest.raises(RpcError) as caught:
        bind(parameters_of(account), ["z" * 5000])
    assert len(str(caught.value.data)) < 400
