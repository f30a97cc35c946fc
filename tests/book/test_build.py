"""build.py, serve.py and the Makefile when things go wrong, on a tiny book."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
from told import first_seed  # noqa: E402


@pytest.fixture
def tiny(tmp_path):
    """A book of two notebooks with the real build.py and settings."""
    root = tmp_path / "tiny"
    for folder in ("_ext", "_static"):
        shutil.copytree(ROOT / "book" / folder, root / "book" / folder)
    for file in ("_config.yml", "constraints.txt", "pyproject.toml", "book/references.bib"):
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
        assert touched - {"search.html", "genindex.html", "404.html"} == rewritten
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


STARTUP = "raise SystemExit('somebody else\'s start-up file')"


def test_surroundings_do_not_reach_the_book(tiny, run_build, tmp_path):
    """A folder with any name, somebody's settings, a console that cannot say everything; another bncourse on the path."""
    root = tmp_path / "Jürgen %2F a?b#c 'q" / "copy"
    shutil.copytree(tiny, root)
    home = tmp_path / "their home"
    for file, text in {".config/matplotlib/matplotlibrc": "text.usetex: True", "startup.py": STARTUP,
                       "bncourse/__init__.py": "answer = 'theirs'"}.items():
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text(text)
    for name in ("random", "numpy"):
        (root / "book" / f"{name}.py").write_text(STARTUP)
    write(root, "01_one", "import matplotlib.pyplot as plt\nassert not plt.rcParams['text.usetex'], 'tex'",
          "assert False, 'asserted'")
    theirs = {"HOME": str(home), "PYTHONPATH": str(home), "PYTHONSTARTUP": str(home / "startup.py"), "PIP_USER": "1",
              "PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "default", "MPLBACKEND": "none", "LC_ALL": "C", "PYTHONUTF8": "0",
              "PYTHONIOENCODING": "cp1252", "IPYTHONDIR": "/dev/null/x", "JUPYTER_RUNTIME_DIR": "/dev/null/x"}
    done = run_build(root, env=os.environ | theirs)
    assert done.code != 0 and "AssertionError: asserted" in done.said, "an assert that is not there cannot fail"
    write(root, "01_one", "import random, bncourse\nprint('the answer is', bncourse.answer)", "raise ValueError('σ < 0')")
    done = run_build(root, env=os.environ | theirs)
    assert done.code != 0 and r"ValueError: \u03c3 < 0" in done.said
    write(root, "01_one", "import random, bncourse\nprint('the answer is', bncourse.answer)")
    done = run_build(root, env=os.environ | theirs)
    assert done.code == 0, done.said
    assert "the answer is 41" in (root / "_build" / "html" / "book" / "01_one.html").read_text("utf-8")


def test_without_a_package_of_its_own_a_checkout_is_no_book(tiny, run_build):
    shutil.rmtree(tiny / "bncourse")
    done = run_build(tiny)
    assert done.code != 0 and f"not {tiny / 'bncourse'}, the package of this checkout" in done.said


def test_a_file_that_hides_a_module_is_named(tiny, run_build):
    (tiny / "types.py").write_text("")
    done = run_build(tiny)
    assert done.code != 0 and "types.py" in done.said and "rename or delete it" in done.said


def test_what_cannot_be_read_counts_as_absent(tiny, run_build):
    """The disk was full, or somebody pulled the plug: whatever is damaged, the next build makes it anew."""
    first = run_build(tiny)
    assert first.code == 0, first.said
    built = tiny / "_build"
    entries = {path: path.read_text("utf-8") for path in built.glob(".jupyter_cache/executed/*/base.ipynb")}
    [one] = (path for path, text in entries.items() if "bncourse" in text)
    damage = [
        ("cut off", [one], lambda path: path.write_bytes(path.read_bytes()[:100]), ["01_one"]),
        ("another result", [one], lambda path: path.write_text(entries[one].replace("41", "14"), "utf-8"), ["01_one"]),
        ("the database", [built / ".jupyter_cache" / "global.db"], lambda path: path.write_bytes(b"x" * 5000), ["01_one", "02_two"]),
        ("notes", [built / name for name in ("timings.json", "results.stamp", "pages.stamp")],
         lambda path: path.write_bytes(b"\xff"), ["01_one", "02_two"]),
    ]  # fmt: skip
    for what, paths, spoil, again in damage:
        for path in paths:
            spoil(path)
        done = run_build(tiny)
        assert done.code == 0, f"{what}: {done.said}"
        assert sorted(done.timings["executed"]) == again, what
        assert "the answer is 41" in (built / "html" / "book" / "01_one.html").read_text("utf-8")
    (built / "timings.json").write_text("")
    assert run_build(tiny).timings["executed"] == []


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


def test_a_formula_that_cannot_be_set_fails_the_build_by_name(tiny, run_build):
    write(tiny, "02_two", "two = 2", after="Fine: $x^2$. Not so: $\\foo{x}$, nor\n\n$$\\frac{a$$\n")
    done = run_build(tiny)
    assert done.code != 0 and "02_two" in done.said and r"\foo{x}" in done.said and r"\frac{a" in done.said
    assert "x^2" not in done.said and not (tiny / "_build" / "html").exists()


CLAIM = """from bncourse.claims import Claim
verdict = Claim(id="{id}", says="{id} is so & <so>", source="Somebody 2020", effect="a size", above=1.0, ratio=True,
    evidence=("scale", "order", "for")).judge(
    [{value} + 0.1 * i for i in range(5)], expect="{expect}")"""


@pytest.fixture
def claims(tiny):
    """The tiny book with a claim in each notebook, the table of both in the second, and a reference on the first page."""
    shutil.copy(ROOT / "bncourse" / "claims.py", tiny / "bncourse" / "claims.py")
    here = "import sys; sys.path.insert(0, '..')\n"
    write(tiny, "01_one", here + CLAIM.format(id="first-one", value=2, expect="supported"))
    write(tiny, "02_two", here + CLAIM.format(id="second-one", value=0.1, expect="contradicted"),
          after='<div id="every-claim"></div>\n\n<div id="map"></div>\n')
    index = tiny / "book" / "index.md"
    index.write_text(index.read_text() + '\nSee <span class="claim-ref" data-claim-id="second-one"></span>.\n')
    return tiny


def rows_of(root):
    page = BeautifulSoup((root / "_build" / "html" / "book" / "02_two.html").read_text(), "html.parser")
    return [(row.a["href"].partition("#claim-")[2], row["data-verdict"], chapter["data-chapter"])
            for chapter in page.select("#every-claim .claim-chapter") for row in chapter.select(".claim-row")]


def test_the_build_gathers_every_claim(claims, run_build):
    for _ in range(2):  # the second build finds the list filled
        done = run_build(claims)
        assert done.code == 0, done.said
        assert rows_of(claims) == [("first-one", "supported", "1 01_one"), ("second-one", "contradicted", "2 02_two")]
    pages = {name: BeautifulSoup((claims / "_build" / "html" / "book" / f"{name}.html").read_text(), "html.parser")
             for name in ("index", "02_two")}
    link, here = pages["index"].select_one(".claim-ref a"), "import sys; sys.path.insert(0, '..')\n"
    assert link["href"] == "02_two.html#claim-second-one" and link.text.startswith("contradicted: 0.")
    assert "first-one is so & <so>" in pages["02_two"].select_one(".claim-row").get_text()
    assert pages["02_two"].select_one(".claim-row svg.claim-picture .claim-threshold")

    # On the map a claim that was contradicted speaks for the other side.
    entries = pages["02_two"].select("#map tbody tr:nth-of-type(4) td:nth-of-type(3) li")
    assert [(entry["class"], entry.a["href"]) for entry in entries] == [
        (["map-for"], "01_one.html#claim-first-one"), (["map-against"], "02_two.html#claim-second-one")]

    # A new claim in one chapter is in the list of another, whose page did not change.
    write(claims, "01_one", here + CLAIM.format(id="another", value=3, expect="supported"))
    assert run_build(claims).code == 0
    assert rows_of(claims) == [("another", "supported", "1 01_one"), ("second-one", "contradicted", "2 02_two")]


REMEMBER = "from IPython.display import display\ndisplay({'application/vnd.bncourse+json': {'remembered': [%s]}}, raw=True)"


def test_what_a_record_says_of_a_claim_stands_beside_its_verdict(claims, run_build):
    there = '{"scales": [{"id": "first-one", "scale": "desk", "data": "Elsewhere", "verdict": "contradicted", "effect_text": ""}]}'
    here = "import sys; sys.path.insert(0, '..')\n"
    write(claims, "01_one", here + CLAIM.format(id="first-one", value=2, expect="supported"),
          f"from IPython.display import display\ndisplay({{'application/vnd.bncourse+json': {there}}}, raw=True)")
    index = claims / "book" / "index.md"
    index.write_text(index.read_text().replace("second-one", "first-one"))
    for _ in range(2):  # the second build finds the reference filled
        assert (done := run_build(claims)).code == 0, done.said
    page = BeautifulSoup((claims / "_build" / "html" / "book" / "02_two.html").read_text(), "html.parser")
    assert [row.select_one(".claim-verdict").get_text() for row in page.select(".claim-row")] == [
        "✓ supportedElsewhere: ✗ contradicted", "✗ contradicted"]
    reference = BeautifulSoup((claims / "_build" / "html" / "book" / "index.html").read_text(), "html.parser").select_one(".claim-ref")
    assert reference.get_text().startswith("supported: ") and reference.get_text().endswith("× (on Elsewhere: contradicted)")
    assert "Of these, 1 were put to a convolutional network on CIFAR-10 as well: 0 get the same verdict there, 1 the opposite one" in " ".join(
        page.select_one("#every-claim").get_text().split())


def test_a_wrong_memory_of_another_chapter_fails_the_build_by_name(claims, run_build):
    index = claims / "book" / "index.md"
    index.write_text(index.read_text().replace("second-one", "first-one"))
    write(claims, "02_two", REMEMBER % '{"claim": "first-one", "verdict": "supported"}')
    assert (done := run_build(claims)).code == 0, done.said
    write(claims, "02_two", REMEMBER % '{"claim": "first-one", "verdict": "contradicted"}')
    done = run_build(claims)
    assert done.code != 0 and "02_two remembers that 'first-one' is contradicted, but it is supported" in done.said


def test_seeds_follow_from_the_code_and_not_from_its_layout():
    def seed(*cells):
        return first_seed(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]))

    # A panel asks a record, which has seeds of its own; whatever else its cell holds counts.
    assert seed("f()", 'panel("curves", study, differ={"a": "b"})') == seed("f()", 'panel("curves", study)') == seed("f()")
    assert seed("f()", 'panel("curves", study)\nthreshold = 1') != seed("f()") != seed("f()", "x = panel")
    one = seed("%pip install x", "if x:\n    f(a, f'{b:.1f}')\n    g()")
    assert one == seed("%pip  install x", "if x:  # a comment\n  f(\n    a, f\"{b:.1f}\",\n  )\n  g()")
    assert one == 45550, "the same in every version of Python"
    others = [seed("%pip install x", "if x:\n    f(a, f'{b:.1f}')\ng()"), seed("%pip install x", "if x:\n    f(a, f'{b:.2f}')\n    g()"),
              seed("if x:\n    f(a, f'{b:.1f}')\n    g()"), seed("%pip install y", "if x:\n    f(a, f'{b:.1f}')\n    g()")]
    assert len({one, *others}) == 5


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


@pytest.mark.parametrize("says", ["... and at a small one.", "The same on scaled pixels.", "It does in six layers."])
def test_a_claim_that_leans_on_another_fails_the_build(claims, run_build, says):
    here = "import sys; sys.path.insert(0, '..')\n"
    write(claims, "01_one", here + CLAIM.format(id="first-one", value=2, expect="supported").replace("first-one is so & <so>", says))
    done = run_build(claims)
    assert done.code != 0 and "01_one: claim 'first-one' begins with" in done.said and says in done.said


def serve(root, *arguments):
    command = [sys.executable, str(root / "book" / "_ext" / "serve.py"), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30)


def test_serving_what_is_not_there(tiny):
    done = serve(tiny)
    assert done.returncode != 0 and "make book" in done.stderr and len(done.stderr.splitlines()) == 1
    shutil.copytree(ROOT / "book" / "_static", tiny / "_build" / "html")
    (tiny / "_build" / "html" / "index.html").touch()
    assert "not a port number" in serve(tiny, "eight").stderr


@pytest.fixture
def make(tmp_path, unavailable):
    """Run make in a folder with this Makefile, where the only Pythons are the scripts given by name."""
    if not shutil.which("make"):
        unavailable("no make on this machine")
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


# A Python that installs, and counts how often.
COUNTING = NEW.replace("exit 7", "echo installed >>installs") + 'case "$1" in *build.py) echo built;; esac\n'


def test_two_targets_at_once_install_once(make, tmp_path):
    done = make("-j8", "book", "test", python3=COUNTING)
    assert done.returncode == 0 and done.stamped, done.stderr
    assert (tmp_path / "installs").read_text() == "installed\n"


def test_a_dry_run_does_nothing(make, tmp_path):
    done = make("-n", "book", "test", python3=COUNTING)
    assert done.returncode == 0 and "build.py" in done.stdout
    assert not (tmp_path / ".venv").exists() and not (tmp_path / "installs").exists()


def test_a_folder_that_moved_is_installed_again(make, tmp_path):
    for where in (None, None, "/somewhere/else\n"):
        if where:
            (tmp_path / ".venv" / ".installed").write_text(where)
        assert make("book", python3=COUNTING).returncode == 0
    assert (tmp_path / "installs").read_text() == "installed\n" * 2
