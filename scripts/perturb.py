"""Perturbs real nodes as a manifest says, and checks what clients saw: see tests/perturbation.

    .venv/bin/python scripts/perturb.py tests/perturbation/manifests/short.toml
    .venv/bin/python scripts/perturb.py MANIFEST [--seed 7] [--ports 32000] [--folder FOLDER]

Starts a network of its own in a fresh folder on ports of its own. Prints what it does and what came of it; exit code 0
when every check holds, 1 when one does not, 2 when the manifest cannot be used. The folder, with a log for each
process, is kept when a check failed, or when it was named.

Full disks are small file systems in memory, which a mount namespace of this command holds: it needs unshare(1), and no
rights where the system lets users make namespaces.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.perturbation.drill import run  # noqa: E402
from tests.perturbation.manifest import ManifestError, read  # noqa: E402
from tests.ports import free_ports  # noqa: E402

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
EXIT_UNUSABLE = 2


def main() -> int:
    """Run the manifest; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="a TOML file, such as those in tests/perturbation/manifests")
    parser.add_argument("--seed", type=int, help="what is drawn is drawn from this, instead of the manifest's")
    parser.add_argument("--ports", type=int, help="the first of two ports for each node [default: free ones]")
    parser.add_argument("--folder", type=Path, help="where the data and logs go, and stay; it must not exist")
    parser.add_argument("--in-namespace", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        manifest = read(options.manifest)
    except ManifestError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    if options.seed is not None:
        manifest = replace(manifest, seed=options.seed)
    if manifest.small_disks and not options.in_namespace:
        if why := refusal_of_namespace():
            print(f"error: {manifest.path} fills disks, which needs a mount namespace: {why}", file=sys.stderr)
            return EXIT_UNUSABLE
        os.execvp(NAMESPACE[0], [*NAMESPACE, sys.executable, *sys.argv, "--in-namespace"])
    first_port = options.ports or free_ports(2 * len(manifest.network.nodes))
    folder: Path = options.folder or Path(tempfile.mkdtemp(prefix="potchain-perturb-"))
    folder.mkdir(parents=True, exist_ok=options.folder is None)
    print(f"{manifest.path}, seed {manifest.seed}, in {folder}", flush=True)
    violations = trio.run(run, manifest, folder, first_port)
    for violation in violations:
        print(f"FAILED: {violation}")
    if violations:
        print(f"{len(violations)} checks failed; what the processes said is in {folder / 'logs'}")
        return 1
    print("every check holds")
    if options.folder is None:
        shutil.rmtree(folder)
    return 0


def refusal_of_namespace() -> str:
    """Why this system gives no mount namespace; empty when it does."""
    if shutil.which(NAMESPACE[0]) is None:
        return "unshare is missing: install util-linux"
    done = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
