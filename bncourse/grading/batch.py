"""Grading a folder: one row a submission, written as it comes, so that an interruption loses nothing."""

import hashlib
import inspect
import os
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from . import calls, checks, shortcuts
from .calls import Reply
from .checks import one_line, run
from .feedback import GradingError, Result
from .sandbox import Clock, Died, Limits, TooSlow, Worker, check_sandbox
from .shortcuts import Rules
from .submission import Unreadable, code_cells, find, read_bytes
from .table import Row, Table, harmless

MOST_FATAL_CELLS = 3
WORST_FIRST = ("timeout", "crashed", "wrong", "ok")


class Live:
    """The workers running now, so that an interruption can end them and no new one starts after it."""

    def __init__(self):
        self.workers, self.stopped, self.lock = set(), False, threading.Lock()

    def add(self, worker: Worker) -> None:
        with self.lock:
            self.workers.add(worker)
            if self.stopped:
                worker.kill()

    def discard(self, worker: Worker) -> None:
        with self.lock:
            self.workers.discard(worker)

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            for worker in self.workers:
                worker.kill()


class SandboxAnswers:
    """The answers of one submission, in a worker. A cell or call that kills the worker, or never ends, costs itself:
    a fresh worker runs the other cells again, and the remaining questions are asked there."""

    def __init__(self, cells: list[str], questions: dict, limits: Limits, unsafe: bool, slot: int, live: Live):
        self.cells, self.limits, self.unsafe, self.slot, self.live = cells, limits, unsafe, slot, live
        self.rules = {q.answer: q.rules for q in questions.values()}
        self.clock, self.worker, self.shortcuts = Clock(), None, None
        self.fatal: dict[int, Died | TooSlow] = {}
        self.errors: dict[int, str] = {}

    def start(self) -> None:
        while self.worker is None:
            if self.live.stopped:
                raise Died("grading was interrupted")
            if len(self.fatal) > MOST_FATAL_CELLS:
                raise list(self.fatal.values())[-1]
            self.worker = Worker(self.limits, self.unsafe, self.slot, self.clock)
            self.live.add(self.worker)
            if self.shortcuts is None:
                try:
                    self.shortcuts = self.worker.read_code(self.cells, self.rules)
                except (Died, TooSlow):
                    self.close()
                    raise
            for number, cell in enumerate(self.cells, 1):
                if number in self.fatal:
                    continue
                try:
                    self.errors[number] = self.worker.run_cell(cell)
                except (Died, TooSlow) as end:
                    self.fatal[number] = end
                    self.close()
                    break

    def shortcut(self, name: str, rules: Rules) -> str | None:
        self.start()
        return self.shortcuts[name] or None

    def call(self, name: str, args: list, seed: int, rules: Rules) -> Reply:
        return self.ask(lambda worker: worker.call(name, args, seed, rules))

    def value(self, name: str) -> Reply:
        return self.ask(lambda worker: worker.value(name))

    def ask(self, request) -> Reply:
        self.start()
        try:
            return request(self.worker)
        except (Died, TooSlow):
            self.close()
            raise

    def close(self) -> None:
        if self.worker:
            self.live.discard(self.worker)
            self.worker.close()
            self.worker = None

    def trouble(self) -> str:
        """What went wrong in the cells, for a question whose function is not there."""
        told = [f"Code cell {n}: {end}." for n, end in self.fatal.items()]
        told += [f"Code cell {n} raised {one_line(e)}." for n, e in self.errors.items() if e]
        return " ".join(told[:2])


def grade_cells(cells: list[str], module, seed: int, limits: Limits, unsafe: bool, slot: int = 0, live=None) -> tuple:
    """Status, results by question, and what to say about the cells."""
    answers = SandboxAnswers(cells, module.QUESTIONS, limits, unsafe, slot, live or Live())
    results = {}
    try:
        for name, question in module.QUESTIONS.items():
            try:
                results[name] = run(name, question, answers, seed)
            except Died as end:
                results[name] = Result(name, 0, question.points, "crashed", "crashed", f"The process died: {end}.")
            except TooSlow as end:
                message = f"Stopped: {end}. Is there a loop that does not end?"
                results[name] = Result(name, 0, question.points, "timeout", "timeout", message)
    finally:
        answers.close()
    trouble = answers.trouble()
    for name, result in results.items():
        if result.code == "missing" and trouble:
            results[name] = Result(name, 0, result.max, "wrong", "missing", f"{result.message} {trouble}")
    statuses = {"ok" if r.status == "pending" else r.status for r in results.values()}
    statuses |= {"timeout" if isinstance(end, TooSlow) else "crashed" for end in answers.fatal.values()}
    return next(s for s in WORST_FIRST if s in statuses), results, trouble if answers.fatal else ""


def cell_name(path: Path, folder: Path) -> str:
    """A submission's name in the table; `./=cmd.ipynb` is the same file as `=cmd.ipynb`."""
    return harmless(path.relative_to(folder).as_posix().encode("utf-8", "replace").decode())


def checks_source(module) -> bytes:
    """What a submission's points depend on besides itself: when it changes, everything is graded again."""
    return "".join(inspect.getsource(part) for part in (module, checks, calls, shortcuts)).encode()


def grade(exercise: str, folder: Path, table_path: Path, *, jobs: int = 0, seed: int | None = None,
          timeout: float = 20.0, unsafe: bool = False, retry: bool = False,
          progress=lambda done, of, row: None) -> Table:  # fmt: skip
    """Grades every notebook in `folder` into the CSV `table_path`.

    `jobs`: submissions at a time (0: one a core). `seed`: of the drawn inputs, the same for every submission (None: fresh).
    `timeout`: seconds a cell or a call may take; a whole submission may take six times that. `progress(done, of, row)` is
    called after each. Rows already in the table stay when neither file nor checks have changed, with `retry` only if they
    neither ran out of time nor crashed. Raises `GradingError`.
    """
    module = checks.load(exercise)
    folder, paths = find(folder)
    check_sandbox(unsafe)
    table = Table(table_path, exercise, module.QUESTIONS)
    limits = Limits(step=timeout)
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed
    source = checks_source(module)
    jobs = jobs or os.cpu_count() or 1
    slots, live = SimpleQueue(), Live()
    for slot in range(jobs):
        slots.put(slot)

    def one(path: Path) -> Row | None:
        name, digest = cell_name(path, folder), ""
        try:
            content = read_bytes(path, folder)
            digest = hashlib.sha256(source + content).hexdigest()[:16]
            if table.has(name, digest, retry):
                return None
            cells = code_cells(content)
        except Unreadable as error:
            return Row(name, digest, "unreadable", message=str(error))
        slot = slots.get()
        try:
            return None if live.stopped else Row(name, digest, *grade_cells(cells, module, seed, limits, unsafe, slot, live))
        except GradingError:
            raise
        except Exception as error:  # a mistake of ours, which must not cost the rest of the class its grades
            # Without a digest the next run tries it again.
            return Row(name, "", "crashed", message=f"The grader itself failed ({type(error).__name__}); please report it.")
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, path) for path in paths]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                row = future.result()
                if row:
                    table.add(row, seed)
                progress(done, len(paths), row)
        except BaseException:  # interrupted, or the sandbox broke: what is graded is in the table
            pool.shutdown(wait=False, cancel_futures=True)
            live.stop()
            raise
    return table
