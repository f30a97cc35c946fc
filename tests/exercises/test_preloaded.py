"""Workers that are forked from a process with torch in its memory: in their sandbox they are where, and what, one that
bubblewrap starts there is; and whatever ends, nothing is left and no grade is lost."""

import os
import signal
import subprocess
import sys
import time

import pytest
from handed_in import ROOT, notebook

from bncourse.grading import sandbox as machinery
from bncourse.grading.sandbox import Limits, Stock, Worker, memory_group

# What student code can see of its surroundings.
LOOK = """
import os, socket, stat, sys
status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines())
kind = lambda fd: stat.S_IFMT(os.fstat(fd).st_mode)
def descriptors():
    found = []
    for fd in range(4096):
        try:
            found.append([fd, stat.S_IFMT(os.fstat(fd).st_mode)])
        except OSError:
            pass
    return found
def mount(line):
    fields = line.split()
    return " ".join(fields[3:6] + fields[fields.index("-") + 1 : -1])
alike = {
    "descriptors": descriptors(),
    "environment": sorted(map(list, os.environ.items())),
    "places": [os.getcwd(), os.readlink("/proc/self/cwd"), *sorted(os.listdir("/")), *sys.path],
    "mounts": sorted({mount(line) for line in open("/proc/self/mountinfo")}),
    "who": [os.getuid(), os.getgid(), os.getgroups(), os.getpid(), os.getsid(0) == os.getpgid(0)],
    "seen": len([name for name in os.listdir("/proc") if name.isdigit()]),
    "network": [open("/proc/net/dev").read().count(":"), open("/proc/net/unix").read().splitlines()[1:]],
    "limits": [line for line in open("/proc/self/limits") if "address space" not in line],  # that one depends on what is mapped
    "powers": [status[name] for name in ("CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Seccomp", "Threads", "SigIgn", "SigBlk")],
    "modules": sorted(name for name in sys.modules if name.split(".")[0] in ("bncourse", "__main__")),
    "cgroup": [line for line in open("/proc/self/cgroup") if "memory" in line or line.startswith("0:")],
}
bounds = [int(status["CapBnd"], 16) & ~0b11000000, int(status["CapInh"], 16) & ~0b11000000]
spaces = {name: os.stat("/proc/self/ns/" + name).st_ino for name in ("user", "pid", "mnt", "ipc", "net", "uts")}
shared = [line for line in open("/proc/self/maps") if line.split()[1][1::2] == "ws"]
"""

BOMB = """
import os, time
born = 0
for _ in range(100):
    if os.fork() == 0:
        time.sleep(100)
    born += 1
"""
# Each process stays below its own limit of memory; together they are above the group's.
GREEDY = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        hoard = b"x" * (900 * 2**20)
        time.sleep(100)
ends = os.waitpid(-1, 0)[1]
"""
ORPHANS = """
import os, time
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            time.sleep(0.1)
        os._exit(0)
    os.waitpid(pid, 0)
time.sleep(0.5)
"""


@pytest.fixture
def stock(sandbox, monkeypatch):
    """The stock of preloaded processes that workers come from, which starts empty and is dropped."""
    own = Stock()
    monkeypatch.setattr(machinery, "stock", own)
    yield own
    own.drop()


@pytest.fixture
def start(sandbox):
    """`start(slot)`: a worker that was forked, which is ended after the test."""
    started = []

    def start(slot: int = 60) -> Worker:
        worker = Worker(Limits(step=10), unsafe=False, slot=slot)
        started.append(worker)
        assert worker.holder is not None
        return worker

    yield start
    for worker in started:
        worker.close()


def value(worker: Worker, name: str):
    return worker.value(name).values[0].data()


def ran(worker: Worker, cell: str) -> str:
    """The cell's error, without the text of the exception."""
    return worker.run_cell(cell).partition(":")[0]


def running(word: str) -> list[str]:
    listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if word in line]


def gone(word: str) -> bool:
    until = time.monotonic() + 20
    while running(word) and time.monotonic() < until:
        time.sleep(0.1)
    return not running(word)


def test_a_forked_worker_finds_what_a_started_one_finds_and_nothing_else(start, monkeypatch):
    forked, without = start(), Stock()
    without.off = True
    monkeypatch.setattr(machinery, "stock", without)
    usual = Worker(Limits(step=10), unsafe=False, slot=60)
    assert usual.holder is None
    seen = []
    for worker in (forked, usual):
        assert worker.run_cell(LOOK) == ""
        seen.append({name: value(worker, name) for name in ("alike", "bounds", "spaces", "shared")})
    usual.close()
    for name, found in seen[0]["alike"].items():
        assert found == seen[1]["alike"][name], name
    assert seen[0]["alike"]["powers"][:5] == ["0" * 16] * 3 + ["1", "2"] and seen[0]["alike"]["seen"] == 2
    assert seen[0]["bounds"] == [0, 0] and seen[0]["shared"] == []
    own = {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in seen[0]["spaces"]}
    for name, space in seen[0]["spaces"].items():
        assert space != own[name] or (name == "user" and os.geteuid() == 0), name


@pytest.mark.parametrize("cell", [
    "open('/course/bncourse/x', 'w')",
    "import torch\nopen(torch.__file__, 'a')",
    "import os\nos.chmod('/proc/self/exe', 0o777)",
    "open('/proc/self/exe', 'r+b')",
    "import os\nos.setxattr('/proc/self/exe', 'user.x', b'x')",
    "import os\nos.utime('/proc/self/exe')",
    "import os\nos.open('/proc/self/exe/..', 0)",
    "import os, sys\nos.chmod(sys.executable, 0o777)",
    "import socket\nsocket.create_connection(('127.0.0.1', 9), 2)",
    "import os\nos.setuid(0)\nos.mkdir('/x')",
    "import os\nos.kill(3, 0)",
    "import ctypes\nassert ctypes.CDLL(None).setns(ctypes.CDLL(None).open(b'/proc/1/ns/mnt', 0), 0) == 0",
    "import ctypes\nassert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0 and ctypes.CDLL(None).ptrace(16, 3, 0, 0) == 0",
    "import bncourse.grading.ex01",
])  # fmt: skip
def test_a_forked_worker_may_not(start, cell):
    assert start().run_cell(cell) != ""


def test_processes_and_memory_have_their_limits(start):
    worker = start()
    assert ran(worker, BOMB) == "BlockingIOError" and 20 < value(worker, "born") <= 32
    assert ran(worker, "hoard = bytearray(2 * 2**30)") == "MemoryError"
    assert worker.group is None or str(value_of_group(worker.group)) == str(Limits().memory + 2**29)


def value_of_group(group) -> str:
    return next(group / name for name in ("memory.limit_in_bytes", "memory.max") if (group / name).exists()).read_text().strip()


def test_all_processes_of_a_submission_share_one_limit_of_memory(start):
    worker = start()
    if worker.group is None:
        pytest.skip("this user can make no control group")
    assert worker.run_cell(GREEDY) == "" and value(worker, "ends") == signal.SIGKILL


def test_orphans_are_forgotten_when_they_end(start):
    worker = start()
    assert worker.run_cell(ORPHANS) == ""
    assert worker.run_cell("seen = sum(name.isdigit() for name in os.listdir('/proc'))") == "" and value(worker, "seen") == 2


def test_submissions_do_not_meet(start):
    one, other = start(60), start(61)
    assert one.run_cell("import os, socket\nopen('/tmp/left', 'w').close()\nhere = socket.socket(socket.AF_UNIX)\n"
                        "here.bind('\\0meet')\nhere.listen()") == ""  # fmt: skip
    assert ran(other, "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0meet')") == "ConnectionRefusedError"
    assert other.run_cell("import os\nfound = os.path.exists('/tmp/left')") == "" and value(other, "found") is False
    nap = f"97531.{os.getpid()}"
    assert one.run_cell(f"import subprocess\nsubprocess.Popen(['sleep', '{nap}'])") == ""
    assert other.run_cell("seen = [open('/proc/' + p + '/cmdline').read() for p in os.listdir('/proc') if p.isdigit()]") == ""
    assert not any(nap in seen for seen in value(other, "seen")) and running(nap)
    one.close()
    assert gone(nap)
    assert other.run_cell("x = 1") == ""


def test_a_killed_source_costs_nothing(stock, start):
    before = start()
    first = stock.current
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    assert before.run_cell("x = 1") == ""
    between = Worker(Limits(), unsafe=False, slot=62)
    assert between.run_cell("x = 1") == "" and not stock.off
    between.close()
    assert start(63).run_cell("x = 1") == "" and stock.current is not first


def test_where_a_sandbox_cannot_be_entered_workers_are_started(stock, monkeypatch):
    monkeypatch.setattr(machinery, "namespaces", lambda pid, stack: ([0], 1))  # not one: the kernel refuses
    worker = Worker(Limits(), unsafe=False, slot=64)
    assert worker.holder is None and stock.off and stock.take() is None and worker.run_cell("x = 1") == ""
    worker.close()


def test_nothing_is_left_when_the_grader_is_killed(sandbox, tmp_path):
    nap = f"86420.{os.getpid()}"
    folder = tmp_path / "class"
    folder.mkdir()
    for name in "ab":
        notebook(folder / f"{name}.ipynb", f"import subprocess\nsubprocess.run(['sleep', '{nap}'])")
    argv = [sys.executable, "-m", "bncourse", "grade", "ex01", str(folder), "--csv", str(tmp_path / "g.csv"), "--jobs", "2"]
    grader = subprocess.Popen([*argv, "--timeout", "100"], env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)})
    until = time.monotonic() + 120
    try:
        while len(running(nap)) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        listed = subprocess.run(["ps", "-wwo", "pid=,args=", "--ppid", str(grader.pid)], capture_output=True, text=True).stdout
    finally:
        grader.kill()
        grader.wait()
    (source,) = (line.split()[0] for line in listed.splitlines() if line.endswith("preloaded.py"))
    assert gone(nap)
    while os.path.exists(f"/proc/{source}") and time.monotonic() < until:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{source}")
    if group := memory_group(Limits()):
        for empty in (group, *group.parent.glob(f"grade-{grader.pid}-*")):
            empty.rmdir()  # which says whether it is empty
