"""Settings: one precedence for all flags, names that follow from them, and a file that is read strictly."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from chain import cli
from chain.environment import environment_of_children
from chain.keystore import read_secret
from chain.settings import FILE_BYTES_MAX, ConfigOption, default_file, name_variables, settings_of


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in environment_of_children().keys() ^ os.environ.keys():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def run(*words: str | Path) -> int:
    """Run a command in this process; its exit code."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    code = ended.value.code
    return code if isinstance(code, int) else 0


def shown(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, tuple[str, str]]:
    """Each setting's value, and where it came from."""
    assert run(*words, "config", "show", "--all", "--json") == 0
    table: dict[str, dict[str, Any]] = json.loads(capsys.readouterr().out)
    return {key: (row["value"], row["from"]) for key, row in table.items()}


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert run(*words) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    return text


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_flag_counts_before_a_variable_that_before_the_file_and_that_before_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "node.toml", 'rpc-port = 1001\nport = 1002\nname = "file"\nbootnode = ["a:1", "b:2"]\n')
    monkeypatch.setenv("POTCHAIN_RPC_PORT", "2001")
    monkeypatch.setenv("POTCHAIN_PORT", "2002")
    found = shown(capsys, "--config", file, "--rpc-port", "3001")
    assert found["rpc-port"] == ("3001", "flag")
    assert found["port"] == ("2002", "POTCHAIN_PORT")
    assert found["name"] == ("file", str(file))
    assert found["bootnode"] == ("a:1,b:2", str(file))
    assert found["sync"] == ("full", "default")


def test_the_users_file_is_read_where_no_other_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(default_file(), "rpc-external = true\n")
    assert shown(capsys)["rpc-external"] == ("true", str(default_file()))
    other = written(tmp_path / "other.toml", "")
    monkeypatch.setenv("POTCHAIN_CONFIG", str(other))
    assert shown(capsys)["rpc-external"] == ("false", "default")


def test_a_command_has_a_table_of_its_own_and_variables_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "node.toml", '[key.new]\nwords = 24\n[worker]\nkey = "//Eve"\n')
    options = ("--config", file, "key", "new", "--no-password", "-o")
    assert run(*options, tmp_path / "one.key") == 0
    assert len(read_secret(tmp_path / "one.key").uri.split()) == 24
    monkeypatch.setenv("POTCHAIN_KEY_NEW_WORDS", "15")
    assert run(*options, tmp_path / "two.key") == 0
    assert len(read_secret(tmp_path / "two.key").uri.split()) == 15
    capsys.readouterr()
    found = shown(capsys, "--config", file)
    assert found["key.new.words"] == ("15", "POTCHAIN_KEY_NEW_WORDS")
    assert found["worker.key"] == ("(a secret)", str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rpc_port = 1", "rpc_port: no such setting; did you mean rpc-port?"),
        ("[worker]\nkeys = 1", "worker.keys: no such setting; did you mean key?"),
        ("[wroker]\nkey = 1", "wroker: no such setting; did you mean worker?"),
        ("xyzzy = 1", "xyzzy: no such setting; potchain config show --all lists the settings"),
        ("worker = 1", "worker: expected a table, [worker], got 1"),
        ('config = "other.toml"', "config: "),
        ('supervised = "x"', "supervised: no such setting"),
        ("rpc-external = 1", "rpc-external: expected true or false, got 1"),
        ("rpc-port = true", "rpc-port: expected a text or a number, got True"),
        ("rpc-port = [1]", "rpc-port: expected a text or a number, got [1]"),
        ("rpc-port = 1979-05-27", "rpc-port: expected a text or a number"),
        ('bootnode = "a:1"', 'bootnode: expected a list such as ["…", "…"], got \'a:1\''),
        ("rpc-port = ", "not TOML: "),
        ("rpc-port = 1\nrpc-port = 2", "not TOML: Cannot overwrite a value"),
    ],
)
def test_what_is_no_setting_is_named_with_the_file_and_the_nearest_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    file = written(tmp_path / "node.toml", text)
    told = refusal(capsys, "--config", file, "config", "show")
    assert f"--config {file}: " in told
    assert message in told


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file" in refusal(capsys, "--config", tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    assert "not TOML" in refusal(capsys, "--config", tmp_path / "bytes.toml")
    endless = Path("/dev/zero")
    assert f"--config {endless}: expected at most {FILE_BYTES_MAX} bytes" in refusal(capsys, "--config", endless)
    deep = written(tmp_path / "deep.toml", f"port = {'[' * 50_000}")
    assert "nested without end" in refusal(capsys, "--config", deep)


def test_a_value_that_the_flag_refuses_is_refused_with_where_it_came_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "node.toml", "rpc-port = 70000\n")
    assert f"--rpc-port: expected a whole number from 1 to 65535, got '70000' (from {file})" in refusal(
        capsys, "--config", file
    )
    monkeypatch.setenv("POTCHAIN_RPC_PORT", "many")
    assert "(from POTCHAIN_RPC_PORT)" in refusal(capsys, "--config", file)


def test_a_variable_that_is_no_settings_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTCHAIN_RPCPORT", "1")
    assert run("config", "show") == 0
    assert "POTCHAIN_RPCPORT is no setting's variable, and is not read" in capsys.readouterr().out


def test_no_two_settings_of_the_command_line_have_one_variable() -> None:
    variables = [setting.variable for setting in settings_of(cli.command_line())]
    assert len(set(variables)) == len(variables) > 60


def test_a_command_that_is_called_as_a_flag_leaves_the_files_key_to_the_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app, inner = typer.Typer(), typer.Typer()

    @app.callback()
    def root(config: ConfigOption = None, genesis: str = "") -> None:
        print("genesis", genesis)

    @inner.command()
    def new(name: str = "nobody") -> None:
        print("new", name)

    @inner.command()
    def check() -> None: ...

    app.add_typer(inner, name="genesis")
    command = typer.main.get_command(app)
    name_variables(command)
    file = written(tmp_path / "node.toml", 'genesis = "file.json"\n')
    command(["--config", str(file), "genesis", "new"], standalone_mode=False)
    assert capsys.readouterr().out == "genesis file.json\nnew nobody\n"


def test_children_are_told_nothing_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTCHAIN_VALIDATOR", "alice")
    monkeypatch.setenv("POTCHAIN_CONFIG", "/some/file")
    monkeypatch.setenv("HOME", "/root")
    found = environment_of_children()
    assert found["HOME"] == "/root"
    assert {name: value for name, value in found.items() if name.startswith("POTCHAIN_")} == {
        "POTCHAIN_CONFIG": os.devnull
    }
