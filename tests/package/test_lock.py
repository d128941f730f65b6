import re

import pytest
from packaging.utils import canonicalize_name

from package import lock
from package.errors import PackageError
from package.platforms import LEFT_OUT, PLATFORMS, PYTHONS
from tests.conftest import ROOT

CONSTRAINTS = dict(
    line.split("==", 1)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line
)
VERSIONS = {canonicalize_name(name): version for name, version in CONSTRAINTS.items()}


@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=lambda one: one.debian)
@pytest.mark.parametrize("python", PYTHONS)
def test_what_the_project_asks_for_is_pinned_to_a_version_that_it_takes(platform, python):
    pinned = {one.name: one for one in lock.pinned(platform, python)}
    for asked in lock.requirements(platform.extras):
        name = canonicalize_name(asked.name)
        if name not in platform.lacks():
            assert pinned[name].version in asked.specifier, f"make lock: {asked}"


def test_the_lock_holds_the_versions_that_the_tests_passed_with():
    for one in lock.read(lock.FILE.read_text()):
        if one.name not in LEFT_OUT:
            assert VERSIONS[one.name] == one.version, "make lock"


def test_a_line_names_every_hash_and_no_other_place_to_look():
    text = lock.FILE.read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text)
    for one in lock.read(text):
        assert len(set(one.hashes)) == len(one.hashes) >= 1


@pytest.mark.parametrize(
    "text",
    [
        "click==8.1.7\n",
        "click>=8 --hash=sha256:" + "0" * 64,
        "click==8.1.7 --hash=md5:" + "0" * 32,
        "click",
    ],
)
def test_what_is_not_pinned_by_version_and_hash_is_refused(text):
    with pytest.raises(PackageError, match="click"):
        lock.read(text)


def test_markers_are_those_of_the_board_and_not_of_this_machine():
    text = 'msgpack==1.0 ; platform_machine == "aarch64" --hash=sha256:' + "0" * 64
    (one,) = lock.read(text)
    assert one.requirement.marker.evaluate(PLATFORMS["arm64"].environment("3.11"))
    assert not one.requirement.marker.evaluate(PLATFORMS["amd64"].environment("3.11"))
