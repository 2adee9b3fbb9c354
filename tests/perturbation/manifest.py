"""A manifest: which network runs, and what is done to it, one perturbation after the other.

It is read strictly: what is unknown, missing or out of bounds is refused with what was expected, so that a misspelt
fault cannot pass as one that was survived.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.genesis import Section, integer, show
from runtime.types import GenesisError

SECONDS_MAX: Final = 600.0
PERTURBATIONS_MAX: Final = 100
NODES_MAX: Final = 16  # each takes some 90 MB and a share of the processors
# A hundred payments a second are four hundred payers: about what one client's loop keeps up with.
RATE_MAX: Final = 100
VALIDATORS: Final = ("alice", "bob", "charlie", "dave", "eve", "ferdie")
GROUPS: Final = ("nodes", "validators", "processes")


class ManifestError(Exception):
    """The manifest cannot be used; the message says where, what was expected and what came."""


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What runs. `late` names the nodes that a `start` brings; with `trains`, auditors and workers run beside them."""

    validators: int
    full_nodes: int
    trains: bool
    transfers_per_second: int
    late: tuple[str, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all nodes, validators first."""
        named = VALIDATORS[: self.validators]
        more = tuple(f"validator-{i + 1}" for i in range(len(named), self.validators))
        return named + more + tuple(f"full-{i + 1}" for i in range(self.full_nodes))


@dataclass(frozen=True, slots=True)
class Who:
    """Processes by name or group, of which `pick` are drawn each time; all of them when it is 0."""

    names: tuple[str, ...]
    pick: int


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL, all at once; then start them again. Unless `waits`, the next kill does not wait for a recovery."""

    who: Who
    times: int
    rest_seconds: tuple[float, float]
    waits: bool


@dataclass(frozen=True, slots=True)
class Restart:
    """SIGTERM, an orderly end, then start again."""

    who: Who


@dataclass(frozen=True, slots=True)
class Stop:
    """SIGSTOP for a while, then SIGCONT."""

    who: Who
    seconds: float


@dataclass(frozen=True, slots=True)
class Wipe:
    """SIGKILL, lose the data folder, start with nothing."""

    who: Who


@dataclass(frozen=True, slots=True)
class Start:
    """Start nodes that are `late`."""

    who: Who


@dataclass(frozen=True, slots=True)
class Partition:
    """Nothing passes between groups: links fall silent, or with `hangs_up` break and refuse."""

    groups: tuple[tuple[str, ...], ...]
    seconds: float
    hangs_up: bool


@dataclass(frozen=True, slots=True)
class SlowLinks:
    """All that these nodes send and get takes so many milliseconds more, drawn anew for each piece."""

    who: Who
    delay_ms: tuple[float, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class FullDisk:
    """The file system of these nodes' folders has not a byte left: they end, say why, and start when there is room."""

    who: Who
    seconds: float


@dataclass(frozen=True, slots=True)
class Garbage:
    """Random bytes, endless lines, and connections that say nothing, on both ports of these nodes."""

    who: Who
    seconds: float


@dataclass(frozen=True, slots=True)
class Flood:
    """So many connections to each node send calls as fast as it takes them."""

    who: Who
    connections: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SlowReaders:
    """So many connections to each node subscribe so many times each, and never read."""

    who: Who
    connections: int
    subscriptions: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing but the load: block times that others are compared with."""

    seconds: float


Perturbation = (
    Kill | Restart | Stop | Wipe | Start | Partition | SlowLinks | FullDisk | Garbage | Flood | SlowReaders | Rest
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a run is told. Without progress for `recovery_seconds_max` after a fault has healed, it has failed."""

    path: Path
    seed: int
    network: NetworkPlan
    blocks_min: int
    recovery_seconds_max: float
    perturbations: tuple[Perturbation, ...]

    @property
    def needs_links(self) -> bool:
        """Whether the nodes' connections have to go through links of ours."""
        return any(isinstance(each, Partition | SlowLinks) for each in self.perturbations)

    @property
    def small_disks(self) -> frozenset[str]:
        """The nodes whose folders need a file system of their own."""
        return frozenset(name for each in self.perturbations if isinstance(each, FullDisk) for name in each.who.names)


def read(path: Path) -> Manifest:
    """The manifest in a TOML file; raises ManifestError."""
    try:
        return _manifest(path, Section("", tomllib.loads(path.read_text())))
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}; see tests/perturbation/manifests") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not TOML: {error}") from None
    except GenesisError as error:  # What a section raises.
        raise ManifestError(f"{path}: {error}") from None


def _manifest(path: Path, section: Section) -> Manifest:
    network = _network(section.section("network"))
    found = [
        _perturbation(Section(at, value), network)
        for (at, value), _ in zip(section.items("perturb"), range(PERTURBATIONS_MAX), strict=False)
    ]
    manifest = Manifest(
        path,
        _integer(section, "seed", 0, 0, 1 << 32),
        network,
        section.integer("blocks_min", 1, 100_000),
        _seconds(section, "recovery_seconds_max", 60.0),
        tuple(found),
    )
    section.finish()
    if not found:
        raise GenesisError("perturb: expected at least one [[perturb]]")
    return manifest


def _network(section: Section) -> NetworkPlan:
    network = NetworkPlan(
        section.integer("validators", 1, NODES_MAX),
        _integer(section, "full_nodes", 0, 0, NODES_MAX),
        _flag(section, "trains", False),
        _integer(section, "transfers_per_second", 0, 0, RATE_MAX),
        _names(section.at("late"), section.value("late", [])),
    )
    section.finish()
    if len(network.nodes) > NODES_MAX:
        raise GenesisError(f"{section.path}: expected at most {NODES_MAX} nodes, got {len(network.nodes)}")
    if network.trains and network.validators != 4:
        raise GenesisError(f"{section.at('validators')}: expected 4, as the testnet's training has, with trains = true")
    _require_nodes(section.at("late"), network.late, network)
    return network


def _perturbation(section: Section, network: NetworkPlan) -> Perturbation:
    kind = section.value("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise GenesisError(f"{section.at('kind')}: expected one of {', '.join(_KINDS)}, got {show(kind)}")
    found = _KINDS[kind](section, network)
    section.finish()
    match found:
        case Wipe(who) | Start(who) | SlowLinks(who) | FullDisk(who) | Garbage(who) | Flood(who) | SlowReaders(who):
            if not who.names:
                raise GenesisError(f"{section.at('who')}: expected nodes, got processes")
        case Partition(groups):
            _require_nodes(section.at("groups"), [name for group in groups for name in group], network)
    if isinstance(found, Start) and not set(found.who.names) <= set(network.late):
        raise GenesisError(f"{section.at('who')}: expected nodes that are late, got {', '.join(found.who.names)}")
    return found


def _kill(section: Section, network: NetworkPlan) -> Kill:
    return Kill(
        _who(section, network),
        _integer(section, "times", 1, 1, 1000),
        _range(section, "rest_seconds", (0.5, 1.5), SECONDS_MAX),
        _flag(section, "waits", True),
    )


def _partition(section: Section, network: NetworkPlan) -> Partition:
    groups = tuple(_names(at, value) for at, value in section.items("groups"))
    named = [name for group in groups for name in group]
    if len(groups) < 2 or len(named) != len(set(named)):
        raise GenesisError(f"{section.at('groups')}: expected two lists of nodes or more, no node twice")
    return Partition(groups, _seconds(section, "seconds"), _flag(section, "hangs_up", False))


_KINDS: Final[dict[str, Callable[[Section, NetworkPlan], Perturbation]]] = {
    "kill": _kill,
    "restart": lambda section, network: Restart(_who(section, network)),
    "stop": lambda section, network: Stop(_who(section, network), _seconds(section, "seconds")),
    "wipe": lambda section, network: Wipe(_who(section, network)),
    "start": lambda section, network: Start(_who(section, network)),
    "partition": _partition,
    "slow-links": lambda section, network: SlowLinks(
        _who(section, network), _range(section, "delay_ms", None, 10_000.0), _seconds(section, "seconds")
    ),
    "full-disk": lambda section, network: FullDisk(_who(section, network), _seconds(section, "seconds")),
    "garbage": lambda section, network: Garbage(_who(section, network), _seconds(section, "seconds")),
    "flood": lambda section, network: Flood(
        _who(section, network), section.integer("connections", 1, 256), _seconds(section, "seconds")
    ),
    "slow-readers": lambda section, network: SlowReaders(
        _who(section, network),
        section.integer("connections", 1, 256),
        section.integer("subscriptions", 1, 256),
        _seconds(section, "seconds"),
    ),
    "rest": lambda section, _: Rest(_seconds(section, "seconds")),
}


def _who(section: Section, network: NetworkPlan) -> Who:
    """A list of names, or a group: all nodes, all validators, or all processes, workers too."""
    value = section.value("who")
    at = section.at("who")
    if value == "nodes":
        names = network.nodes
    elif value == "validators":
        names = network.nodes[: network.validators]
    elif value == "processes":
        names = ()  # Whatever runs then.
    elif isinstance(value, str):
        raise GenesisError(f"{at}: expected a list of names, or one of {', '.join(GROUPS)}, got {show(value)}")
    else:
        names = _names(at, value)
        _require_nodes(at, names, network)
        if not names:
            raise GenesisError(f"{at}: expected a name at least")
    return Who(names, _integer(section, "pick", 0, 0, len(names) or NODES_MAX))


def _require_nodes(at: str, names: Sequence[str], network: NetworkPlan) -> None:
    for name in names:
        if name not in network.nodes:
            raise GenesisError(f"{at}: expected nodes of {', '.join(network.nodes)}, got {show(name)}")


def _names(at: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value) or len(set(value)) < len(value):
        raise GenesisError(f"{at}: expected a list of different names, got {show(value)}")
    return tuple(value)


def _integer(section: Section, name: str, default: int, least: int, most: int) -> int:
    return integer(section.at(name), section.value(name, default), least, most)


def _flag(section: Section, name: str, default: bool) -> bool:
    value = section.value(name, default)
    if not isinstance(value, bool):
        raise GenesisError(f"{section.at(name)}: expected true or false, got {show(value)}")
    return value


def _number(at: str, value: object, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise GenesisError(f"{at}: expected a number from 0 to {most:g}, got {show(value)}")
    return float(value)


def _seconds(section: Section, name: str, default: float | None = None) -> float:
    value = section.value(name) if default is None else section.value(name, default)
    return _number(section.at(name), value, SECONDS_MAX)


def _range(section: Section, name: str, default: tuple[float, float] | None, most: float) -> tuple[float, float]:
    value = section.value(name) if default is None else section.value(name, list(default))
    if not isinstance(value, list) or len(value) != 2:
        raise GenesisError(f"{section.at(name)}: expected [least, greatest], got {show(value)}")
    least, greatest = (_number(section.at(name), each, most) for each in value)
    if least > greatest:
        raise GenesisError(f"{section.at(name)}: expected [least, greatest], got {show(value)}")
    return least, greatest
