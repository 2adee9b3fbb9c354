"""Puts mistakes into consensus, one at a time, and sees that the simulator finds each: a check of the checks.

    .venv/bin/python scripts/mutants.py [NAME…] [--seeds 200] [--jobs 2]

Each mistake goes into a copy of the tree, where simulations with all faults run until one fails, and then the scenarios
of the tests. Prints what found it and what that saw; exit code 1 if a mistake survives, or if the line that it is to
replace is no longer there. Most are found within seconds; none takes more than six minutes of a processor.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("chain", "consensus", "runtime", "genesis", "tests", "pyproject.toml")
SCENARIOS = (
    *("tests/simulation/test_scenarios.py", "tests/simulation/test_twins.py"),
    *("tests/consensus/test_replica.py", "tests/consensus/test_gadget.py", "tests/consensus/test_wal.py"),
    *("tests/runtime/test_sessions.py", "tests/runtime/test_offences.py", "tests/runtime/test_staking.py"),
)
# What is fast or slow by the wall clock shows no mistake.
CHOSEN = ("-x", "-m", "not slow", "-k", "not real_clock", "-p", "no:cacheprovider")
# What simulations, and then scenarios, may take of a processor: three times what they take where nothing is found.
CPU_SECONDS_MAX = 180
# Runs in the copy: chains of four, of seven and of whole nodes by turns, until one fails.
PROGRAM = """
import sys
from chain.simulation.plan import Plan, simulate

def leaf(error):
    return leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error

for seed in range(int(sys.argv[1])):
    plan = Plan(seed, 4, 12, real_ledger=True) if seed % 3 == 2 else Plan(seed, 7 if seed % 8 == 7 else 4)
    try:
        simulate(plan)
    except Exception as error:
        found = leaf(error)
        print(plan.command)
        print(f"{type(found).__name__}: {found}")
        sys.exit(1)
"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake: in one file, `new` in the place of `old`, which is there once."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = [
    Mutant(
        "P2: a quorum is one vote short",
        "chain/primitives/seal.py",
        "return self.n - self.f\n",
        "return self.n - self.f - 1\n",
    ),
    Mutant(
        "P3: the chain is left out of what is signed",
        "chain/primitives/seal.py",
        '            _VOTE_TAG,\n            _hash(genesis_hash, "genesis hash"),\n',
        "            _VOTE_TAG,\n",
    ),
    Mutant(
        "P3: the set is left out of what is signed",
        "chain/primitives/seal.py",
        '            set_id.to_bytes(4, "little"),\n',
        "",
    ),
    Mutant(
        "P3: the height is left out of what is signed",
        "chain/primitives/seal.py",
        '            height.to_bytes(4, "little"),\n',
        "",
    ),
    Mutant(
        "P3: the view is left out of what is signed",
        "chain/primitives/seal.py",
        '            view.to_bytes(4, "little"),\n',
        "",
    ),
    Mutant(
        "P3: the phase is left out of what is signed",
        "chain/primitives/seal.py",
        '            phase.to_bytes(1, "little"),\n',
        "",
    ),
    Mutant(
        "P3: a view change does not bind its lock",
        "consensus/proof.py",
        "Phase.VIEW_CHANGE, lock_digest(lock_of(lock)))",
        "Phase.VIEW_CHANGE, NO_LOCK)",
    ),
    Mutant(
        "P4: a commit is sent before it is durable",
        "consensus/replica.py",
        """        self._out.append(Persist(Locked(self.height, certificate)))
        self._out.append(CastVote(self.height, self.view, Phase.COMMIT, certificate.digest))
""",
        """        self._out.append(CastVote(self.height, self.view, Phase.COMMIT, certificate.digest))
        self._out.append(Persist(Locked(self.height, certificate)))
""",
    ),
    Mutant("P4: a record is not flushed", "consensus/wal.py", "                self._disk.sync(self._file)\n", ""),
    Mutant(
        "P4: the log's folder is not flushed",
        "consensus/wal.py",
        "            self._disk.sync_folder(self._path.parent)\n",
        "",
    ),
    Mutant(
        "P4: a new log is renamed before it is flushed",
        "consensus/wal.py",
        "            self._disk.sync(file)\n            self._disk.replace",
        "            self._disk.replace",
    ),
    Mutant(
        "P5: a restart forgets the log",
        "consensus/gadget.py",
        "        return _Height(Replica(self._timing, height, validators, me, records)",
        "        return _Height(Replica(self._timing, height, validators, me)",
    ),
    Mutant(
        "P5: a restart forgets its lock",
        "consensus/replica.py",
        "                self.lock, self.voted_commit = record.certificate, True\n",
        "                self.voted_commit = True\n",
    ),
    Mutant(
        "P5: a restart forgets that it left a view",
        "consensus/replica.py",
        "                self.view, self.changing, self.voted_commit = record.view, True, False\n",
        "                self.changing, self.voted_commit = False, False\n",
    ),
    Mutant(
        "P7: whatever is proposed is accepted",
        "consensus/gadget.py",
        '            valid = False\n            self._on_fault(None, f"the proposal',
        '            valid = True\n            self._on_fault(None, f"the proposal',
    ),
    Mutant(
        "P7: a payload need not have its digest",
        "consensus/gadget.py",
        "            valid = digest == check.digest\n",
        "            valid = True\n",
    ),
    Mutant(
        "P8: a view change forgets the lock",
        "consensus/replica.py",
        "            CastViewChange(self.height, view, self.lock),\n",
        "            CastViewChange(self.height, view, None),\n",
    ),
    Mutant(
        "P8: a later view's lock does not replace an earlier one",
        "consensus/replica.py",
        "        self.lock, self.voted_commit = certificate, True\n        self._out",
        "        self.lock, self.voted_commit = self.lock or certificate, True\n        self._out",
    ),
    Mutant(
        "P10: the lowest lock is proposed again",
        "consensus/rules.py",
        "        lock=max(locks,",
        "        lock=min(locks,",
    ),
    Mutant(
        "P10: a new primary proposes what it likes",
        "consensus/replica.py",
        "        if new_view.lock is None:\n            self._out.append(Build",
        "        if True:\n            self._out.append(Build",
    ),
    Mutant("P11: a new view needs no quorum", "consensus/rules.py", "or len(voters) < validators.quorum ", ""),
    Mutant(
        "P11: one view change counts several times",
        "consensus/rules.py",
        "    if len(voters) != len(proof.changes) or len(voters) < validators.quorum or",
        "    if len(proof.changes) < validators.quorum or",
    ),
    Mutant(
        "P11: a new view need not propose its lock",
        "consensus/rules.py",
        "        and proof.lock.digest == proposal.digest\n",
        "",
    ),
    Mutant(
        "P11: the lock of a new view is not checked",
        "consensus/proof.py",
        "        return proof.lock is None or self.prepared(proof.lock)\n",
        "        return True\n",
    ),
    Mutant(
        "P11: the lock of a view change is not checked",
        "consensus/proof.py",
        " and (lock is None or self.prepared(lock))\n",
        "\n",
    ),
    Mutant(
        "P11: view changes in a proof are not checked",
        "consensus/proof.py",
        "return proposal.new_view is None or self",
        "return True or self",
    ),
    Mutant(
        "P11: a certificate of too few counts",
        "consensus/proof.py",
        "        if len(voters) < self.validators.quorum:\n            return False\n",
        "",
    ),
    Mutant(
        "P12: a view change is not recorded",
        "consensus/replica.py",
        "            Persist(Changing(self.height, view)),\n",
        "",
    ),
    Mutant(
        "P12: a proposal of a view that was left is taken",
        "consensus/replica.py",
        "(self.deciding is None and view < self.view):",
        "(self.deciding is None and view < self.view - 1):",
    ),
    Mutant(
        "P13: a view is joined on f",
        "consensus/rules.py",
        "    return others[validators.f] if len(others) > validators.f else 0",
        "    return others[max(validators.f - 1, 0)] if len(others) > validators.f else 0",
    ),
    Mutant(
        "P13: nobody joins",
        "consensus/replica.py",
        "        if view > self.view:\n            self._change_to(view)",
        "        if False:\n            self._change_to(view)",
    ),
    Mutant(
        "P14: no timer covers the new primary",
        "consensus/replica.py",
        "could wait for each other for ever.\n            self._set_timer()\n",
        "could wait for each other for ever.\n            pass\n",
    ),
    Mutant(
        "P14: only who is at the very view counts",
        "consensus/replica.py",
        "if view >= self.view}",
        "if view == self.view}",
    ),
    Mutant(
        "P15: time-outs have no cap",
        "consensus/rules.py",
        "    return int(min(timing.timeout_ms << min(view, _DOUBLINGS_MAX), timing.timeout_ms_max))",
        "    return int(timing.timeout_ms << min(view, _DOUBLINGS_MAX))",
    ),
    Mutant(
        "P16: votes are not verified",
        "consensus/proof.py",
        "not bls.fast_aggregate_verify(keys, message, aggregate)",
        "False",
    ),
    Mutant(
        "P16: evidence is not verified",
        "consensus/ballot.py",
        "if not await self._run(partial(self.verifier.vote, vote)):\n                # Nobody",
        "if False:\n                # Nobody",
    ),
    Mutant("P16: nobody is accused", "consensus/ballot.py", "        self._on_equivocation(contradiction)\n", ""),
    Mutant(
        "P16: forged votes are not sifted out",
        "consensus/ballot.py",
        "            await self._sift(votes)\n        return None\n",
        "            return None\n        return None\n",
    ),
    Mutant(
        "P17: nothing is said again",
        "consensus/replica.py",
        "            case ResendDue():\n                self._cast_again()\n",
        "            case ResendDue():\n                pass\n",
    ),
    Mutant(
        "P19: nobody notices that it is behind",
        "consensus/gadget.py",
        "        if height >= at_least:\n            self._on_behind(height - 1)\n",
        "",
    ),
    Mutant(
        "P20: a late commit is cast in a view that was left",
        "consensus/replica.py",
        "        if self.me is not None and (view > self.view or (view == self.view and not self.voted_commit)):",
        "        if self.me is not None:",
    ),
    Mutant(
        "P21: a decision is held against the clock",
        "consensus/gadget.py",
        "check.payload, decided=check.decided)",
        "check.payload, decided=False)",
    ),
    Mutant(
        "P5: what is read from the log is not made durable",
        "consensus/wal.py",
        "            wal._begin(data[:end])\n",
        "            wal._file = disk.open(path, fresh=False)\n",
    ),
    Mutant(
        "P22: the set before decides the first height of a set",
        "consensus/gadget.py",
        "        validators = self._host.validators(height)\n        verifier",
        "        validators = self._host.validators(max(height - 1, 1) if self._wal else height)\n        verifier",
    ),
    Mutant(
        "P22: the ledger turns to a set a height late",
        "chain/importer.py",
        "        self._validators[self._best[0] + 1] = decides_next\n",
        "        self._validators[self._best[0] + 1] = sealed_by\n",
    ),
    Mutant(
        "P23: the number stays when the set changes",
        "runtime/modules/validators_sessions.py",
        "        set_id += 1  #",
        "        set_id += 0  #",
    ),
    Mutant(
        "P24: late proposals are read with the next set",
        "consensus/gadget.py",
        "_prepare_of(message, self._last.validators)",
        "_prepare_of(message, self._at.validators)",
    ),
    Mutant(
        "P24: a parent's seal is held against the next set",
        "runtime/modules/validators.py",
        "self.validator_set() if closing is None else self.recorded_set(closing.set_id)",
        "self.validator_set()",
    ),
    Mutant(
        "P25: more newcomers at once than faults are tolerated",
        "runtime/modules/validators_sessions.py",
        "        if admitted + 1 > (max(tolerated, 1) if staying and len(incumbents) < 3 else tolerated):\n",
        "        if admitted + 1 > max(tolerated, 2):\n",
    ),
    Mutant(
        "P26: evidence names the set after",
        "consensus/tally.py",
        "        self._set_id = validators.set_id\n",
        "        self._set_id = validators.set_id + 1\n",
    ),
    Mutant(
        "P26: evidence is taken twice",
        "runtime/modules/validators_offences.py",
        "    if (session, account) in validators.offences:\n",
        "    if False:\n",
    ),
    Mutant(
        "P26: the signatures of evidence are not checked",
        "runtime/modules/validators_offences.py",
        "    if not verify_double_vote(deciding, validators.system.genesis_hash(), evidence):\n",
        "    if False:\n",
    ),
    Mutant(
        "P26: evidence of one vote that was cast once is taken",
        "chain/primitives/offence.py",
        " or evidence.first.digest >= evidence.second.digest:",
        ":",
    ),
    Mutant(
        "P26: evidence of heights that the set did not decide is taken",
        "runtime/modules/validators_offences.py",
        "    if not record.first_height <= evidence.height <= last_height:\n",
        "    if False:\n",
    ),
    Mutant(
        "P26: stale evidence is taken",
        "runtime/modules/validators_offences.py",
        "    if session + rules.unbonding_sessions <= session_of(height, rules.session_blocks):\n",
        "    if False:\n",
    ),
    Mutant(
        "P26: who votes twice keeps its candidacy",
        "runtime/modules/validators_offences.py",
        "evidence.height, amount))\n    chill(validators, account, ChillReason.OFFENCE)\n",
        "evidence.height, amount))\n",
    ),
    Mutant(
        "sessions: who is offline keeps its candidacy",
        "runtime/modules/validators_sessions.py",
        "            chill(validators, account, ChillReason.OFFLINE)\n",
        "",
    ),
    Mutant(
        "stakes: a key needs no proof of possession",
        "runtime/modules/validators.py",
        "        if not bls.verify_possession(bls_key, stash, proof):\n",
        "        if False:\n",
    ),
    Mutant(
        "light: a handover is kept of the block before",
        "chain/ledger.py",
        "KEPT_HANDOVER.encode(KeptHandover(header.height, proof))",
        "KEPT_HANDOVER.encode(KeptHandover(header.height - 1, proof))",
    ),
    Mutant(
        "sync: a seal is not checked",
        "chain/sync/proving.py",
        "if not verify_seal(validators, genesis_hash, sealed.seal):",
        "if False:",
    ),
]


def main() -> int:
    """Try all mistakes, or those that were named; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only those whose name has this in it")
    parser.add_argument("--seeds", type=int, default=200, help="how many simulations a mistake may survive")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many mistakes at once")
    options = parser.parse_args()
    wanted = [m for m in MUTANTS if not options.names or any(name in m.name for name in options.names)]
    survivors = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutant, found in zip(wanted, pool.map(partial(attempt, seeds=options.seeds), wanted), strict=True):
            survivors += found is None
            print(f"{'SURVIVES' if found is None else 'found   '}  {mutant.name}")
            for line in found or ():
                print(f"            {line}", flush=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = used.ru_utime + used.ru_stime
    print(f"{len(wanted) - survivors} of {len(wanted)} mistakes were found, in {spent:.0f} s of CPU")
    return 1 if survivors else 0


def attempt(mutant: Mutant, seeds: int) -> list[str] | None:
    """What shows a mistake and what it shows; None where nothing does."""
    with tempfile.TemporaryDirectory(prefix="potchain-mutant-") as folder:
        for name in COPIED:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "blobs", "node_modules")
                shutil.copytree(ROOT / name, Path(folder) / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, folder)
        file = Path(folder) / mutant.file
        source = file.read_text()
        if source.count(mutant.old) != 1:
            raise SystemExit(f"{mutant.name}: expected once in {mutant.file}, got {source.count(mutant.old)} times")
        file.write_text(source.replace(mutant.old, mutant.new))
        done = _run(folder, "-c", PROGRAM, str(seeds))
        if done.stdout:
            return [line[:200] for line in done.stdout.splitlines()[:2]]
        if done.returncode not in (0, -signal.SIGXCPU):
            raise SystemExit(f"{mutant.name}: the copy does not run:\n{done.stderr}")
        done = _run(folder, "-m", "pytest", *CHOSEN, *SCENARIOS)
        return [line[:200] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))] or None


def _run(folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A limit of its processor's time, not of the clock's: what else runs on the machine decides nothing.
    limited = ('ulimit -S -t "$0" && exec "$@"', str(CPU_SECONDS_MAX), sys.executable)
    return subprocess.run(
        ["sh", "-c", *limited, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": folder},
        capture_output=True,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    sys.exit(main())
