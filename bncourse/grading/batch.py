"""Grading a folder: one row a submission, written as it comes, so that an interruption loses nothing."""

import hashlib
import inspect
import os
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue

from . import calls, cells, checks, shortcuts
from .calls import Reply
from .checks import one_line, run
from .feedback import GradingError, Result
from .sandbox import PACKAGE, Clock, Died, Limits, TooSlow, Worker, check_sandbox, stock
from .shortcuts import Rules
from .submission import Unreadable, alike, code_cells, find, read_bytes
from .table import Row, Table, harmless

MOST_ENDS = 3  # of a worker while it runs cells
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
    """The answers of one submission, in a worker. A cell or call that kills the worker, or never ends, costs itself: a
    fresh worker runs the other cells again, and the remaining questions are asked there.

    A first worker runs all cells, as the student did. If that ends badly, or takes longer than cells may take in all, those
    after it run no more than what answers need: somebody's long experiments then cost no answer its time.
    """

    def __init__(self, cells: list[str], questions: dict, limits: Limits, unsafe: bool, slot: int, live: Live, course: bool):
        self.cells, self.limits, self.unsafe, self.slot, self.live, self.course = cells, limits, unsafe, slot, live, course
        self.answers = [question.answer for question in questions.values()]
        self.clock, self.worker, self.read = Clock(), None, False
        self.needed: set[str] = set(self.answers)
        self.leaning: set[str] = set()
        self.sparing, self.ends = False, 0
        self.fatal: dict[int, Died | TooSlow] = {}
        self.lost: set[int] = set()
        self.errors: dict[int, str] = {}

    def start(self) -> None:
        while self.worker is None:
            if self.live.stopped:
                raise Died("grading was interrupted")
            if self.ends > MOST_ENDS:
                raise list(self.fatal.values())[-1]
            self.worker = Worker(self.limits, self.unsafe, self.slot, self.clock, self.course)
            self.live.add(self.worker)
            try:
                self.read_cells()
                self.run_cells()
            except (Died, TooSlow):
                self.close()

    def read_cells(self) -> None:
        """What answers need: trusted, as it comes before any cell is run. Not known when reading kills the worker."""
        if not self.read:
            self.read = True
            self.needed, self.leaning = self.worker.read_cells(self.cells, self.answers)

    def run_cells(self) -> None:
        clock = Clock()  # of all cells together: what they take is not taken from the answers
        wanted = sorted(self.needed) if self.sparing else None
        for number, cell in enumerate(self.cells, 1):
            if number in self.lost:
                continue
            try:
                if clock.spent >= (most := self.limits.total if self.sparing else self.limits.cells):
                    number = 0  # it is no single cell's fault
                    raise TooSlow(f"all cells together took more than {most:g} seconds")
                self.errors[number] = self.worker.run_cell(cell, number, wanted, clock)
            except (Died, TooSlow) as end:
                if self.sparing:
                    self.lost.add(number)
                self.fatal[number], self.sparing, self.ends = end, True, self.ends + 1
                raise

    def leans_on_show(self, name: str) -> bool:
        return name in self.leaning

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
        told = [f"{f'Code cell {n}' if n else 'The notebook'}: {end}." for n, end in self.fatal.items()]
        told += [f"Code cell {n} raised {one_line(e)}." for n, e in self.errors.items() if e]
        return " ".join(told[:2])


def grade_cells(cells: list[str], module, seed: int, limits: Limits, unsafe: bool, slot: int = 0, live=None, only=None) -> tuple:
    """Status, results by question (`only` one, if it is named), and what to say about the cells."""
    # Who measures whatever they like may use the course for it; everybody else gets a package without its solutions.
    course = any(q.rules.anything and q.rules.fused for q in module.QUESTIONS.values())
    answers = SandboxAnswers(cells, module.QUESTIONS, limits, unsafe, slot, live or Live(), course)
    results = {}
    try:
        for name, question in module.QUESTIONS.items():
            if only and name != only:
                continue
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
    statuses |= {"timeout" if isinstance(end, TooSlow) else "crashed" for number, end in answers.fatal.items() if number}
    return next(s for s in WORST_FIRST if s in statuses), results, trouble if answers.fatal else ""


def cell_name(path: Path, folder: Path) -> str:
    """A submission's name in the table; `./=cmd.ipynb` is the same file as `=cmd.ipynb`."""
    # Bytes that are not UTF-8 stay apart from each other: two names must not become one.
    return harmless(os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace"))


def checks_source(module) -> bytes:
    """What a submission's points depend on besides itself: when it changes, everything is graded again."""
    return "".join(inspect.getsource(part) for part in (module, checks, calls, cells, shortcuts)).encode()


def grade(exercise: str, folder: Path, table_path: Path, *, jobs: int = 0, seed: int | None = None,
          timeout: float = 20.0, unsafe: bool = False, retry: bool = False, question: str | None = None,
          due: datetime | None = None, progress=lambda done, of, row: None) -> Table:  # fmt: skip
    """Grades every notebook in `folder` into the CSV `table_path`.

    `jobs`: submissions at a time (0: one a core). `seed`: of the drawn inputs, the same for every submission (None: fresh).
    `timeout`: seconds a cell or a call may take; all cells together three times that, all calls six times. `progress(done, of, row)` is
    called after each. Rows already in the table stay when neither file nor checks have changed, with `retry` only if they
    neither ran out of time nor crashed. `question`: this one is graded again for all submissions that are as they were, and the
    others keep what they have. `due`: files newer than that are marked as late. Raises `GradingError`.
    """
    module = checks.load(exercise)
    folder, paths, others = find(folder, exercise)
    if question and question not in module.QUESTIONS:
        raise GradingError(f"no question {question!r} in {exercise}; there is {', '.join(module.QUESTIONS)}")
    check_sandbox(unsafe)
    table = Table(table_path, exercise, module.QUESTIONS)
    table.others = {cell_name(path, folder): why for path, why in others.items()}
    codes: dict[str, list[str]] = {}
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
            # The file's part first: whether a submission is the one of the last run is asked apart from the checks.
            digest = f"{hashlib.sha256(content).hexdigest()[:12]}-{hashlib.sha256(source).hexdigest()[:12]}"
            known = table.rows.get(name)
            again = question if known and known["digest"].partition("-")[0] == digest.partition("-")[0] else None
            late = bool(due) and path.stat().st_mtime > due.timestamp()
            cells = codes[name] = code_cells(content, path.name)
            if table.has(name, digest, retry) and not again:
                return None
        except Unreadable as error:
            return None if table.has(name, digest, retry) else Row(name, digest, "unreadable", message=str(error))
        slot = slots.get()
        try:
            if live.stopped:
                return None
            graded = grade_cells(cells, module, seed, limits, unsafe, slot, live, again)
            return Row(name, digest, *graded, late=late, partial=bool(again))
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
        finally:
            stock.drop()
    table.alike = alike(codes, given(exercise))
    return table


def given(exercise: str) -> list[str]:
    """The code cells that everybody starts from, where this is a checkout of the course."""
    found = [code_cells(path.read_bytes()) for path in (PACKAGE.parent / "exercises").glob(f"{exercise}_*.ipynb")]
    return [cell for cells in found for cell in cells]
