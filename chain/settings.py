"""Settings from flags, the environment and a file: a flag counts before a variable, a variable before the file.

Each setting is declared once, as a flag. The name of its variable and its place in the file follow from the flag: those
of `potchain worker --platform` are POTCHAIN_WORKER_PLATFORM, and `platform` below `[worker]`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from chain.cli_common import UserError
from chain.environment import CONFIG, PREFIX

# Far above any real file: the settings of all commands take 10 kB.
FILE_BYTES_MAX = 1024 * 1024
# These say what is to be done rather than how: a file or a variable that gave them would be forgotten there.
_NOT_SETTINGS = frozenset({"help", "version", "config", "debug", "list", "trust-node", "yes"})
_DEFAULT = re.compile(r"\[default: (.*)\]", re.DOTALL)


def default_file() -> Path:
    """The file that is read where no other is given: in the user's settings folder (XDG)."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "potchain" / "config.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    """A flag of one command; `path` are the words of the command."""

    path: tuple[str, ...]
    flag: str
    parameter: Any

    @classmethod
    def of(cls, path: tuple[str, ...], parameter: Any) -> Setting | None:
        """The setting that a command's parameter is; None for an argument, and for what is no setting."""
        flag = next((word[2:] for word in parameter.opts if word.startswith("--")), None)
        if parameter.param_type_name != "option" or flag is None or parameter.hidden or flag in _NOT_SETTINGS:
            return None
        return cls(path, flag, parameter)

    @property
    def variable(self) -> str:
        """The environment variable of this setting."""
        return "_".join((PREFIX, *self.path, self.flag)).replace("-", "_").upper()

    @property
    def key(self) -> str:
        """Where the setting stands in a file, as errors say it."""
        return ".".join((*self.path, self.flag))

    @property
    def default(self) -> str:
        """What holds where nobody says anything else, as the help has it."""
        told = _DEFAULT.search(self.parameter.help or "")
        if told is not None:
            return told.group(1)
        default = self.parameter.default
        return "" if default is None or callable(default) else _shown(default)


def settings_of(command: Any, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting of a command and of those below it."""
    for parameter in command.params:
        if (setting := Setting.of(path, parameter)) is not None:
            yield setting
    for name, child in getattr(command, "commands", {}).items():
        yield from settings_of(child, (*path, name))


def name_variables(command: Any) -> None:
    """Tell each option of a command line of the environment variable that it is called as."""
    for setting in settings_of(command):
        setting.parameter.envvar = setting.variable
        setting.parameter.show_envvar = False  # Each line of the help would say what follows from the flag.
    _keep_apart(command)


def _keep_apart(command: Any) -> None:
    """Where a command is called as a flag beside it, the file's key is the flag's, and the command has no table."""
    flags = {parameter.name for parameter in command.params}
    for name, child in getattr(command, "commands", {}).items():
        if name in flags:
            child.context_settings = {**child.context_settings, "default_map": {}}
        _keep_apart(child)


def read_file(path: Path, command: Any) -> dict[str, Any]:
    """What a file says, as the command line's library takes it; UserError for whatever is no setting's value."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)  # A device would say that it has none, and give without end.
        if len(data) > FILE_BYTES_MAX:
            raise UserError(f"--config {path}: expected at most {FILE_BYTES_MAX} bytes; is it a file of settings?")
        table = tomllib.loads(data.decode())
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}") from None
    except RecursionError:
        raise UserError(f"--config {path}: not settings: its lists are nested without end") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: not TOML: {error}") from None
    return _defaults(path, table, command, ())


def _defaults(file: Path, table: Mapping[str, Any], command: Any, path: tuple[str, ...]) -> dict[str, Any]:
    found_settings = (Setting.of(path, parameter) for parameter in command.params)
    settings = {setting.flag: setting for setting in found_settings if setting is not None}
    commands = {name: each for name, each in getattr(command, "commands", {}).items() if name not in settings}
    found: dict[str, Any] = {}
    for key, value in table.items():
        where = f"--config {file}: {'.'.join((*path, key))}"
        if key in settings:
            found[settings[key].parameter.name] = _value(where, value, settings[key].parameter)
        elif key in commands and isinstance(value, dict):
            found[key] = _defaults(file, value, commands[key], (*path, key))
        elif key in commands:
            raise UserError(f"{where}: expected a table, [{'.'.join((*path, key))}], got {value!r}")
        else:
            near = difflib.get_close_matches(key, [*settings, *commands], n=1, cutoff=0.5)
            meant = f"did you mean {near[0]}?" if near else "potchain config show --all lists the settings"
            raise UserError(f"{where}: no such setting; {meant}")
    return found


def _value(where: str, value: object, parameter: Any) -> object:
    """A value of the right kind. Whether it may be what it is says the flag itself, when it is used."""
    if parameter.is_flag:
        if isinstance(value, bool):
            return value
        raise UserError(f"{where}: expected true or false, got {value!r}")
    if parameter.multiple:
        if isinstance(value, list) and all(_is_plain(item) for item in value):
            return [str(item) for item in value]
        raise UserError(f'{where}: expected a list such as ["…", "…"], got {value!r}')
    if not _is_plain(value):
        raise UserError(f"{where}: expected a text or a number, got {value!r}")
    # As on a command line, where everything is text.
    return str(value)


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the file for what flags and variables do not say."""
    file = path or default_file()
    if path is None and not file.exists():
        return None
    if not context.resilient_parsing:
        context.default_map = read_file(file, context.command)
        context.meta["potchain.config"] = file
    return file


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar=CONFIG,
        show_envvar=False,
        is_eager=True,
        callback=_read_config,
        help="TOML file of settings, named as the flags are. A flag counts before its environment variable "
        f"({PREFIX}_RPC_PORT for --rpc-port), and that before the file. [default: ~/.config/potchain/config.toml]",
        show_default=False,
    ),
]


def origin(context: Any, parameter: Any) -> str:
    """Where a parameter's value came from, in words; empty where nobody gave it."""
    source = context.get_parameter_source(parameter.name)
    match None if source is None else source.name:
        case "COMMANDLINE":
            return "flag"
        case "ENVIRONMENT":
            return str(parameter.envvar)
        case "DEFAULT_MAP":
            return str(context.find_root().meta.get("potchain.config", "file"))
    return ""


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(_shown(item) for item in value)
    return str(getattr(value, "value", value))


@dataclass(frozen=True, slots=True)
class Row:
    """A setting as it holds now."""

    setting: Setting
    value: str
    origin: str  # empty for a default


def rows(context: Any) -> Iterator[Row]:
    """Every setting, with what holds now and where that came from."""
    root = context.find_root()
    given: Mapping[str, Any] = root.default_map or {}
    for setting in settings_of(root.command):
        if not setting.path:
            came_from = origin(root, setting.parameter)
            value = _shown(root.params[setting.parameter.name]) if came_from else setting.default
        elif value := os.environ.get(setting.variable, ""):
            came_from = setting.variable
        elif (found := _look_up(given, setting)) is not None:
            value, came_from = _shown(found), str(root.meta["potchain.config"])
        else:
            value, came_from = setting.default, ""
        is_secret = "KEY" in (setting.parameter.metavar or "") and (value.startswith(("//", "0x")) or " " in value)
        yield Row(setting, "(a secret)" if is_secret else value, came_from)


def _look_up(given: Mapping[str, Any], setting: Setting) -> object | None:
    table: Any = given
    for word in setting.path:
        table = table.get(word)
        if not isinstance(table, dict):
            return None
    found: object | None = table.get(setting.parameter.name)
    return found


def unknown_variables(command: Any) -> list[str]:
    """Variables that look like settings, and are none's."""
    known = {setting.variable for setting in settings_of(command)} | {CONFIG}
    return sorted(name for name in os.environ if name.startswith(f"{PREFIX}_") and name not in known)
