"""The process that workers are forked from: numpy and torch are in its memory, and importing them is most of a worker's start.

`sandbox` starts it outside of any sandbox, so it runs nothing of a student's, and it is a script of its own that imports
nothing of the course, whose checks hold the answers. For each request on its standard input (a socket) it forks a process that
enters the namespaces which bubblewrap has made for a submission, gives up every power, and becomes a `worker`: one that
finds what it would have found there had bubblewrap started it. What fails raises OSError there, before student code is run.
"""

import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys

COURSE = "/course"  # where bubblewrap has put the package
SETGID, SETUID = 1 << 6, 1 << 7  # capabilities
libc = ctypes.CDLL(None, use_errno=True)


def system(name: str, *args) -> None:
    """A call of the C library that Python has no function for."""
    if getattr(libc, name)(*(ctypes.c_ulong(arg) if type(arg) is int else arg for arg in args)):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def serve() -> None:
    """Forks a process for each request until the grader closes the socket, or dies."""
    gc.disable()
    import numpy  # noqa: F401
    import torch  # noqa: F401

    gc.freeze()  # the garbage collector of a forked process writes to none of these pages, so they stay shared
    with open("/proc/self/maps") as maps:
        # Either would be forked along: a lock that is never freed, and memory in which submissions could meet.
        if len(os.listdir("/proc/self/task")) > 1 or any(line.split()[1][1::2] == "ws" for line in maps):
            raise SystemExit("this Python cannot be forked: it has threads, or memory that it shares")
    grader = os.pidfd_open(os.getppid())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that `stand_by`
    requests = socket.socket(fileno=0)
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, 2**16, 32)
        if not request:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number, descriptor in enumerate(descriptors[:3]):
                os.dup2(descriptor, number)  # in the socket's place, too
            become_worker(grader, *descriptors[3:], **json.loads(request))
        for descriptor in descriptors:
            os.close(descriptor)


def become_worker(grader: int, holder: int, group: int, *spaces: int, outer: int, told: list, closing: str) -> None:
    """`holder`: a descriptor of the first process in the sandbox, with which everything in it ends. `group`: of the file that
    takes in a process to the control group. `spaces`: of the namespaces in the order to enter; the first `outer` of them are
    those that it takes to fork a process into the sandbox. `closing`: the seccomp program."""
    for space in spaces[:outer]:
        system("setns", space, 0)
    worker = os.fork()
    if worker:
        stand_by(grader, holder, worker)
    os.write(group, b"0")  # this process; before it has memory of its own
    for space in spaces[outer:]:
        system("setns", space, 0)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.setsid()
    os.chdir("/tmp")
    give_up(SETGID | SETUID if told[1] else 0, bytes.fromhex(closing))
    os.environ.update(HOME="/tmp", PWD="/tmp", PYTHONPATH=COURSE)
    sys.path.insert(0, COURSE)
    sys.path_importer_cache.clear()  # of the folders outside
    sys.argv[1:] = map(str, told)
    runpy.run_module("bncourse.grading.worker", run_name="__main__", alter_sys=True)
    raise SystemExit  # which a worker never comes to


def stand_by(grader: int, holder: int, worker: int) -> None:
    """Outside, where student code cannot see it: ends the sandbox with its worker, and when the grader dies, and then itself."""
    ends = select.poll()
    for process in (grader, os.pidfd_open(worker)):
        ends.register(process, select.POLLIN)
    ends.poll()
    try:
        signal.pidfd_send_signal(holder, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(worker, 0)
    os._exit(0)


def give_up(kept: int, program: bytes) -> None:
    """All capabilities but those `kept` (a worker of root's needs two to change its user), every way to get others, and the
    kernel calls that the seccomp `program` closes."""
    with open("/proc/sys/kernel/cap_last_cap") as last:
        for capability in range(int(last.read()) + 1):
            if not kept >> capability & 1:
                system("prctl", 24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    # _LINUX_CAPABILITY_VERSION_3, of this process; effective, permitted and inheritable, lower halves first.
    system("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0))
    system("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if program:
        steps = ctypes.create_string_buffer(program, len(program))

        class Program(ctypes.Structure):
            _fields_ = [("steps", ctypes.c_ushort), ("first", ctypes.c_void_p)]

        # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        system("prctl", 22, 2, ctypes.byref(Program(len(program) // 8, ctypes.addressof(steps))), 0, 0)


if __name__ == "__main__":
    serve()
