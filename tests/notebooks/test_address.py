"""The address of the repository: written in pyproject.toml, the same everywhere, and changed by one command."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import address  # noqa: E402
from surroundings import tracked  # noqa: E402

REPOSITORY = address.declared().removeprefix(address.HOST)
OWNER, NAME = REPOSITORY.split("/")
OTHER = "some-one/her.course"  # not spelt out below, or undoing the change would change this file


@pytest.fixture
def checkout(tmp_path):
    """A copy of the course to change; without what somebody left there meanwhile."""
    ours = set(tracked("*"))
    for path, text in ((path, text) for path, text in address.texts() if path in ours):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(text.encode("utf-8"))
    return tmp_path


def anywhere(root, pattern):
    """Lines that match, as file:line, looked for more widely than the command does."""
    return [
        f"{path.relative_to(root)}: {line.strip()}"
        for path, text in address.texts(root)
        for line in text.splitlines()
        if re.search(pattern, line, re.I)
    ]


def test_the_command_leaves_no_stray_and_its_undoing_changes_nothing(checkout):
    before = {path: path.read_bytes() for path, _ in address.texts(checkout)}
    named = address.repeated(checkout)
    assert {"CITATION.cff", "_config.yml", "instructors.md", "01_moving_targets.ipynb", "ex01_batch_norm.ipynb"} <= {
        path.name for path in named
    }

    assert set(address.change(OTHER, checkout)) == set(named)
    assert address.declared(checkout) == address.HOST + OTHER
    assert not anywhere(checkout, rf"{re.escape(OWNER)}(/|%2F|\.github\.io/){re.escape(NAME)}(?![\w/-])"), "left behind"
    notebooks = [path for path in before if path.suffix == ".ipynb"]
    assert len(notebooks) == sum(f"git+{address.HOST}{OTHER}" in path.read_text("utf-8") for path in notebooks)
    assert f"repo={quote(address.HOST + OTHER, safe='')}&" in (checkout / "book/instructors.md").read_text("utf-8")

    address.change(REPOSITORY, checkout)
    assert {path: path.read_bytes() for path in before} == before


def test_no_other_repository_passes_for_this_one():
    """Whatever installs the course, or calls itself by its name on GitHub, does it from the address in pyproject.toml."""
    here = address.mentions(REPOSITORY)
    wrong = [
        line
        for line in anywhere(ROOT, r"git\+https://|github\.com(/|%2F)[\w.-]+(/|%2F)bncourse(?![\w-])")
        if not here.search(line) and "tests/" not in line
    ]
    assert not wrong


@pytest.mark.parametrize(
    "before, after",
    [
        ('"bncourse @ git+https://github.com/a/b"', '"bncourse @ git+https://github.com/c/d"'),
        ("git clone https://github.com/a/b.git", "git clone https://github.com/c/d.git"),
        ("git@github.com:a/b.git", "git@github.com:c/d.git"),
        ("repo=https%3A%2F%2Fgithub.com%2Fa%2Fb&branch", "repo=https%3A%2F%2Fgithub.com%2Fc%2Fd&branch"),
        ("https://colab.research.google.com/github/a/b/blob", "https://colab.research.google.com/github/c/d/blob"),
        ("https://mybinder.org/v2/gh/a/b/main", "https://mybinder.org/v2/gh/c/d/main"),
        ("https://raw.githubusercontent.com/a/b/main", "https://raw.githubusercontent.com/c/d/main"),
        ("https://a.github.io/b/index.html", "https://c.github.io/d/index.html"),
        ("https://github.com/a/bb and https://github.com/a/b-data", None),
        ("in /opt/a/b, or https://github.com/aa/b", None),
    ],
)
def test_every_way_to_write_an_address(tmp_path, before, after):
    (tmp_path / ".gitignore").touch()
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/a/b"\n')
    (tmp_path / "page.md").write_text(before)
    address.change("c/d", tmp_path)
    assert (tmp_path / "page.md").read_text() == (after or before)


@pytest.mark.parametrize("wrong", ["jane", "https://github.com/jane/bncourse", "jane/bncourse.git", "jane/bn course", "/x"])
def test_an_address_that_is_none_is_refused(wrong):
    done = subprocess.run([sys.executable, address.__file__, wrong], capture_output=True, encoding="utf-8")
    assert done.returncode and "OWNER/NAME" in done.stderr and len(done.stderr.splitlines()) == 1


def test_what_git_ignores_stays_as_it_is(tmp_path):
    for name in (".venv/lib/page.md", "grades.csv", ".git/config", "book/page.md", ".github/workflow.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("https://github.com/a/b")
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/a/b"\n')
    (tmp_path / ".gitignore").write_text(".venv/\n*.csv\n")
    changed = address.change("c/d", tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in changed} == {"pyproject.toml", "book/page.md", ".github/workflow.yml"}


def test_on_github_actions_the_build_is_the_forks_own(monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert address.of_this_build() is None
    monkeypatch.setenv("GITHUB_REPOSITORY", "jane/fork")
    monkeypatch.delenv("GITHUB_SERVER_URL", raising=False)
    assert address.of_this_build() == "https://github.com/jane/fork"
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://git.example.edu")
    assert address.of_this_build() == "https://git.example.edu/jane/fork"
