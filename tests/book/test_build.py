"""build.py, serve.py and the Makefile when things go wrong, on a tiny book."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]


def test_nothing_changed_nothing_executed(build, run_build):
    again = run_build()
    assert again.code == 0, again.said
    assert again.timings["executed"] == []
    assert set(again.timings["chapters"]) == set(build.timings["chapters"])
    # 20 s on a quiet machine; other tests run beside this one.
    assert again.timings["execute"] + again.timings["build"] < 60


@pytest.fixture
def tiny(tmp_path):
    """A book of two notebooks with the real build.py and settings."""
    root = tmp_path / "tiny"
    for folder in ("_ext", "_static"):
        shutil.copytree(ROOT / "book" / folder, root / "book" / folder)
    for file in ("_config.yml", "constraints.txt", "book/references.bib"):
        shutil.copy(ROOT / file, root / file)
    toc = {"format": "jb-book", "root": "book/index", "chapters": [{"file": "book/01_one"}, {"file": "book/02_two"}]}
    (root / "_toc.yml").write_text(yaml.safe_dump(toc))
    (root / "book" / "index.md").write_text("# Tiny\n\n{cite}`ioffe2015batch`\n\n```{bibliography}\n```\n")
    (root / "bncourse").mkdir()
    (root / "bncourse" / "__init__.py").write_text("answer = 41\n")
    here = "import sys; sys.path.insert(0, '..')\nimport bncourse\n"
    write(root, "01_one", f"{here}print('the answer is', bncourse.answer)")
    write(root, "02_two", "print('two')")
    return root


def write(root, name, *cells, after=""):
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    notebook.cells = [nbformat.v4.new_markdown_cell(f"# {name}"), *map(nbformat.v4.new_code_cell, cells)]
    if after:
        notebook.cells.append(nbformat.v4.new_markdown_cell(after))
    nbformat.write(notebook, root / "book" / f"{name}.ipynb")


def test_only_what_changed_is_executed(tiny, run_build, monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    page = tiny / "_build" / "html" / "book" / "01_one.html"
    first = run_build(tiny)
    assert first.code == 0, first.said
    assert sorted(first.timings["executed"]) == ["01_one", "02_two"]
    assert "the answer is 41" in page.read_text()

    # Nothing changed: no page is touched. A sentence changed: nothing is executed, and one page is laid out, with the first
    # page of the book and its lists, which Sphinx writes each time.
    html = tiny / "_build" / "html"
    start = first.timings["execute"] + first.timings["build"]
    for sentence, rewritten in ("", set()), ("A new sentence.", {"book/02_two.html", "book/index.html"}):
        before = {path: path.stat().st_mtime_ns for path in html.rglob("*.html")}
        if sentence:
            write(tiny, "02_two", "print('two')", after=sentence)
        again = run_build(tiny)
        assert again.code == 0 and again.timings["executed"] == [], again.said
        touched = {path.relative_to(html).as_posix() for path, when in before.items() if path.stat().st_mtime_ns != when}
        assert touched - {"search.html", "genindex.html"} == rewritten
        assert again.timings["execute"] + again.timings["build"] < start + 15
    assert "A new sentence." in (html / "book" / "02_two.html").read_text()

    write(tiny, "02_two", "print('two and a half')")
    second = run_build(tiny)
    assert second.timings["executed"] == ["02_two"]

    # The notebook is the same, the package it imports is not: its page must show the new result.
    (tiny / "bncourse" / "__init__.py").write_text("answer = 42\n")
    third = run_build(tiny)
    assert sorted(third.timings["executed"]) == ["01_one", "02_two"]
    assert "the answer is 42" in page.read_text()

    # On GitHub Actions the buttons lead to the repository the build runs in; nothing is executed for that.
    declared = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    assert buttons(page) == [f"https://colab.research.google.com/github/{declared[19:]}/blob/main/book/01_one.ipynb", declared]
    monkeypatch.setenv("GITHUB_REPOSITORY", "jane/fork")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    late = run_build(tiny, "--budget", "0.001")
    assert late.code != 0 and "over the budget" in late.said and late.timings["executed"] == []
    assert buttons(page) == ["https://colab.research.google.com/github/jane/fork/blob/main/book/01_one.ipynb",
                             "https://github.com/jane/fork"]


def buttons(page):
    """Where the page's Colab button and its repository button lead."""
    page = BeautifulSoup(page.read_text(), "html.parser")
    return [page.select_one(tag)["href"] for tag in ("a[href^='https://colab.']", "a.btn-source-repository-button")]


def test_failing_notebook(tiny, run_build):
    write(tiny, "02_two", "fine = 1", "numerator = 1\nnumerator / 0  # this line")
    done = run_build(tiny)
    assert done.code != 0
    assert "02_two" in done.said and "numerator / 0  # this line" in done.said and "ZeroDivisionError" in done.said
    assert not (tiny / "_build" / "html").exists(), "a book that looks fine"


def test_dying_kernel(tiny, run_build):
    write(tiny, "02_two", "import os; os._exit(3)  # this line")
    done = run_build(tiny)
    assert done.code != 0
    assert "02_two" in done.said and "os._exit(3)  # this line" in done.said


def test_a_warning_on_stderr_is_no_result(tiny, run_build):
    write(tiny, "02_two", "import warnings; warnings.warn('old hat')")
    done = run_build(tiny)
    assert done.code != 0 and "02_two" in done.said and "old hat" in done.said


def test_warnings_fail_the_build_each_time(tiny, run_build):
    index = tiny / "book" / "index.md"
    good = index.read_text()
    index.write_text(good + "\n[nowhere](no_such_page.md)\n")
    for _ in range(2):  # the second build must not pass for having been warned before
        done = run_build(tiny)
        assert done.code != 0 and "no_such_page" in done.said
        assert not (tiny / "_build" / "html").exists()
    index.write_text(good)
    done = run_build(tiny)
    assert done.code == 0, done.said


CLAIM = """from bncourse.claims import Claim
verdict = Claim(id="{id}", says="{id} is so & <so>", source="Somebody 2020", effect="a size", above=1.0, ratio=True).judge(
    [{value} + 0.1 * i for i in range(5)], expect="{expect}")"""


@pytest.fixture
def claims(tiny):
    """The tiny book with a claim in each notebook, the table of both in the second, and a reference on the first page."""
    shutil.copy(ROOT / "bncourse" / "claims.py", tiny / "bncourse" / "claims.py")
    here = "import sys; sys.path.insert(0, '..')\n"
    write(tiny, "01_one", here + CLAIM.format(id="first-one", value=2, expect="supported"))
    write(tiny, "02_two", here + CLAIM.format(id="second-one", value=0.1, expect="contradicted"),
          after='<div id="every-claim"></div>\n')
    index = tiny / "book" / "index.md"
    index.write_text(index.read_text() + '\nSee <span class="claim-ref" data-claim-id="second-one"></span>.\n')
    return tiny


def rows_of(root):
    page = BeautifulSoup((root / "_build" / "html" / "book" / "02_two.html").read_text(), "html.parser")
    return [(row["data-claim-id"], row["data-verdict"], row["data-chapter"]) for row in page.select("#every-claim tr[data-claim-id]")]


def test_the_build_gathers_every_claim(claims, run_build):
    for _ in range(2):  # the second build finds the table filled
        done = run_build(claims)
        assert done.code == 0, done.said
        assert rows_of(claims) == [("first-one", "supported", "1 01_one"), ("second-one", "contradicted", "2 02_two")]
    page = BeautifulSoup((claims / "_build" / "html" / "book" / "index.html").read_text(), "html.parser")
    link, here = page.select_one(".claim-ref a"), "import sys; sys.path.insert(0, '..')\n"
    assert link["href"] == "02_two.html#claim-second-one" and link.text.startswith("contradicted: 0.")

    # A new claim in one chapter is in the table of another, whose page did not change.
    write(claims, "01_one", here + CLAIM.format(id="another", value=3, expect="supported"))
    assert run_build(claims).code == 0
    assert rows_of(claims) == [("another", "supported", "1 01_one"), ("second-one", "contradicted", "2 02_two")]

    # A sentence that goes on from another is shown behind it, wherever a filter may leave it.
    assert "claim-before" not in (claims / "_build" / "html" / "book" / "02_two.html").read_text()
    write(claims, "02_two", here + CLAIM.format(id="whole", value=2, expect="supported"),
          CLAIM.format(id="...-part", value=2, expect="supported").replace('id="...-part"', 'id="part"'),
          after='<div id="every-claim"></div>\n\n<span class="claim-ref" data-claim-id="part"></span>\n')
    write(claims, "01_one", here + CLAIM.format(id="second-one", value=3, expect="supported"))
    assert run_build(claims).code == 0
    page = BeautifulSoup((claims / "_build" / "html" / "book" / "02_two.html").read_text(), "html.parser")
    assert [cell.get_text() for cell in page.select("#every-claim td[data-label=Claim]")][1:] == [
        "whole is so & <so>", "whole is so & <so> ...-part is so & <so>"]


def test_a_verdict_that_no_longer_holds_fails_the_build_by_name(claims, run_build):
    here = "import sys; sys.path.insert(0, '..')\n"
    write(claims, "01_one", here + CLAIM.format(id="first-one", value=2, expect="contradicted"))
    done = run_build(claims)
    assert done.code != 0 and "claim 'first-one' is supported here" in done.said and "01_one" in done.said


def test_a_reference_to_no_claim_fails_the_build_by_name(claims, run_build):
    index = claims / "book" / "index.md"
    index.write_text(index.read_text().replace("second-one", "second-ome"))
    done = run_build(claims)
    assert done.code != 0 and "second-ome" in done.said and not (claims / "_build" / "html").exists()


def test_two_claims_of_one_name_fail_the_build(claims, run_build):
    here = "import sys; sys.path.insert(0, '..')\n"
    write(claims, "01_one", here + CLAIM.format(id="second-one", value=2, expect="supported"))
    done = run_build(claims)
    assert done.code != 0 and "two claims are called 'second-one'" in done.said


def serve(root, *arguments):
    command = [sys.executable, str(root / "book" / "_ext" / "serve.py"), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30)


def test_port_in_use(build):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = serve(ROOT, str(port))
    assert done.returncode != 0
    assert f"Port {port}" in done.stderr and f"make serve PORT={port + 1}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_serving_what_is_not_there(tiny):
    done = serve(tiny)
    assert done.returncode != 0 and "make book" in done.stderr and len(done.stderr.splitlines()) == 1
    shutil.copytree(ROOT / "book" / "_static", tiny / "_build" / "html")
    (tiny / "_build" / "html" / "index.html").touch()
    assert "not a port number" in serve(tiny, "eight").stderr


@pytest.fixture
def make(tmp_path):
    """Run make in a folder with this Makefile, where the only Pythons are the scripts given by name."""
    if not shutil.which("make"):
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("no make on this machine")
    for file in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path / file)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for tool in ("make", "sh", "date", "rm", "touch", "mkdir", "cp"):
        (bin_ / tool).symlink_to(shutil.which(tool))

    def run(*arguments, **pythons):
        for name, script in pythons.items():
            file = bin_ / name.replace("_", ".")
            file.write_text("#!/bin/sh\n" + script)
            file.chmod(0o755)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        done = subprocess.run(
            ["make", *arguments], cwd=tmp_path, env=environment | {"PATH": str(bin_)}, capture_output=True, encoding="utf-8"
        )
        done.stamped = (tmp_path / ".venv" / ".installed").exists()
        return done

    return run


OLD = 'case "$2" in *print*) echo 3.9.2;; *) exit 1;; esac\n'
# Enough of a Python for the Makefile: says its version, makes a .venv that is itself, and fails to install.
NEW = 'case "$1 $2" in *print*) echo 3.12.4;; "-m venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python;; "-m pip") exit 7;; esac\n'
NO_VENV = 'case "$2" in *print*) echo 3.12.4;; *ensurepip*) exit 1;; esac\n'


def test_python_too_old(make):
    done = make("book", python3=OLD)
    assert done.returncode != 0 and not done.stamped
    assert "python3 is 3.9.2" in done.stderr and "3.11" in done.stderr and "make book PYTHON=python3.12" in done.stderr


def test_no_python_at_all(make):
    done = make("book")
    assert done.returncode != 0 and "found: none" in done.stderr


def test_the_newer_of_two_pythons_is_taken_by_itself(make):
    done = make("book", python3=OLD, python3_12=NEW)
    assert "with python3.12 (3.12.4)" in done.stdout, done.stdout + done.stderr


def test_the_python_that_was_named_is_the_one_taken(make):
    assert "python3 is 3.9.2" in make("book", "PYTHON=python3", python3=OLD, python3_12=NEW).stderr


def test_venv_module_missing(make):
    done = make("book", python3=NO_VENV)
    assert done.returncode != 0 and not done.stamped and "python3-venv" in done.stderr


def test_interrupted_installation_leaves_no_stamp(make):
    done = make("book", python3=NEW)
    assert done.returncode != 0 and not done.stamped
    assert "Installing" in done.stdout
