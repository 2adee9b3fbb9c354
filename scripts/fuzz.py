"""Coverage-guided fuzzing of every decoder of untrusted bytes, one target after the other: see tests/fuzz.

    .venv/bin/python scripts/fuzz.py                         a minute for each target
    .venv/bin/python scripts/fuzz.py frames call --seconds 600
    .venv/bin/python scripts/fuzz.py frames --replay build/fuzz/frames/crash-…

Inputs that reached new code are kept in build/fuzz/TARGET and are where the next run begins. Exits with 1 when a target
broke a rule. A finding is mended with a test of its own beside the code, so that it needs no fuzzer to stay mended.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
WORK = ROOT / "build" / "fuzz"
INSTRUMENTED = ["chain", "runtime", "consensus", "trainer", "genesis"]
INSTALL = (
    "scripts/fuzz.py needs atheris, which the other tools do not: .venv/bin/pip install atheris  "
    "(or '.[fuzz]'; Linux and macOS)"
)
SEEDS = 100
# One input may take this long, and all of the process this much memory: far above what any honest input needs.
INPUT_SECONDS = 10
MEMORY_MB = 768
FIGURES = {
    "executions": re.compile(r"stat::number_of_executed_units:\s*(\d+)"),
    "a second": re.compile(r"stat::average_exec_per_sec:\s*(\d+)"),
    "edges": re.compile(r"cov: (\d+) ft"),
    "inputs kept": re.compile(r"corp: (\d+)/"),
    "MB": re.compile(r"stat::peak_rss_mb:\s*(\d+)"),
}


def main() -> int:
    """Run the targets that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="those to fuzz; all of them by default")
    parser.add_argument("--seconds", type=int, default=60, help="how long for each")
    parser.add_argument("--list", action="store_true", help="only name the targets")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="only give the target one input")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        fuzz(options.targets[0], options.seconds)
    from tests.fuzz.target import check
    from tests.fuzz.targets import BY_NAME

    if options.list:
        print("\n".join(BY_NAME))
        return 0
    names = options.targets or list(BY_NAME)
    for name in names:
        if name not in BY_NAME:
            parser.error(f"there is no target {name}; there are {', '.join(BY_NAME)}")
    if options.replay:
        print("taken" if check(BY_NAME[names[0]], options.replay.read_bytes()) else "refused")
        return 0
    try:
        import atheris  # noqa: F401
    except ImportError:
        print(INSTALL, file=sys.stderr)
        return 2
    print(f"{'target':20}" + "".join(f"{figure:>14}" for figure in FIGURES))
    findings = sum(not run(name, options.seconds) for name in names)
    return int(findings > 0)


def run(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own, and print a line; whether it kept every rule."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, name, "--seconds", str(seconds), "--child"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    log = ended.stdout + ended.stderr
    (WORK / f"{name}.log").write_text(log)
    figures = [(found.findall(log) or ["-"])[-1] for found in FIGURES.values()]
    print(f"{name:20}" + "".join(f"{figure:>14}" for figure in figures), flush=True)
    if ended.returncode != 0:
        print(f"{name} broke a rule: build/fuzz/{name}.log says how, and with which input", flush=True)
    return ended.returncode == 0


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import BY_NAME
    from tests.fuzz.samples import mutated
    from tests.fuzz.target import check

    target = BY_NAME[name]
    folder = WORK / name
    longest = 0
    for number in range(SEEDS):
        seed = target.sample(Random(number))
        longest = max(longest, len(seed))
        (folder / f"seed-{number}").write_bytes(seed)

    def mutate(data: bytes, bytes_max: int, seed: int) -> bytes:
        """Mostly what the library does; at times what it would hardly come upon."""
        rng = Random(seed)
        match rng.randrange(8):
            case 0:
                return target.sample(rng)[:bytes_max]
            case 1 | 2:
                return mutated(rng, data, target.sample(rng))[:bytes_max]
            case _:
                return bytes(atheris.Mutate(data, bytes_max))

    arguments = [
        *(sys.argv[0], str(folder), f"-artifact_prefix={folder}/", f"-max_total_time={seconds}"),
        *(f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MB}", f"-max_len={max(4096, 2 * longest)}"),
        *("-print_final_stats=1", "-report_slow_units=2"),
    ]
    atheris.Setup(arguments, lambda data: check(target, data) and None, custom_mutator=mutate)
    atheris.Fuzz()  # Does not return.


if __name__ == "__main__":
    sys.exit(main())
