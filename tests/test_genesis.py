"""The genesis file: what is wrong with it is said in one line that names the field."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from genesis.spec import load
from runtime.types import GenesisError

TESTNET = Path(__file__).resolve().parent.parent / "genesis" / "testnet.json"

MINIMAL: dict[str, Any] = {
    "name": "Test",
    "id": "test",
    "chainType": "Local",
    "properties": {"tokenSymbol": "POT", "tokenDecimals": 12, "ss58Format": 42},
    "consensus": {"blockTimeMs": 1000, "timeoutMs": 3000, "timeoutMsMax": 20000},
    "bootnodes": ["127.0.0.1:30333"],
    "development": {
        "validators": [{"name": "alice", "key": "//Alice"}],
        "workers": [{"name": "eve", "key": "//Eve"}],
        "aggregators": [],
    },
    "genesis": {"balances": {"balances": []}},
}


def written(tmp_path: Path, value: object) -> Path:
    path = tmp_path / "genesis.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    spec = load(written(tmp_path, MINIMAL))
    assert (spec.name, spec.properties.token_symbol, spec.timing.block_time_ms) == ("Test", "POT", 1000)
    assert str(spec.bootnodes[0]) == "127.0.0.1:30333"
    found = spec.validator_key("alice")
    assert found is not None
    assert (found[0], found[1].uri) == (0, "//Alice")
    assert spec.validator_key("eve") is None


def test_the_testnet_file_is_good() -> None:
    spec = load(TESTNET)
    assert spec.development is not None
    assert [key.name for key in spec.development.validators] == ["alice", "bob", "charlie", "dave"]
    assert spec.blobs is not None
    assert spec.blobs.is_dir()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("name",), None, "name: missing"),
        (("name",), 7, "name: expected text of at most 256 bytes, got 7"),
        (("id",), "../up", "expected a name of letters"),
        (("chainType",), "Toy", "chainType: expected one of Development, Local, Live, got 'Toy'"),
        (("properties", "tokenDecimals"), "12", "properties.tokenDecimals: expected a whole number, got '12'"),
        (("properties", "ss58Format"), True, "properties.ss58Format: expected a whole number, got True"),
        (("properties", "ss58Format"), 7, "properties.ss58Format: expected 42, as the runtime has it, got 7"),
        (("consensus", "timeoutMs"), 10, "consensus.timeoutMs: expected 1000 to 600000, got 10"),
        (("bootnodes",), {}, "bootnodes: expected a list, got {}"),
        (("bootnodes",), ["here"], "bootnodes[0]: expected HOST:PORT, got 'here'"),
        (("bootnodes",), ["here:٣٠"], "bootnodes[0]: expected HOST:PORT, got 'here:٣٠'"),
        (("bootnodes",), ["here:" + "9" * 5000], "bootnodes[0]: expected HOST:PORT, got 'here:999"),
        (("bootnodes",), ["::1:30333"], "bootnodes[0]: expected HOST:PORT, got '::1:30333'"),
        (("bootnodes",), ["[::1:1"], "bootnodes[0]: expected HOST:PORT, got '[::1:1'"),
        (("bootnodes",), ["[here]:1"], "bootnodes[0]: expected HOST:PORT, got '[here]:1'"),
        (("bootnodes",), ["no host:1"], "bootnodes[0]: expected HOST:PORT, got 'no host:1'"),
        (("development", "workers"), [{"name": "alice", "key": "//A"}], "two keys are called 'alice'"),
        (("development", "workers"), [{"name": "eve"}], "development.workers[0].key: missing"),
        (("genesis", "balances"), [], "genesis.balances: expected an object, got []"),
        (("runtime",), {}, "runtime: expected text of at most 256 bytes, got {}"),
        (("runtime",), "my_chain", "runtime: expected MODULE:NAME, such as runtime.potchain:RUNTIME, got 'my_chain'"),
        (("runtime",), "no_such_chain:RUNTIME", "runtime: no Python module no_such_chain: put no_such_chain.py into"),
        (("runtime",), "runtime.potchain:POTCHAIN", "runtime: runtime.potchain has no Runtime POTCHAIN"),
        (("blockTime",), 1, "blockTime: unknown field"),
        (("properties", "colour"), 1, "properties.colour: unknown field"),
    ],
)
def test_a_bad_field_is_named(tmp_path: Path, path: tuple[str, ...], value: object, message: str) -> None:
    spec = copy.deepcopy(MINIMAL)
    target = spec
    for name in path[:-1]:
        target = target[name]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    with pytest.raises(GenesisError) as caught:
        load(written(tmp_path, spec))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON: Expecting property name"),
        ("[]", "the file: expected an object, got []"),
        ('{"name": "a", "name": "b"}', "name: given twice"),
        (r'{"name": "\ud800"}', r"not text: an escape such as \ud800 is half of a character"),
        ('{"name": ' + "9" * 5000 + "}", "not JSON that can be read: Exceeds the limit"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GenesisError, match="genesis file") as caught:
        load(written(tmp_path, text))
    assert message in str(caught.value)


def test_a_missing_file_is_named_with_the_flag_to_give() -> None:
    with pytest.raises(GenesisError, match=r"cannot read genesis file /nowhere\.json: No such file.*--genesis"):
        load(Path("/nowhere.json"))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    path.write_bytes(b'{"name": "\xff"}')
    with pytest.raises(GenesisError, match="not UTF-8 text: bad byte at offset"):
        load(path)


@pytest.mark.parametrize("role", ["workers", "aggregators"])
def test_processes_that_would_have_no_work_are_refused(tmp_path: Path, role: str) -> None:
    names = json.loads((TESTNET.parent.parent / "tests" / "third_party" / "genesis.json").read_text())
    names["development"][role] = [{"name": "eve", "key": "//Eve"}]
    (tmp_path / "names_chain").symlink_to(TESTNET.parent.parent / "tests" / "third_party" / "names_chain")
    with pytest.raises(GenesisError) as caught:
        load(written(tmp_path, names))
    assert str(caught.value).endswith(f"development.{role}: the runtime has no Training; remove them")
