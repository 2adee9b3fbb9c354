"""The lock file of the JavaScript libraries."""

from __future__ import annotations

import json

import pytest

from tests.clients.kit import HERE


@pytest.mark.parametrize("folder", ["clients", "dashboard"])
def test_the_lock_file_names_a_version_and_a_hash_of_every_package_and_no_registry(folder: str) -> None:
    here = HERE.parent / folder
    lock = json.loads((here / "package-lock.json").read_text())
    wanted = json.loads((here / "package.json").read_text())["dependencies"]
    packages = {path: package for path, package in lock["packages"].items() if path}
    for path, package in packages.items():
        assert package["version"][0].isdigit(), path
        assert package["integrity"].startswith("sha512-"), path
        assert "resolved" not in package, path
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
