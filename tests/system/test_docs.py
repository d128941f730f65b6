"""What the documents point to is there: pages, files of the tree, tests by their names."""

import re

import pytest

from tests.conftest import ROOT

FOLDERS = "agent|bench|cloud|contract|docs|firmware-config|simulator|systemd|tests"
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/decisions/*.md", "firmware-config/**/*.md")
    for path in ROOT.glob(pattern)
)
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_to_is_there(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\((?![a-z]+:)([^)#\s]+)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]+\.(?:md|py|service|sh|toml|yaml))`", text)
    missing += [name for name in named if not (ROOT / name).exists()]
    missing += [name for name in re.findall(r"`(test_\w+)`", text) if f"def {name}(" not in TESTS]
    assert missing == []
