"""constraints.txt, the tested set that `make setup` installs: complete, within pyproject.toml's bounds, no address."""

import re
import tomllib
from itertools import chain

import pytest
from packaging.requirements import Requirement

from bench.config import CONF

ROOT = CONF.parent
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in ("", "#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ASKED = [
    Requirement(line)
    for line in [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    if not line.startswith("regbench")
]


def name_of(requirement):
    return re.sub("[-_.]+", "-", requirement.name).lower()


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_each_requirement_has_a_tested_version_within_its_bounds(asked):
    pins = [pin for pin in PINS if name_of(pin) == name_of(asked)]
    assert pins, f"make constraints: {asked} is not in constraints.txt"
    for pin in pins:
        (version,) = (part.version for part in pin.specifier)
        assert version in asked.specifier


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_each_requirement_says_from_which_version_on(asked):
    assert any(part.operator == ">=" for part in asked.specifier), "else a resolver may take the first ever released"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_no_package_is_pinned_twice_on_one_machine(python, system):
    machine = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system}
    names = [name_of(pin) for pin in PINS if pin.marker is None or pin.marker.evaluate(machine)]
    assert sorted(names) == sorted(set(names))


def test_the_set_is_names_and_versions_alone():
    for pin in PINS:
        assert pin.url is None
        assert not pin.extras
        assert [part.operator for part in pin.specifier] == ["=="]
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert not re.search(r"(?m)^\s*-", text), "an option of pip"
