"""`potchain module`: what it writes runs at once, and what it refuses it leaves as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chain.scaffold import CannotWrite, plan, with_module
from chain.scaffold import Name as ModuleName

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS_MAX = 300
# This project's rules, without the names of its own packages: in a developer's folder they are libraries.
RUFF = """
line-length = 120
target-version = "py311"
[lint]
select = ["E", "F", "W", "I", "B", "UP", "SIM", "C4", "PIE", "RET", "RUF", "PT", "ARG", "PERF"]
"""


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A Python program, in a folder."""
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        cwd=folder,
        env=environment,
        check=False,
    )


def potchain(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "chain", "module", *arguments)


def refusal(folder: Path, *arguments: str) -> str:
    """One line and exit code 2; nothing in the folder has changed, but for what Python keeps of what it imports."""

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*.*") if path.suffix != ".pyc"}

    before = files()
    done = potchain(folder, *arguments)
    assert done.returncode == 2, done
    assert done.stderr.startswith("error: "), done
    assert done.stderr.count("\n") == 1, done
    assert files() == before
    return done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a chain of one new module."""
    done = potchain(tmp_path, "new", "guest_book")
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_a_new_module_passes_its_tests_at_once_and_the_guard_finds_nothing(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        *("genesis.json", "guest_book.py", "my_chain.py", "test_guest_book.py")
    ]
    tested = run(folder, "pytest", "-q", "-p", "no:cacheprovider")
    assert "9 passed" in tested.stdout, tested.stdout
    for reference in ("guest_book.py", "my_chain:RUNTIME"):
        checked = potchain(folder, "check", reference)
        assert checked.returncode == 0, checked.stdout
        assert "nothing that two validators could execute differently" in checked.stdout


@pytest.mark.parametrize("name", ["guest_book", "A", "a" * 32])
def test_what_is_written_is_as_this_projects_own_code_is(tmp_path: Path, name: str) -> None:
    assert potchain(tmp_path, "new", name, "--chain", "shop").returncode == 0
    (tmp_path / "ruff.toml").write_text(RUFF)
    for command in (("ruff", "check"), ("ruff", "format", "--check")):
        done = run(tmp_path, *command, ".", "--no-cache")
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_what_is_written_is_typed(folder: Path) -> None:
    done = run(folder, "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache" / "scaffold"), ".")
    assert done.returncode == 0, done.stdout


def test_a_second_module_joins_the_chain_under_the_next_index(folder: Path) -> None:
    genesis = (folder / "genesis.json").read_bytes()
    done = potchain(folder, "new", "PhotoAlbum")
    assert done.returncode == 0, done.stderr
    assert "my_chain.py                       has the module under the next index" in done.stdout
    assert "        11: PhotoAlbum,\n    },\n" in (folder / "my_chain.py").read_text()
    assert (folder / "genesis.json").read_bytes() == genesis
    tested = run(folder, "pytest", "-q", "-p", "no:cacheprovider")
    assert "18 passed" in tested.stdout, tested.stdout


def test_a_chain_file_of_another_style_is_left_alone_and_its_owner_told(folder: Path) -> None:
    source = "from elsewhere import RUNTIME, MyChain\n"
    (folder / "my_chain.py").write_text(source)
    done = potchain(folder, "new", "photo_album")
    assert done.returncode == 0
    assert "add to it by hand: the import, the view's attribute, and an index of its own" in done.stdout
    assert (folder / "my_chain.py").read_text() == source


@pytest.mark.parametrize(
    "source",
    [
        "",
        "def",
        "import a\nclass V(View): ...\nRUNTIME = Runtime(modules={0: A})\n",  # on one line
        "import a\nclass V(View): ...\nRUNTIME = Runtime(modules={\n    FIRST: A,\n})\n",
        "import a\nclass V(View): ...\nclass W(View): ...\nRUNTIME = Runtime(modules={\n    0: A,\n})\n",
    ],
)
def test_a_place_is_only_found_where_there_is_no_doubt(source: str) -> None:
    assert with_module(source, ModuleName.of("photo_album")) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "expected a name such as guest_book or GuestBook, got ''"),
        ("9lives", "expected a name such as guest_book or GuestBook, got '9lives'"),
        ("guest-book", "expected a name such as guest_book or GuestBook, got 'guest-book'"),
        ("guest__book", "expected a name such as guest_book or GuestBook"),
        ("../up", "expected a name such as guest_book or GuestBook"),
        ("guestBook", "expected a name such as guest_book or GuestBook"),
        ("a" * 33, "expected a name of at most 32 letters, got 33"),
        ("class", "class is a word of Python's"),
        ("match", "match is a word of Python's"),
        ("Balances", "every chain has a module Balances already"),
        ("queue", "Python finds another module under the name queue"),
        ("numpy", "Python finds another module under the name numpy"),
        ("chain", "Python finds another module under the name chain"),
        ("guest_book", "guest_book.py exists already and is left as it is; choose another name"),
        ("my_chain", "the module and the chain cannot both be called my_chain"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "guest_book.py").touch()
    with pytest.raises(CannotWrite) as caught:
        plan(tmp_path, ModuleName.of(name), ModuleName.of("my_chain"))
    assert words in str(caught.value)


def test_a_refused_name_is_told_in_one_line_and_nothing_is_written(folder: Path) -> None:
    assert "guest_book.py exists already and is left as it is; choose another name" in refusal(
        folder, "new", "GuestBook"
    )
    assert "expected a name such as guest_book or GuestBook, got '9lives'" in refusal(folder, "new", "9lives")


def test_a_genesis_file_of_another_chain_is_never_written_over(folder: Path) -> None:
    words = "genesis.json exists already and is left as it is; give the name of its chain with --chain"
    assert words in refusal(folder, "new", "photo_album", "--chain", "another")


def test_a_check_names_file_line_and_remedy_and_fails(folder: Path) -> None:
    module = folder / "guest_book.py"
    module.write_text(module.read_text().replace("self.count.get() + 1", "int(self.count.get() * 1.0) + 1"))
    line = next(n for n, text in enumerate(module.read_text().splitlines(), 1) if "1.0" in text)
    for reference in ("guest_book.py", "my_chain:RUNTIME"):
        done = potchain(folder, "check", reference)
        assert done.returncode == 1
        assert done.stdout == (
            f"guest_book.py:{line}: 1.0: machines and versions round differently: use integers, such as parts per "
            "million, and //\n"
        )
    refused = run(folder, "chain", "--genesis", "genesis.json", "--base-path", "data", "--validator", "alice")
    assert refused.returncode == 2
    assert (
        f"runtime: my_chain:RUNTIME may give each validator another result: guest_book.py:{line}: 1.0" in refused.stderr
    )
    assert not (folder / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "nothing.py"), "cannot read nothing.py: No such file or directory"),
        (("check", "genesis.json"), "genesis.json is no Python file; give one, or MODULE:RUNTIME"),
        (("check", "."), ". is no Python file; give one, or MODULE:RUNTIME"),
        (("check", "nothing:RUNTIME"), "no Python module nothing: put nothing.py into"),
        (("check", "my_chain:NOTHING"), "my_chain has no Runtime NOTHING"),
        (("check", "my_chain"), "expected MODULE:NAME"),
        (("weigh", "nothing.py"), "cannot read nothing.py: expected a Python file with benchmarks"),
        (("weigh", "guest_book.py"), "guest_book.py has no benchmarks: mark functions with @benchmark"),
        (("weigh", "test_guest_book.py", "--call", "gallery"), "test_guest_book.py has no benchmark of gallery"),
    ],
)
def test_a_reference_to_nothing_is_refused_in_one_line(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    assert words in refusal(folder, *arguments)


def test_calls_are_weighed_and_those_that_take_more_than_they_declare_are_named(folder: Path) -> None:
    done = potchain(folder, "weigh", "test_guest_book.py", "--runs", "10")
    assert done.returncode == 0, done
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["call", "declared", "median", "spread", "used", "case"]
    assert [(line.split()[0], line.split()[1], line.split()[-1]) for line in lines] == [
        ("guest_book.write", "400", "first_entry"),
        ("guest_book.erase", "400", "erased_entry"),
    ]
    module = folder / "guest_book.py"
    module.write_text(module.read_text().replace("400 * MICROSECOND", "1 * MICROSECOND", 1))
    done = potchain(folder, "weigh", "test_guest_book.py", "--runs", "10", "--call", "guest_book.write")
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].endswith("first_entry  TAKES MORE")
    assert done.stdout.splitlines()[2].startswith("declare more for guest_book.write: ")


def test_a_module_with_a_float_fails_its_own_tests_and_is_named_before_it_is_weighed(folder: Path) -> None:
    module = folder / "guest_book.py"
    module.write_text(module.read_text() + "\nSHARE = 0.5\n")
    line = len(module.read_text().splitlines())
    done = potchain(folder, "weigh", "test_guest_book.py", "--runs", "10")
    assert done.returncode == 1
    assert done.stdout.startswith(f"guest_book.py:{line}: 0.5: machines and versions round differently")
    assert done.stdout.endswith("may execute differently: see the lines above\n")
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "alike"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert tested.returncode == 1
    assert f"guest_book.py:{line}: 0.5: machines and versions round differently" in tested.stdout


def test_what_cannot_be_weighed_says_why(folder: Path) -> None:
    test = folder / "test_guest_book.py"
    text = test.read_text()
    test.write_text(
        text.replace('(BOB, "guest_book.write", text=LONGEST)\n\n\n', '(BOB, "guest_book.write", text=b"")\n\n\n')
    )
    assert (
        "first_entry: guest_book.write fails: BadLength: expected 1 to 140 bytes, got 0"
        in potchain(folder, "weigh", "test_guest_book.py").stderr
    )
    test.write_text(text[: text.rindex("@benchmark")])
    assert "no benchmark makes guest_book.erase\n" in potchain(folder, "weigh", "test_guest_book.py").stdout
