"""The process that student code runs in. Started by `sandbox`, one a submission, and never trusted afterwards.

It knows no answers and gives no points: it runs cells, calls functions by name, and sends back numbers. Replies leave
through a descriptor that `print` does not reach; standard input, output and error are closed to student code.
"""

import _thread
import gc
import os
import signal
import sys
import threading

# What starts another process. In a cell that is allowed; during a call it would do the work out of sight.
PROCESSES = {"os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}
# A raw thread would do it where nobody watches, also when it was started in a cell; those of `threading` are watched.
THREADS, WATCHED = {"_thread.start_new_thread", "_thread.start_joinable_thread"}, threading.Thread._bootstrap
calling = False


def limit(uid: int, cpu_seconds: int, memory: int, file_size: int, processes: int) -> None:
    """Gives up root and sets hard limits; 0 stands for none. Memory counts from here, after torch is imported,
    because the libraries it maps differ widely from machine to machine."""
    import resource  # not there on Windows

    with open("/proc/self/statm") as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    if uid:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    for what, most in (
        (resource.RLIMIT_AS, mapped + memory),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_CORE, 0),
    ):
        if most or what == resource.RLIMIT_CORE:
            resource.setrlimit(what, (most, most))


def refuse_processes(event: str, args) -> None:
    if event in THREADS:
        refuse_raw(args[0])
    if calling and event in PROCESSES:
        raise PermissionError(f"an answer works in the process that calls it ({event} is not allowed while it runs)")


def refuse_raw(function) -> None:
    if getattr(function, "__func__", None) is not WATCHED:
        raise PermissionError("use threading.Thread: a raw thread is not allowed where answers are graded")


def refuse_raw_threads(usual=_thread.start_new_thread) -> None:
    """Before Python 3.12 no audit hook hears of a new thread."""

    def start_new_thread(function, *rest):
        refuse_raw(function)
        return usual(function, *rest)

    _thread.start_new_thread = _thread.start_new = threading._start_new_thread = start_new_thread


def alone(apart: bool) -> None:
    """Ends what cells have left running: a helper in another process would do an answer's work out of sight. Only where all
    processes that can be seen are the submission's own."""
    if apart and os.getppid() <= 1:  # 0 is a parent that cannot be seen
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass


def main() -> None:
    global calling
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")

    gc.disable()  # a tenth of the time that importing torch takes, and there is no garbage in it
    import numpy  # noqa: F401  (paid for here, before the clock of the first cell starts)
    import torch

    from . import cells
    from .calls import call, value_of
    from .shortcuts import Rules, observe_threads
    from .wire import frame, frame_reply, from_json, read_json

    gc.enable()
    apart, *ceilings = map(int, sys.argv[1:])
    if sys.platform == "linux":
        limit(*ceilings)
    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    observe_threads()
    sys.addaudithook(refuse_processes)
    if sys.version_info < (3, 12):
        refuse_raw_threads()

    import types

    # The notebook's own __main__: a class defined in a cell finds its module there.
    main_module = types.ModuleType("__main__")
    sys.modules["__main__"] = main_module
    namespace = main_module.__dict__
    namespace.update(display=lambda *_, **__: None, get_ipython=lambda: None)
    # Who imports this machinery gets one of their own: the one at work here is not to be mended.
    for name in [name for name in sys.modules if name.startswith(f"{__package__}.")]:
        part = sys.modules.pop(name)
        vars(sys.modules[__package__]).pop(part.__name__.rpartition(".")[2], None)

    def mute() -> None:
        """In a process that student code has forked: it neither hears requests nor answers them, and ends where the cell does."""
        for stream in (requests, replies):
            os.dup2(null, stream.fileno())

    os.register_at_fork(after_in_child=mute)

    def exactly(n: int) -> bytes:
        data = requests.read(n)
        if len(data) < n:  # the grader is gone
            os._exit(0)
        return data

    def send(data: bytes) -> None:
        replies.write(data)
        replies.flush()

    send(frame({"id": "ready"}))
    first = True
    while True:
        request = read_json(exactly)
        ident = request["id"]
        if request["do"] == "read":
            # Here, because Python's parser can be crashed by what it parses.
            sources = [exactly(size).decode() for size in request["sizes"]]
            names = cells.needed(cells.statements(tuple(sources)), request["answers"])
            leaning = [answer for answer in request["answers"] if cells.leans_on_show(sources, answer)]
            send(frame({"id": ident, "needed": sorted(names), "leaning": leaning}))
        elif request["do"] == "cell":
            wanted = None if request["wanted"] is None else set(request["wanted"])
            source = exactly(request["size"]).decode()
            send(frame({"id": ident, "error": cells.run(source, namespace, request["number"], wanted)}))
        elif request["do"] == "value":
            send(frame_reply(ident, value_of(namespace, request["name"])))
        else:
            if first:
                alone(bool(apart))
                first = False
            with torch.inference_mode(False):  # which a cell may have left switched on
                args = [from_json(item, exactly) for item in request["args"]]
            rules = Rules(**request["rules"] | {"banned": tuple(request["rules"]["banned"])})
            calling = not rules.anything
            reply = call(namespace, request["name"], args, request["seed"], rules)
            calling = False
            send(frame_reply(ident, reply))


if __name__ == "__main__":
    main()
