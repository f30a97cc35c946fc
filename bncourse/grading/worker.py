"""The process that student code runs in. Started by `sandbox`, one a submission, and never trusted afterwards.

It knows no answers and gives no points: it runs cells, calls functions by name, and sends back numbers. Replies leave
through a descriptor that `print` does not reach; standard input, output and error are closed to student code.
"""

import os
import sys


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


def run_cell(source: str, namespace: dict) -> str:
    """Runs one cell; the exception it raised as one line, or ""."""
    from .shortcuts import plain_python

    try:
        exec(compile(plain_python(source), "<cell>", "exec"), namespace)
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"[:300]
    return ""


def main() -> None:
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")

    import numpy  # noqa: F401  (paid for here, before the clock of the first cell starts)
    import torch

    from .calls import call, value_of
    from .shortcuts import Rules, find_shortcut
    from .wire import frame, frame_reply, from_json, read_json

    if sys.platform == "linux":
        limit(*map(int, sys.argv[1:]))
    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)

    import types

    # The notebook's own __main__: a class defined in a cell finds its module there.
    main_module = types.ModuleType("__main__")
    sys.modules["__main__"] = main_module
    namespace = main_module.__dict__
    namespace.update(display=lambda *_, **__: None, get_ipython=lambda: None)

    def exactly(n: int) -> bytes:
        data = requests.read(n)
        if len(data) < n:  # the grader is gone
            os._exit(0)
        return data

    def send(data: bytes) -> None:
        replies.write(data)
        replies.flush()

    send(frame({"id": "ready"}))
    while True:
        request = read_json(exactly)
        if request["do"] == "read":
            # Parsing happens here, because Python's parser can be crashed by what it parses; and it happens first, while
            # no student code has run that could change the outcome.
            cells = [exactly(size).decode() for size in request["sizes"]]
            found = {a: find_shortcut(cells, a, Rules(**rules)) or "" for a, rules in request["answers"].items()}
            send(frame({"id": request["id"], "found": found}))
        elif request["do"] == "cell":
            source = exactly(request["size"]).decode()
            send(frame({"id": request["id"], "error": run_cell(source, namespace)}))
        elif request["do"] == "value":
            send(frame_reply(request["id"], value_of(namespace, request["name"])))
        else:
            args = [from_json(item, exactly) for item in request["args"]]
            reply = call(namespace, request["name"], args, request["seed"], Rules(**request["rules"]))
            send(frame_reply(request["id"], reply))


if __name__ == "__main__":
    main()
