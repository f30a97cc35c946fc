"""Starting a worker where it can do no harm, and talking to it against the clock.

With bubblewrap the worker sees an empty file system into which only Python, its packages and the operating system's
libraries are mounted, read-only: no home, no repository, no other submission, no network, no other process. Linux only.

Most of a worker's start is importing torch. So where the kernel allows it, bubblewrap starts a process that does nothing, and
a worker that is forked from a process with torch in its memory (`preloaded`) enters the sandbox made for that one.
"""

import fcntl
import json
import os
import platform
import re
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .calls import Reply
from .feedback import GradingError
from .shortcuts import Rules
from .wire import ProtocolError, frame, frame_call, items, read_json, read_reply, text

PACKAGE = Path(__file__).resolve().parents[1]
STARTING = 120  # seconds: importing torch on a cold and busy disk
HOW_TO_INSTALL = (
    "student code runs in a sandbox, and bubblewrap is not installed: sudo apt install bubblewrap (Debian, Ubuntu), "
    "sudo dnf install bubblewrap (Fedora). It exists for Linux only; elsewhere grade in a Linux machine or container. "
    "--unsafe grades without it: only for code you would run yourself."
)
# Being installed is not enough: Ubuntu 24.04, for one, forbids what bubblewrap is made of.
HOW_TO_ALLOW = (
    "bubblewrap needs user namespaces. On Ubuntu allow them: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 "
    "(until the next start of the machine), or give bwrap an AppArmor profile with `userns`. Some containers forbid them "
    "altogether: grade elsewhere then, or use --unsafe for code you would run yourself."
)


@dataclass(frozen=True)
class Limits:
    """What one submission may use. Seconds of wall time for a step (a cell, a call) and in all; bytes; processes."""

    step: float = 20.0  # the slowest cell of a master takes nine on one slow core
    memory: int = 2**30
    file_size: int = 2**26
    scratch: int = 2**27
    processes: int = 32

    @property
    def total(self) -> float:
        """Seconds for all calls of answers."""
        return 6 * self.step

    @property
    def cells(self) -> float:
        """Seconds for all cells, which have a clock of their own."""
        return 3 * self.step


@dataclass
class Clock:
    """Seconds that steps have taken so far, over all workers of a submission; starting them is not on its account."""

    spent: float = 0.0


class Died(Exception):
    """The worker ended, or broke the protocol, in the middle of a step."""


class TooSlow(Exception):
    """A step, or the submission as a whole, ran out of time."""


def check_sandbox(unsafe: bool) -> None:
    """Raises `GradingError` when student code cannot be run here the way it was asked for."""
    if sys.platform == "win32":
        raise GradingError("grading runs on Linux only (the notebooks themselves run anywhere); use WSL or a container")
    if not unsafe and not shutil.which("bwrap"):
        raise GradingError(HOW_TO_INSTALL)
    argv, _ = command(Limits(), unsafe, 0, [sys.executable, "-c", ""])
    try:
        tried = subprocess.run(argv, capture_output=True, encoding="utf-8", errors="replace", timeout=STARTING)
        said = "" if tried.returncode == 0 else (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1]
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if said:
        raise GradingError(f"the sandbox does not start ({said}). {HOW_TO_ALLOW}")


def visible() -> list[Path]:
    """What a worker needs to read: the system's libraries, this Python, and the folders its packages are in."""
    places = [Path(p) for p in ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/nix")]
    places += [Path(sys.prefix), Path(sys.base_prefix), Path(sysconfig.get_path("stdlib"))]
    # A path entry that is not a packages folder may be the repository, where the solutions are.
    places += [Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    return [place for place in dict.fromkeys(places) if place.exists()]


def of_the_course(course: bool) -> list[str]:
    """The package as a worker may see it: never the checks, which hold the right answers, and without `course` nothing but
    what calls answers and loads data."""
    alone = ("__init__", "data", "download", "digits_order")
    mounts = ["--tmpfs", "/course", "--perms", "0755", "--dir", f"/course/{PACKAGE.name}"]
    for path in sorted(PACKAGE.rglob("*")):
        inside = path.relative_to(PACKAGE)
        where, name = inside.parts[:-1], path.name.partition(".")[0]
        if path.is_dir() and (course or inside.parts[0] in ("grading", "__pycache__")):
            mounts += ["--perms", "0755", "--dir", str(Path("/course", PACKAGE.name, inside))]
        elif path.is_dir() or name.startswith("ex0") and "given" not in where and "grading" in where:
            continue
        elif course or "grading" in where or name in alone and where in ((), ("__pycache__",)):
            mounts += ["--ro-bind", str(path), str(Path("/course", PACKAGE.name, inside))]
    return mounts


# Kernel calls that a worker must not make, by machine: memory that no limit on a process counts (memfd_create, memfd_secret,
# shmget, io_uring_setup), keyrings, which the processes of a user share across sandboxes (add_key, request_key, keyctl), and
# what a file system or namespace of one's own would take (mount, fsopen, unshare, setns).
CLOSED_CALLS = {
    "x86_64": (0xC000003E, (319, 447, 29, 425, 248, 249, 250, 165, 430, 272, 308)),
    "aarch64": (0xC00000B7, (279, 447, 194, 425, 217, 218, 219, 40, 430, 97, 268)),
}


def closing_filter() -> bytes:
    """A seccomp program that lets those calls fail with EPERM; nothing on other machines."""
    if platform.machine() not in CLOSED_CALLS:
        return b""
    architecture, calls = CLOSED_CALLS[platform.machine()]
    load, equal, larger, give, last = 0x20, 0x15, 0x35, 0x06, len(calls)
    # (what, steps to skip when it holds, when it does not, with which number); a call found in the list skips to the last step.
    steps = [(load, 0, 0, 4), (equal, 0, last + 3, architecture), (load, 0, 0, 0), (larger, last + 1, 0, 0x40000000)]
    steps += [(equal, last - n, 0, call) for n, call in enumerate(calls)]
    steps += [(give, 0, 0, 0x7FFF0000), (give, 0, 0, 0x00050001)]  # allowed; not permitted
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def memory_group(limits: Limits) -> Path | None:
    """A control group that limits the memory of all processes of a submission together, where this user may make one. The
    libraries, which are counted too, get half a gigabyte."""
    try:
        lines = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
        first = next((Path("/sys/fs/cgroup/memory" + path.rstrip("/")) for kinds, path in lines.items() if "memory" in kinds.split(",")), None)
        old = first is not None
        group = (first or Path("/sys/fs/cgroup" + lines[""].rstrip("/"))) / f"grade-{os.getpid()}-{secrets.token_hex(4)}"
        group.mkdir()
    except (OSError, KeyError, ValueError):
        return None
    try:
        (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(limits.memory + 2**29))
    except OSError:
        group.rmdir()
        return None
    return group


def environment(unsafe: bool) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "BNCOURSE_WORKER": "1",
        "CUDA_VISIBLE_DEVICES": "",  # grading is on the CPU, so that a class is judged alike everywhere
        "OMP_NUM_THREADS": "1",
        # A compiled function has no calls that could be watched, and an honest one computes the same as plain Python.
        "PYTORCH_JIT": "0",
        "TORCHDYNAMO_DISABLE": "1",
        "MPLBACKEND": "agg",
        "PYTHONPATH": str(PACKAGE.parent) if unsafe else "/course",
    } | ({"HOME": tempfile.gettempdir()} if unsafe else {})


def told(limits: Limits, unsafe: bool, slot: int) -> list[int]:
    """What a worker is told on its command line: whether it is apart, and the arguments of `worker.limit`."""
    # Root's processes are not counted by the kernel's limit on processes, so a worker started by root changes to a user
    # of its own; one a slot, or a fork bomb would use up its neighbour's limit.
    uid = 100_000 + slot if os.geteuid() == 0 and not unsafe else 0
    processes = 0 if unsafe else limits.processes  # outside of the sandbox all processes of the user would count
    return [int(not unsafe), uid, int(2 * limits.total), limits.memory, limits.file_size, processes]


def command(limits: Limits, unsafe: bool, slot: int, inside: list[str] | None = None, course: bool = False,
            closing: int | None = None) -> tuple[list[str], dict]:  # fmt: skip
    """The command that starts a worker (or `inside`, in the same sandbox), and its environment. `closing`: a descriptor from
    which bubblewrap reads the `closing_filter`."""
    env = environment(unsafe)
    worker = inside or [sys.executable, "-B", "-P", "-m", f"{__package__}.worker", *map(str, told(limits, unsafe, slot))]
    if unsafe:
        return worker, env
    root = os.geteuid() == 0
    spaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    powers = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else ["--unshare-user"]
    # /tmp first: Python itself may lie under it, and is then mounted into it.
    mounts = ["--perms", "1777", "--size", str(limits.scratch), "--tmpfs", "/tmp"]
    mounts += of_the_course(course)
    for place in visible():
        for parent in list(place.parents)[-2::-1]:  # outermost first; bubblewrap would close them to the worker's user
            mounts += ["--perms", "0755", "--dir", str(parent)]
        mounts += ["--ro-bind", str(place), str(place)]
    for package in (place / PACKAGE.name for place in visible()):  # where it is installed, too
        mounts += ["--tmpfs", str(package)] if package.is_dir() else []
    return [
        "bwrap", *spaces, *powers, "--die-with-parent", "--new-session", *mounts,
        "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev",
        "--remount-ro", "/course", "--remount-ro", "/", "--chdir", "/tmp", "--setenv", "HOME", "/tmp",
        *([] if closing is None else ["--seccomp", str(closing)]),
        "--", *worker,
    ], env  # fmt: skip


# Of programs, by machine.
LOADERS = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}


class Preloaded:
    """A process that workers are forked from. `proved`: one was. Raises OSError where there can be none."""

    def __init__(self):
        # /proc/self/exe leads a forked process to the file of its program past the read-only mounts, and who owns a file may
        # change it. Started by the system's loader it leads to that, which no worker's user owns.
        loader = LOADERS.get(platform.machine(), "")
        if os.stat(loader).st_uid == os.geteuid() != 0:
            raise PermissionError(f"{loader} is this user's own")
        # It sees the machine as it is: HOME and PYTHONPATH, as they are right inside, might here be folders that anybody fills.
        env = {name: value for name, value in environment(False).items() if name != "PYTHONPATH"} | {"HOME": "/nonexistent"}
        self.proved = False
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [loader, sys.executable, "-B", "-P", "-s", str(PACKAGE / "grading" / "preloaded.py")],
                env=env,
                cwd="/",
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def end(self) -> None:
        """Workers that have come of it go on."""
        self.process.kill()
        self.process.wait()
        self.socket.close()


class Stock:
    """The one `Preloaded` of this process: made when it is first needed, and again when it has died. None where no worker came
    of one: its kernel, or a container, forbids what that takes."""

    def __init__(self):
        self.lock, self.current, self.off = threading.Lock(), None, False

    def take(self) -> Preloaded | None:
        with self.lock:
            try:
                self.current = self.current or (None if self.off else Preloaded())
            except OSError:
                self.off = True
            return self.current

    def drop(self, failed: Preloaded | None = None) -> None:
        """Ends it; if it has `failed`, only that one, and if that was its first worker, for good."""
        with self.lock:
            if self.current and failed in (None, self.current):
                self.off = bool(failed) and not failed.proved
                self.current.end()
                self.current = None


stock = Stock()
# The first process of a sandbox for a forked worker. It says again what it hears, ends when the grader does, and leaves no
# zombies: with this signal ignored, as a shell would not, the kernel forgets orphans when they end.
HOLDER = ["/usr/bin/env", "--ignore-signal=CHLD", "cat"]


def closed_after(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def namespaces(pid: int, stack: ExitStack) -> tuple[list[int], int]:
    """Descriptors of the namespaces of a process in the order to enter them, and how many of them it takes to fork into its
    PID namespace. For an ordinary user bubblewrap makes two user namespaces: the outer one owns the other kinds, and the
    process is in the inner one."""
    kinds = ("user", "pid", "mnt", "ipc", "net", "uts", "cgroup")
    user, pids, *others = (closed_after(stack, os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)) for kind in kinds)
    owner = closed_after(stack, fcntl.ioctl(pids, 0xB701))  # NS_GET_USERNS
    known = {os.stat("/proc/self/ns/user").st_ino}  # to enter the user namespace where one is already is an error
    outer = [pids] if os.fstat(owner).st_ino in known else [owner, pids]
    known.add(os.fstat(owner).st_ino)
    return [*outer, *others, *([] if os.fstat(user).st_ino in known else [user])], len(outer)


class Worker:
    """One process running one submission's code. Every method raises `Died` or `TooSlow`; then only `close` is left."""

    def __init__(self, limits: Limits, unsafe: bool, slot: int, clock: Clock | None = None, course: bool = False):
        self.limits, self.clock, self.slot, self.course = limits, clock or Clock(), slot, course
        self.folder = tempfile.TemporaryDirectory(prefix="grade-") if unsafe else None
        self.group, self.process, self.holder, self.pipes = memory_group(limits), None, None, []
        if not unsafe and (source := stock.take()):
            try:
                self.start(source)
                source.proved = True
                return
            except (Died, TooSlow, ProtocolError, OSError, AttributeError):  # the last: a Python made for older kernels
                stock.drop(source)
                self.end()
        try:
            self.start()
        except (Died, TooSlow, ProtocolError) as error:
            self.kill()
            said = os.read(self.errors, 2**16).decode(errors="replace").strip().splitlines()
            self.close()
            raise GradingError(f"the worker for student code does not start: {said[-1] if said else error}") from error

    def start(self, source: Preloaded | None = None) -> None:
        """Starts a worker, forked from `source` if there is one, and waits for its hello."""
        self.deadline = time.monotonic() + STARTING
        ends = [os.pipe() for _ in range(3)]
        self.pipes = self.requests, self.replies, self.errors = ends[0][1], ends[1][0], ends[2][0]
        os.set_blocking(self.requests, False)
        os.set_blocking(self.replies, False)
        with ExitStack() as stack:
            theirs = [closed_after(stack, end) for end in (ends[0][0], ends[1][1], ends[2][1])]
            if source:
                self.send(source, theirs, stack)
            else:
                self.run(*theirs)
        if read_json(self.read).get("id") != "ready":
            raise Died("the worker did not say hello")

    def run(self, stdin: int, stdout: int, stderr: int, inside: list[str] | None = None) -> None:
        """Bubblewrap with a worker (or `inside`, of which it tells `stdout` the process number); without a sandbox the worker."""
        program = b"" if self.folder else closing_filter()
        closing, into = os.pipe()
        os.write(into, program)
        os.close(into)
        argv, env = command(self.limits, bool(self.folder), self.slot, inside, self.course, closing if program else None)
        if inside:
            argv[1:1] = ["--as-pid-1", "--info-fd", str(stdout)]
        if self.group:  # joined before anything is started in it
            argv = ["/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.group / "cgroup.procs"), *argv]
        self.process = subprocess.Popen(
            argv,
            pass_fds=[closing] * bool(program) + [stdout] * bool(inside),
            env=env,
            cwd=self.folder.name if self.folder else "/",
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        os.close(closing)

    def send(self, source: Preloaded, theirs: list[int], stack: ExitStack) -> None:
        """Makes a sandbox, and has a worker sent there."""
        heard, says = (closed_after(stack, end) for end in os.pipe())
        self.run(subprocess.PIPE, says, theirs[2], HOLDER)
        pid = int(re.search(rb'"child-pid": (\d+)', self.echo(heard, b"up"))[1])
        self.holder = os.pidfd_open(pid)
        spaces, outer = namespaces(pid, stack)
        self.echo(heard, b"still up")  # so this was its number all the time
        group = closed_after(stack, os.open(self.group / "cgroup.procs" if self.group else os.devnull, os.O_WRONLY))
        request = {"outer": outer, "told": told(self.limits, False, self.slot), "closing": closing_filter().hex()}
        socket.send_fds(source.socket, [json.dumps(request).encode()], [*theirs, self.holder, group, *spaces])

    @contextmanager
    def step(self, clock: Clock | None = None):
        """Runs the clock of one step; gives a fresh name for its reply, so that an earlier or forged one does not pass."""
        left = self.limits.step if clock else min(self.limits.step, self.limits.total - self.clock.spent)
        clock = clock or self.clock
        if left <= 0:
            raise TooSlow(f"the {self.limits.total:g} seconds for the answers of a submission are used up")
        started = time.monotonic()
        self.deadline = started + left
        try:
            yield secrets.token_hex(8)
        except ProtocolError as error:
            raise Died(str(error)) from error
        finally:
            clock.spent += time.monotonic() - started

    def read_cells(self, cells: list[str], answers: list[str]) -> tuple[set[str], set[str]]:
        """The names that answers depend on, and the answers that lean on `show`."""
        sources = [cell.encode(errors="replace") for cell in cells]
        with self.step(Clock()) as ident:
            self.write(frame({"do": "read", "id": ident, "sizes": [len(s) for s in sources], "answers": answers}) + b"".join(sources))
            reply = self.answer(ident)
            return tuple({name for name in items(reply, what, 100_000) if isinstance(name, str)} for what in ("needed", "leaning"))

    def run_cell(self, source: str, number: int = 0, wanted: list[str] | None = None, clock: Clock | None = None) -> str:
        """Runs a cell (of it only what changes one of the names `wanted`); the exception it raised as one line, or ""."""
        data = source.encode(errors="replace")
        with self.step(clock or Clock()) as ident:
            self.write(frame({"do": "cell", "id": ident, "size": len(data), "number": number, "wanted": wanted}) + data)
            return text(self.answer(ident), "error", 300)

    def call(self, name: str, args: list, seed: int, rules: Rules = Rules()) -> Reply:
        """Calls a function of the student's. See `calls.call`, which is what runs over there."""
        with self.step() as ident:
            self.write(frame_call(ident, name, args, seed, rules))
            return read_reply(self.answer(ident), self.read)

    def value(self, name: str) -> Reply:
        """Reads a variable of the student's."""
        with self.step() as ident:
            self.write(frame({"do": "value", "id": ident, "name": name}))
            return read_reply(self.answer(ident), self.read)

    def answer(self, ident: str) -> dict:
        message = read_json(self.read)
        if message.get("id") != ident:
            raise ProtocolError("a reply that nobody asked for")
        return message

    def read(self, n: int) -> bytes:
        data = bytearray()
        while len(data) < n:
            data += self.some(self.replies, min(n - len(data), 2**20))
        return bytes(data)

    def echo(self, heard: int, word: bytes) -> bytes:
        """What the holder has said when it says `word`."""
        os.write(self.process.stdin.fileno(), word)
        data = b""
        while not data.endswith(word):
            data += self.some(heard, 2**12)
        return data

    def some(self, pipe: int, most: int) -> bytes:
        self.wait(pipe, for_reading=True)
        piece = os.read(pipe, most)
        if not piece:
            raise Died("the process ended")
        return piece

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self.wait(self.requests, for_reading=False)
            try:
                view = view[os.write(self.requests, view[:65536]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise Died("the process ended") from error

    def wait(self, pipe: int, for_reading: bool) -> None:
        left = max(0.0, self.deadline - time.monotonic())
        if not any(select.select([pipe] if for_reading else [], [] if for_reading else [pipe], [], left)):
            raise TooSlow(f"no end after {self.limits.step:g} seconds")

    def kill(self) -> None:
        # In the sandbox the death of bubblewrap takes every process with it; without, the process group has to do.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        # Student code of the same user could have told the holder to outlive bubblewrap.
        if self.holder is not None:
            try:
                signal.pidfd_send_signal(self.holder, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def end(self) -> None:
        if self.process:
            self.kill()
            if self.process.stdin:
                self.process.stdin.close()
        for descriptor in (*self.pipes, *([] if self.holder is None else [self.holder])):
            os.close(descriptor)
        self.process, self.holder, self.pipes = None, None, []

    def close(self) -> None:
        self.end()
        if self.folder:
            self.folder.cleanup()
        for _ in range(50 if self.group else 0):  # until the last process in it is gone
            try:
                self.group.rmdir()
                break
            except OSError:
                time.sleep(0.02)
