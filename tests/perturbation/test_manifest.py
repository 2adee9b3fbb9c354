"""A manifest means what it says, or is refused with what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.perturbation.manifest import (
    FullDisk,
    Kill,
    Manifest,
    ManifestError,
    NetworkPlan,
    Partition,
    SlowLinks,
    Who,
    read,
)

MANIFESTS = sorted((Path(__file__).parent / "manifests").glob("*.toml"))
HEAD = "blocks_min = 5\n[network]\nvalidators = 4\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "manifest.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_each_manifest_of_ours_can_be_read(path: Path) -> None:
    assert read(path).perturbations


def test_a_manifest_is_read_field_by_field(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        seed = 7
        blocks_min = 5
        recovery_seconds_max = 30

        [network]
        validators = 4
        full_nodes = 1
        transfers_per_second = 20
        late = ["full-1"]

        [[perturb]]
        kind = "kill"
        who = "nodes"
        pick = 2
        times = 3
        rest_seconds = [0, 1.5]
        waits = false

        [[perturb]]
        kind = "partition"
        groups = [["alice"], ["bob", "charlie"]]
        seconds = 2
        hangs_up = true

        [[perturb]]
        kind = "slow-links"
        who = ["dave"]
        delay_ms = [10, 20]
        seconds = 1

        [[perturb]]
        kind = "full-disk"
        who = ["dave"]
        seconds = 0
        """,
    )
    validators = ("alice", "bob", "charlie", "dave")
    assert read(path) == Manifest(
        path=path,
        seed=7,
        network=NetworkPlan(4, 1, False, 20, ("full-1",)),
        blocks_min=5,
        recovery_seconds_max=30.0,
        perturbations=(
            Kill(Who((*validators, "full-1"), 2), 3, (0.0, 1.5), False),
            Partition((("alice",), ("bob", "charlie")), 2.0, True),
            SlowLinks(Who(("dave",), 0), (10.0, 20.0), 1.0),
            FullDisk(Who(("dave",), 0), 0.0),
        ),
    )
    assert read(path).needs_links
    assert read(path).small_disks == {"dave"}


KILL = HEAD + '[[perturb]]\nkind = "kill"\n'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("validators = ", "not TOML"),
        ("blocks_min = 5\n", "network: missing"),
        (HEAD, "perturb: expected at least one [[perturb]]"),
        (HEAD.replace("4", "17"), "network.validators: expected 1 to 16, got 17"),
        (HEAD + 'late = ["eve"]\n', "network.late: expected nodes of alice, bob, charlie, dave, got 'eve'"),
        (HEAD + "speed = 3\n", "network.speed: unknown field"),
        (HEAD + "trains = 1\n", "network.trains: expected true or false, got 1"),
        (HEAD.replace("4", "5") + "trains = true\n", "network.validators: expected 4"),
        (HEAD + '[[perturb]]\nkind = "kil"\n', "perturb[0].kind: expected one of kill, restart, stop"),
        (KILL, "perturb[0].who: missing"),
        (KILL + 'who = "node"\n', "perturb[0].who: expected a list of names, or one of nodes, validators, processes"),
        (KILL + 'who = ["mallory"]\n', "perturb[0].who: expected nodes of alice, bob, charlie, dave, got 'mallory'"),
        (KILL + "who = []\n", "perturb[0].who: expected a name at least"),
        (KILL + 'who = "nodes"\npick = 5\n', "perturb[0].pick: expected 0 to 4, got 5"),
        (KILL + 'who = "nodes"\ntime = 5\n', "perturb[0].time: unknown field; expected kind, pick"),
        (KILL + 'who = "nodes"\ntimes = 0\n', "perturb[0].times: expected 1 to 1000, got 0"),
        (KILL + 'who = "nodes"\nrest_seconds = [2, 1]\n', "perturb[0].rest_seconds: expected [least, greatest]"),
        (KILL + 'who = "nodes"\nrest_seconds = 2\n', "perturb[0].rest_seconds: expected [least, greatest]"),
        (HEAD + '[[perturb]]\nkind = "rest"\nseconds = nan\n', "perturb[0].seconds: expected a number from 0 to 600"),
        (HEAD + '[[perturb]]\nkind = "rest"\nseconds = true\n', "perturb[0].seconds: expected a number from 0 to 600"),
        (
            HEAD + '[[perturb]]\nkind = "partition"\nseconds = 1\ngroups = [["alice"], ["alice"]]\n',
            "perturb[0].groups: expected two lists of nodes or more, no node twice",
        ),
        (
            HEAD + '[[perturb]]\nkind = "full-disk"\nseconds = 1\nwho = "processes"\n',
            "perturb[0].who: expected nodes, got processes",
        ),
        (
            HEAD + '[[perturb]]\nkind = "partition"\nseconds = 1\ngroups = [["alice"], ["mallory"]]\n',
            "perturb[0].groups: expected nodes of alice, bob, charlie, dave, got 'mallory'",
        ),
        (
            HEAD + '[[perturb]]\nkind = "start"\nwho = ["alice"]\n',
            "perturb[0].who: expected nodes that are late, got alice",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_was_expected(tmp_path: Path, text: str, error: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ManifestError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {error}")


def test_a_manifest_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        read(tmp_path / "none.toml")
