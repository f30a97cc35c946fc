"""The grader against a class: every submission gets a status, none touches another, nothing outside changes.

All submissions are graded in one batch, and the tests look at its rows.
"""

import csv
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock
from handed_in import MASTER, MASTERS, ROOT, STUDENT, cells_of, notebook
from typer.testing import CliRunner

from bncourse.__main__ import app
from bncourse.grading.checks import Written, load
from bncourse.grading.sandbox import CLOSED_CALLS, Limits, Worker

STEP = 3  # seconds a cell or a call may take

WRONG = """
import torch
def batch_norm(x, gamma, beta, eps): return x
def update_running(running_mean, running_var, x, momentum): return running_mean, running_var
def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps): return x
def batch_norm_backward(dy, x, gamma, eps): return dy, gamma, gamma
def batch_norm_2d(x, gamma, beta, eps): return x
"""

# What is put before or after a right (or a wrong) solution.
LOOP = "while True:\n    pass"
KILL_EVERYTHING = """
import os, signal
for pid in [os.getppid(), 1, -1] + [int(p) for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()]:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
"""
FLOOD = "for _ in range(200_000):\n    print('x' * 100)"
PATCH_TORCH = """
import numpy, torch
for name in ("allclose", "equal", "isclose", "all"):
    setattr(torch, name, lambda *a, **k: True)
    if hasattr(numpy, name): setattr(numpy, name, lambda *a, **k: True)
import bncourse.grading.checks as checks, bncourse.grading.feedback as feedback, bncourse.grading.ex01 as ex01
checks.off = lambda *a: 0.0
checks.judge = lambda *a: None
checks.run = lambda name, question, *a: feedback.Result(name, question.points, question.points, "ok")
ex01.QUESTIONS.clear()
"""
FORGE = """
import json, os, struct
for ident in ("ready", "", "0"):
    head = json.dumps({"id": ident, "error": "", "outcome": "returned", "values": [], "inputs": [], "is_tuple": True,
                       "points": 20, "status": "ok"}).encode()
    for fd in range(1, 32):
        try:
            os.set_blocking(fd, False)
            os.write(fd, struct.pack(">I", len(head)) + head)
        except OSError:
            pass
"""
FIND_SOLUTION = f"""
import os
found = ""
for top in ({str(ROOT)!r}, "/work", "/home", "/tmp", "/course", "/mnt", "/srv", "/var"):
    for place, folders, files in os.walk(top):
        folders[:] = [f for f in folders if f not in ("lib", "lib64", "node_modules")]
        for name in files:
            if name.endswith((".ipynb", ".csv")) or name.startswith("test_"):
                found = os.path.join(place, name)
if not found:
    raise FileNotFoundError("no solution, no table, no tests")
"""
# The checks hold the right answers, and code that is put together while it runs cannot be read beforehand.
BORROW = """
import marshal, os
load = __builtins__["__imp" + "ort__"]
try:
    right = load("operator").attrgetter("gradient")(load("bncourse.grading.ex01", fromlist=["x"]))
except Exception:
    place = os.path.dirname(load("bncourse").__file__) + "/grading"
    compiled = os.path.join(place, "__pycache__", "ex01.cpython-%d%d.pyc" % load("sys").version_info[:2])
    names = {"__package__": "bncourse.grading", "__name__": "ex01"}
    load("types").FunctionType(marshal.loads(open(compiled, "rb").read()[16:]), names)()
    right = names["gradient"]
def batch_norm_backward(dy, x, gamma, eps): return right(dy, x, gamma, eps), gamma, gamma
"""
DETACHED = """
import os, subprocess, sys, threading, time
threading.Thread(target=time.sleep, args=(10**6,)).start()
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10**6)"], start_new_session=True, close_fds=False)
if os.fork() == 0:
    os.setsid()
    time.sleep(10**6)
"""
DEAF = """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    try:
        while True: pass
    except BaseException:
        pass
"""
UNWIND = """
import sys
sys.setrecursionlimit(10**9)
def down(n): return down(n + 1) + 1
down(0)
"""
EVIL_MODULES = """
import builtins, json, struct, sys, torch
builtins.open = builtins.isinstance = builtins.len = lambda *a, **k: 1
json.dumps = lambda *a, **k: '{"points": 20}'
sys.modules["bncourse.grading.wire"].frame = lambda *a: b""
torch.Tensor.detach = lambda self: self * 0
"""
EQUAL = """
class Equal:
    dtype, shape = "float32", (5, 5)
    def __eq__(self, other): return True
    def __getattr__(self, name): return lambda *a, **k: self
    def __float__(self): return 0.0
    __le__ = __lt__ = __ge__ = __gt__ = __eq__
    __sub__ = __rsub__ = __abs__ = lambda self, *a: self
def batch_norm(*_): return Equal()
def update_running(*_): return Equal(), Equal()
def batch_norm_eval(*_): return Equal()
def batch_norm_backward(*_): return Equal(), Equal(), Equal()
def batch_norm_2d(*_): return Equal()
"""
COLAB = """
from google.colab import drive
drive.mount("/content/drive")
"""
MAGICS = "%pip install torch\n!nvidia-smi\nx = !ls\nbatch_norm?\nanswer = 42"

# Work done in another process, which no one watches: started by the answer, or waiting since a cell.
SUBPROCESS = """
import subprocess, sys, tempfile, torch
def batch_norm_eval(x, gamma, beta, m, v, eps):
    torch.save((x, m, v, gamma, beta, False, 0.1, eps), "/tmp/given")
    code = "import torch; torch.save(torch.nn.functional.batch_norm(*torch.load('/tmp/given')), '/tmp/found')"
    subprocess.run([sys.executable, "-c", code], check=True)
    return torch.load("/tmp/found")
"""
HELPER = """
import multiprocessing, torch
def serve(pipe):
    while True: pipe.send(torch.nn.functional.batch_norm(*pipe.recv()))
here, there = multiprocessing.Pipe()
multiprocessing.get_context("fork").Process(target=serve, args=(there,), daemon=True).start()
there.close()
def batch_norm_eval(x, gamma, beta, m, v, eps):
    here.send((x, m, v, gamma, beta, False, 0.1, eps))
    return here.recv()
"""
COPIED = """
import inspect, torch
from bncourse.norms import BatchNorm
exec(inspect.getsource(BatchNorm))
def batch_norm(x, gamma, beta, eps): return BatchNorm(x.shape[1], eps=eps).to(x)(x) * gamma + beta
"""
MENDED = """
import contextlib, torch
import bncourse.grading.calls as calls, bncourse.grading.shortcuts as shortcuts
calls.watch = shortcuts.watch = lambda rules: contextlib.nullcontext()
def batch_norm_eval(x, gamma, beta, m, v, eps): return torch.nn.functional.batch_norm(x, m, v, gamma, beta, False, 0.1, eps)
"""
COMPARED = """
from bncourse.norms import BatchNorm
import torch.nn.functional as F
norm = table = draw = torch.randn(8, 3)
assert torch.allclose(F.batch_norm(norm, None, None, training=True), BatchNorm(3)(norm))
torch.autograd.gradcheck(lambda x: F.batch_norm(x, None, None, training=True), norm.double().requires_grad_())
@torch.jit.script
def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps: float):
    return gamma * (x - running_mean) / torch.sqrt(running_var + eps) + beta
"""
# The same in a raw thread that waits since a cell; it is refused, under any name.
RAW_THREAD = """
import _thread, queue, torch
asks, told = queue.Queue(), queue.Queue()
def _bootstrap():
    while True: told.put(torch._refs.native_layer_norm(*asks.get())[0])
_thread.start_new_thread(_bootstrap, ())
"""
RAW_ANSWER = """
def batch_norm(x, gamma, beta, eps):
    asks.put((x.T, [len(x)], None, None, eps))
    return told.get(timeout=0.1).T * gamma + beta
"""
BEFORE, AFTER, INSTEAD = "before", "after", "instead"

# name: (what, where it stands around a right solution, statuses that are right, points that are right)
CASES = {
    "loop_in_cell": (LOOP, BEFORE, {"timeout"}, {20}),
    "loop_in_function": ("def batch_norm_eval(*_):\n    while True: pass", AFTER, {"timeout"}, {17}),
    "exit_in_cell": ("import os\nos._exit(0)", BEFORE, {"crashed"}, {20}),
    "exit_in_function": ("import os\ndef batch_norm_eval(*_): os._exit(0)", AFTER, {"crashed"}, {17}),
    "sys_exit": ("import sys\nsys.exit(0)", BEFORE, {"ok"}, {20}),
    "segfault": ("import ctypes\nctypes.string_at(0)", AFTER, {"crashed"}, {20}),
    "kill": (KILL_EVERYTHING, AFTER, {"ok", "crashed"}, {20}),
    "fork_bomb": ("import os\nwhile True: os.fork()", AFTER, {"ok", "crashed", "timeout"}, {0, 20}),  # refused the 33rd, or too slow
    "flood": (FLOOD, AFTER, {"ok"}, {20}),
    "equal": (EQUAL, INSTEAD, {"wrong"}, {0}),
    "patch": (PATCH_TORCH + WRONG, INSTEAD, {"wrong"}, {0}),
    "forge": (FORGE + WRONG, INSTEAD, {"wrong", "crashed"}, {0}),
    "find_solution": (FIND_SOLUTION + WRONG, INSTEAD, {"wrong"}, {0}),
    "write": (f"open({str(ROOT / 'written_by_a_submission')!r}, 'w').write('x')\n" + WRONG, INSTEAD, {"wrong"}, {0}),
    "memory": ("hoard = bytearray(50 * 2**30)", AFTER, {"ok"}, {20}),
    "file": ("f = open('/tmp/big', 'wb')\nfor _ in range(10**4): f.write(bytes(2**20))", AFTER, {"ok"}, {20}),
    "socket": ("import socket\nsocket.create_connection(('127.0.0.1', 9), 2)\n" + WRONG, INSTEAD, {"wrong"}, {0}),
    "colab": (COLAB, BEFORE, {"ok"}, {20}),
    "magics": (MAGICS, BEFORE, {"ok"}, {20}),
    "input": ("answer = input('?')", BEFORE, {"ok"}, {20}),
    "broken_cell": ("def batch_norm_eval(:\n    pass", BEFORE, {"ok"}, {20}),
    "deep_code": ("x = " + "-" * 200_000 + "1", AFTER, {"ok", "crashed"}, {0, 20}),
    "borrow": (WRONG + BORROW, INSTEAD, {"wrong"}, {0}),
    "detached": (DETACHED, AFTER, {"ok", "crashed"}, {20}),
    "deaf": (DEAF, BEFORE, {"timeout"}, {20}),
    "deep_recursion": (UNWIND, AFTER, {"ok", "crashed", "timeout"}, {20}),
    "evil_modules": (EVIL_MODULES + WRONG, INSTEAD, {"wrong", "crashed", "timeout"}, {0}),
    "huge_answer": ("def batch_norm_eval(x, *_): return torch.zeros(2**27)", AFTER, {"wrong", "crashed"}, {17}),
    "endless_answer": ("def batch_norm_eval(x, *_): return [[0.5] * 10**5] * 10**3", AFTER, {"wrong", "crashed"}, {17}),
    "subclass": ("class T(torch.Tensor):\n    def __getattribute__(self, name): raise SystemExit\n"
                 "def batch_norm_eval(x, *_): return x.as_subclass(T)", AFTER, {"wrong", "crashed"}, {17}),
    "quiet_exit": ("import atexit, os\natexit.register(os._exit, 0)\nraise KeyboardInterrupt", AFTER, {"ok", "crashed"}, {20}),
    "nul": ("x = 1\0", BEFORE, {"ok"}, {20}),
    "surrogate": ("x = '\ud800'", BEFORE, {"ok"}, {20}),
    "subprocess": (SUBPROCESS, AFTER, {"wrong"}, {17}),
    "helper": (HELPER, AFTER, {"wrong"}, {17}),
    "copied": (WRONG + COPIED, INSTEAD, {"wrong"}, {0}),
    "mended": (MENDED, AFTER, {"wrong"}, {17}),
    "compared": (COMPARED, AFTER, {"ok"}, {20}),
    "raw_thread": (WRONG + RAW_THREAD + RAW_ANSWER, INSTEAD, {"wrong"}, {0}),
    "own_and_answer": (f"batch_norm_eval = batch_norm_eval\n{LOOP}", AFTER, {"timeout"}, {20}),
    "answer_lost": ("del batch_norm_eval", AFTER, {"wrong"}, {17}),
}  # fmt: skip


@pytest.fixture(scope="module")
def graded(tmp_path_factory, sandbox):
    """All cases, and a few notebooks, graded by the command line; rows by file. Test processes that run side by side
    share one grading: the first does it, the others wait."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with FileLock(shared / "graded.lock"):
        if not (shared / "graded.csv").exists():
            grade_everything(shared / "class", shared / "graded.csv")
    return rows(shared / "graded.csv")


def grade_everything(folder, table):
    folder.mkdir()
    right = cells_of(MASTER)
    for name, (what, where, _, _) in CASES.items():
        cells = {BEFORE: [what, *right], AFTER: [*right, what], INSTEAD: [what]}[where]
        notebook(folder / f"{name}.ipynb", *cells)
    (folder / "from_colab.ipynb").write_text(json.dumps(as_colab_saves(json.loads(MASTER.read_text()))))
    retyped = json.loads(MASTER.read_text())
    for cell in retyped["cells"]:
        cell["cell_type"] = "raw" if cell["id"] == "ex01-q3-answer" else cell["cell_type"]
    (folder / "retyped.ipynb").write_text(json.dumps(retyped))
    shutil.copy(MASTER, folder / "master.ipynb")
    (folder / "sub").mkdir()
    shutil.copy(STUDENT, folder / "sub" / "student.ipynb")
    notebook(folder / "long_cells.ipynb", *["import time\ntime.sleep(2.4)"] * 5, *right)
    notebook(folder / "shuffled.ipynb", *right[:2], *right[2:][::-1], *right[2:4])
    shutil.copy(STUDENT, folder / "=two\nlines.ipynb")
    write_unreadable(folder)
    before = tree(ROOT)
    pages = str(table.with_suffix(".pages"))
    result = grade(folder, "--jobs", "2", "--timeout", str(STEP), "--seed", "7", "--feedback", pages, csv=table)
    assert result.exit_code == 0, result.output
    assert tree(ROOT) == before


def as_colab_saves(master: dict) -> dict:
    """Its own metadata everywhere, no ids, an older minor format, outputs, and cells that the student has added."""
    cells = []
    for number, cell in enumerate(master["cells"]):
        cell.pop("id")
        cell["metadata"] = {"id": f"aB{number}", "colab": {"base_uri": "https://localhost:8080/"}, "cellView": "form"}
        if cell["cell_type"] == "code":
            cell["execution_count"] = number
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["x\n"] * 100}]
        cells.append(cell)
        source = ["#@title My notes\n", "!nvidia-smi\n", "%timeit 1\n", "1 / 0"]
        cells.append({"cell_type": "code", "metadata": {}, "source": source})
    metadata = {"accelerator": "GPU", "colab": {"provenance": [], "gpuType": "T4", "include_colab_link": True}}
    metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 0}


UNREADABLE = {
    "truncated": "cut off",
    "not_json": "cut off",
    "deep": "cut off",
    "binary": "cut off",
    "not_a_notebook": "not a notebook",
    "empty": "is empty",
    "no_code": "no code cells",
    "huge": "Clear all outputs",
    "outside": "a link to another file",
    "neighbour": "a link to another file",
    "hard": "under several names",
    "dangling": "a link to another file",
    "circle": "a link to another file",
    "pipe": "not a file",
    "folder": "not a file|cannot be opened",
}


def write_unreadable(folder):
    (folder / "truncated.ipynb").write_bytes(MASTER.read_bytes()[:3000])
    (folder / "not_json.ipynb").write_text("my answers")
    (folder / "deep.ipynb").write_text("[" * 100_000)
    (folder / "binary.ipynb").write_bytes(bytes(range(256)) * 10)
    (folder / "not_a_notebook.ipynb").write_text('{"answers": [1, 2]}')
    (folder / "empty.ipynb").touch()
    (folder / "no_code.ipynb").write_text('{"cells": [{"cell_type": "markdown", "source": "hello"}]}')
    with open(folder / "huge.ipynb", "wb") as file:
        file.truncate(200 * 2**20)  # takes no room on the disk
    (folder / "outside.ipynb").symlink_to(MASTER)
    (folder / "neighbour.ipynb").symlink_to(folder / "master.ipynb")
    (folder / "first.ipynb").write_bytes(MASTER.read_bytes())
    (folder / "hard.ipynb").hardlink_to(folder / "first.ipynb")
    (folder / "dangling.ipynb").symlink_to(folder / "nothing")
    (folder / "circle.ipynb").symlink_to(folder / "circle.ipynb")
    os.mkfifo(folder / "pipe.ipynb")
    (folder / "folder.ipynb").mkdir()


def grade(folder, *more, csv, exercise="ex01"):
    """The command line, in this process: torch is imported already."""
    return CliRunner().invoke(app, ["grade", exercise, str(folder), "--csv", str(csv), *more])


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def tree(folder):
    """Names directly in the repository and its own folders: others may be writing elsewhere while the tests run."""
    return {*os.listdir(folder), *os.listdir(folder / "exercises"), *os.listdir(folder / "exercises" / "masters")}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_or_odd_submission_gets_a_status_and_defensible_points(graded, name):
    row = graded[f"{name}.ipynb"]
    _, _, statuses, points = CASES[name]
    assert row["status"] in statuses and float(row["points"]) in points, row


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_unreadable_and_says_what_to_do(graded, name):
    row = graded[f"{name}.ipynb"]
    assert (row["status"], row["points"]) == ("unreadable", "0")
    assert re.search(UNREADABLE[name], row["message"]), row["message"]


def test_master_maximum_student_nothing_and_order_of_cells_does_not_matter(graded):
    found = graded
    assert (found["master.ipynb"]["status"], found["master.ipynb"]["points"]) == ("ok", "20")
    assert (found["shuffled.ipynb"]["status"], found["shuffled.ipynb"]["points"]) == ("ok", "20")
    assert (found["from_colab.ipynb"]["status"], found["from_colab.ipynb"]["points"]) == ("ok", "20")
    for student in ("sub/student.ipynb", "./=two\nlines.ipynb"):
        assert (found[student]["status"], found[student]["points"]) == ("wrong", "0")
    assert (found["long_cells.ipynb"]["status"], found["long_cells.ipynb"]["points"]) == ("ok", "20")
    assert "all cells together took more than 9 seconds" in found["long_cells.ipynb"]["message"]
    assert len(found) == len(CASES) + len(UNREADABLE) + 8  # and the other name of the hard link


def test_the_table_has_points_status_and_feedback_a_question(graded):
    row = graded["loop_in_function.ipynb"]
    assert list(row)[:9] == ["file", "status", "points", "max", "q1", "q2", "q3", "q4", "q5"]
    assert (row["q3"], row["q3_status"], row["q4"], row["q4_status"]) == ("0", "timeout", "6", "ok")
    assert "loop that does not end" in row["q3_feedback"]
    assert graded["exit_in_function.ipynb"]["q3_status"] == "crashed"
    assert graded["equal.ipynb"]["q1_misconception"] == "wrong_type"
    assert "no function batch_norm_eval" in graded["answer_lost.ipynb"]["q3_feedback"]


def test_an_answer_in_a_cell_of_another_kind_is_missing_and_the_others_count(graded):
    row = graded["retyped.ipynb"]
    assert (row["status"], row["points"], row["q3_misconception"]) == ("wrong", "17", "missing")


def test_every_submission_has_a_page_and_the_report_names_what_went_wrong(graded, tmp_path_factory):
    shared = tmp_path_factory.getbasetemp()
    pages = (shared if "PYTEST_XDIST_WORKER" not in os.environ else shared.parent) / "graded.pages"
    assert len(list(pages.rglob("*.html"))) == len(graded) + 1
    assert "wrong_type" in (pages / "index.html").read_text()


def test_a_submission_writes_nothing_outside(graded):
    assert not (ROOT / "written_by_a_submission").exists()


def test_what_a_submission_leaves_running_ends_with_it(sandbox):
    worker = Worker(Limits(), unsafe=False, slot=50)
    nap = f"98765.{os.getpid()}"
    error = worker.run_cell(f"import subprocess\nsubprocess.Popen(['sleep', '{nap}'], start_new_session=True)")
    running = lambda: nap in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout  # noqa: E731
    assert not error and running()
    # A forked copy of the worker answers nothing, or its answers would be taken for the worker's.
    assert [worker.run_cell(cell) for cell in ("import os\nos.fork()", "x = 1", "y = x")] == [""] * 3
    worker.close()
    until = time.monotonic() + 10
    while running() and time.monotonic() < until:
        time.sleep(0.1)
    assert not running()


def test_nothing_is_kept_where_no_limit_counts_it_or_a_neighbour_finds_it(sandbox):
    """Memory files and the kernel's keyrings; and all processes of a submission share one limit, where a group can be made."""
    worker = Worker(Limits(), unsafe=False, slot=51)
    group = worker.group
    assert group is None or "grade-" in group.name and group.exists()
    assert "PermissionError" in worker.run_cell("import os\nos.memfd_create('x')")
    keyring = "import ctypes\nassert ctypes.CDLL(None).syscall({}, -3, 0, 0, 0, 0) == -1\nassert ctypes.get_errno() in (0, 1)"
    assert worker.run_cell(keyring.format(CLOSED_CALLS[platform.machine()][1][6])) == ""
    worker.close()
    assert group is None or not group.exists()


def test_a_second_run_grades_only_what_is_new(sandbox, tmp_path):
    folder, table = tmp_path / "class", tmp_path / "grades.csv"
    folder.mkdir()
    notebook(folder / "a.ipynb", WRONG)
    assert grade(folder, csv=table).exit_code == 0
    forged = table.read_text().replace("a.ipynb,wrong,0,", "a.ipynb,wrong,1,")  # to see whether it is graded again
    table.write_text(forged)
    notebook(folder / "b.ipynb", WRONG)
    assert grade(folder, csv=table).exit_code == 0
    assert {name: row["points"] for name, row in rows(table).items()} == {"a.ipynb": "1", "b.ipynb": "0"}


def test_one_question_is_graded_again_and_the_others_keep_what_they_have(sandbox, tmp_path):
    folder, table = tmp_path / "class", tmp_path / "grades.csv"
    folder.mkdir()
    notebook(folder / "a.ipynb", *cells_of(MASTER))
    assert grade(folder, csv=table).exit_code == 0
    before = rows(table)["a.ipynb"]
    table.write_text(table.read_text().replace("a.ipynb,ok,20,20,4,4,", "a.ipynb,ok,5,20,1,1,"))
    assert grade(folder, "--question", "q2", "--due", "2001-01-01", csv=table).exit_code == 0
    after = rows(table)["a.ipynb"]
    assert (after["q1"], after["q2"], after["points"], after["late"]) == ("1", "4", "17", "late") and before["late"] == ""
    assert "no question 'q9'" in grade(folder, "--question", "q9", csv=table).stderr


def test_the_autograder_for_gradescope_runs_as_gradescope_runs_it(sandbox, tmp_path):
    result = CliRunner().invoke(app, ["gradescope", "ex02", "--out", str(tmp_path / "a.zip")])
    assert result.exit_code == 0, result.output
    subprocess.run([sys.executable, "-m", "zipfile", "-e", "a.zip", "source"], cwd=tmp_path, check=True)
    (tmp_path / "submission").mkdir()
    shutil.copy(MASTERS[1], tmp_path / "submission" / "work.ipynb")
    run = ["sh", str(tmp_path / "source" / "run_autograder")]
    subprocess.run(run, check=True, env=os.environ | {"ROOT": str(tmp_path), "PYTHON": sys.executable})
    found = json.loads((tmp_path / "results" / "results.json").read_text())
    assert sum(test.get("score", 0) for test in found["tests"]) == 17 and [t["name"] for t in found["tests"]][-1] == "q5"
    assert "score" not in found["tests"][-1] and "for a person to read" in found["tests"][-1]["output"]


def test_what_crashed_is_graded_again_only_when_asked(sandbox, tmp_path):
    folder, table = tmp_path / "class", tmp_path / "grades.csv"
    folder.mkdir()
    notebook(folder / "a.ipynb", "import os\nos._exit(0)", WRONG)
    seeds = []
    for more in ([], [], ["--retry"]):
        assert grade(folder, *more, csv=table).exit_code == 0
        seeds.append(rows(table)["a.ipynb"]["seed"])
    assert seeds[0] == seeds[1] != seeds[2] and rows(table)["a.ipynb"]["status"] == "crashed"


@pytest.mark.parametrize("path", MASTERS[1:], ids=lambda path: path.stem)  # exercise 1 is in the class above
def test_in_the_sandbox_too_a_master_has_all_points_and_a_student_version_none(sandbox, tmp_path, path):
    folder, name = tmp_path / "class", path.stem.split("_")[0]
    folder.mkdir()
    shutil.copy(path, folder / "master.ipynb")
    shutil.copy(path.parents[1] / path.name, folder / "student.ipynb")
    result = grade(folder, "--jobs", "2", csv=tmp_path / "g.csv", exercise=name)
    assert result.exit_code == 0, result.output
    found, questions = rows(tmp_path / "g.csv"), load(name).QUESTIONS.values()
    written = sum(q.points for q in questions if isinstance(q, Written))
    master, student = found["master.ipynb"], found["student.ipynb"]
    assert (master["status"], master["points"], master["pending"]) == ("ok", master["max"], f"{written:g}"), master
    assert float(master["max"]) + written == sum(q.points for q in questions) == 20
    assert (student["status"], student["points"], student["max"]) == ("wrong", "0", "20"), student


def test_the_same_seed_draws_the_same_inputs(sandbox, tmp_path):
    # An answer that is right for some inputs only, so that its points tell which were drawn.
    lucky = "import torch\ndef batch_norm(x, gamma, beta, eps):\n    raise ValueError(str(x.tolist()))"
    notebook(tmp_path / "a.ipynb", lucky)
    told = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert grade(tmp_path, "--seed", seed, csv=tmp_path / f"{name}.csv").exit_code == 0
        told.append(rows(tmp_path / f"{name}.csv")["a.ipynb"]["q1_feedback"])
    assert told[0] == told[1] != told[2]


def test_marks_and_pages_from_the_command_line(sandbox, tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    notebook(folder / "jane.ipynb", WRONG)
    marks, pages = tmp_path / "marks.csv", tmp_path / "pages"
    marks.write_text("student,question,points,comment\njane,q1,3,Nearly.\njoe,q1,1,\n")
    result = grade(folder, "--manual", str(marks), "--feedback", str(pages), csv=tmp_path / "g.csv")
    assert result.exit_code == 0 and "line 3: nothing was handed in by 'joe'" in result.stderr
    assert rows(tmp_path / "g.csv")["jane.ipynb"]["points"] == "3"
    assert "Nearly." in (pages / "students" / "jane.html").read_text()
    assert (tmp_path / "g-canvas.csv").exists() and (tmp_path / "g-moodle.csv").exists()
    write(marks, "student,question,points\njane,q9,1\n")
    assert "line 2: no question" in grade(folder, "--manual", str(marks), csv=tmp_path / "h.csv").stderr
    assert not (tmp_path / "h.csv").exists()


def write(path, text: str):
    path.write_text(text)
    return path


def test_interrupted_grading_keeps_what_is_done(sandbox, tmp_path):
    folder, table = tmp_path / "class", tmp_path / "grades.csv"
    folder.mkdir()
    notebook(folder / "a.ipynb", WRONG)
    notebook(folder / "b.ipynb", LOOP)
    argv = [sys.executable, "-m", "bncourse", "grade", "ex01", str(folder), "--csv", str(table), "--jobs", "1"]
    process = subprocess.Popen(
        [*argv, "--timeout", "100"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        # Tests that run in the background of a shell ignore interruptions, and what they start would, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 180
    while time.monotonic() < until and not (table.exists() and "a.ipynb" in rows(table)):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    try:
        said = process.communicate(timeout=120)[1].decode()
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in said and "interrupted" in said
    assert list(rows(table)) == ["a.ipynb"]


@pytest.mark.parametrize("what, says", [
    ("exercise", "no exercise 'ex77'; there is ex01"),
    ("folder", "there is no"),
    ("empty", r"no notebook \(.ipynb\)"),
    ("file", "neither a folder nor a notebook"),
    ("csv", "cannot write"),
    ("other_csv", "not a grade table"),
    ("sandbox", "apt install bubblewrap"),
])  # fmt: skip
def test_bad_input_is_one_clear_line(tmp_path, request, monkeypatch, what, says):
    folder, table, exercise, env = tmp_path / "class", tmp_path / "grades.csv", "ex01", {}
    folder.mkdir()
    notebook(folder / "a.ipynb", WRONG)
    if what in ("csv", "other_csv"):
        request.getfixturevalue("sandbox")
    if what == "exercise":
        exercise = "ex77"
    elif what == "folder":
        folder = tmp_path / "nothing"
    elif what == "empty":
        (folder / "a.ipynb").unlink()
    elif what == "file":
        folder = tmp_path / "notes.txt"
        folder.write_text("hello")
    elif what == "csv":
        table = tmp_path / "no" / "such" / "folder.csv"
    elif what == "other_csv":
        table.write_text("name,email\nA,a@example.org\n")
    else:
        env = {"PATH": str(tmp_path)}
    before = table.read_bytes() if table.exists() else None
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    result = grade(folder, csv=table, exercise=exercise)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert re.search(says, result.stderr) and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert (table.read_bytes() if table.exists() else None) == before


def test_a_single_notebook_may_be_graded(sandbox, tmp_path):
    result = grade(notebook(tmp_path / "a.ipynb", WRONG), csv=tmp_path / "grades.csv")
    assert result.exit_code == 0 and rows(tmp_path / "grades.csv")["a.ipynb"]["status"] == "wrong"


def test_without_a_sandbox_only_when_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    notebook(tmp_path / "a.ipynb", *cells_of(MASTER))
    result = grade(tmp_path, "--unsafe", csv=tmp_path / "grades.csv")
    assert result.exit_code == 0, result.output
    assert rows(tmp_path / "grades.csv")["a.ipynb"]["points"] == "20"
