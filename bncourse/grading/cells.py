"""The cells of a submission: read as far as is needed to run them, and run.

A statement at a time, so that one that fails takes nothing else with it. What a statement binds and what it uses is asked of
Python's compiler, which knows scopes: a local variable is no use of a name outside.
"""

import __future__

import ast
import dis
import linecache
import re
from functools import lru_cache
from types import CodeType

UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
BINDS, USES = ("STORE_NAME", "STORE_GLOBAL"), ("LOAD_NAME", "LOAD_GLOBAL")


def plain_python(cell: str) -> str:
    """A cell as plain Python: `%magic`, `!command` and `help?` lines become `pass`; a cell that is another language
    (`%%bash`) or talks to `google.colab` becomes empty."""
    lines = cell.splitlines()
    if lines and lines[0].lstrip().startswith("%%"):
        if not re.match(r"\s*%%(time|timeit|capture)\b", lines[0]):
            return ""
        lines[0] = ""
    if re.search(r"^\s*(import|from)\s+google\.colab\b|^\s*from\s+google\s+import\s+colab\b", cell, re.MULTILINE):
        return ""
    source = "\n".join(lines)
    try:
        ast.parse(source)
        return source
    except UNREADABLE:
        pass  # perhaps only because of IPython's own syntax
    shell = re.compile(r"^(\s*)(?:[%!?]\S.*|\S+\?{1,2}|\w+\s*=\s*[%!]\S.*)$")
    return "\n".join(shell.sub(r"\1pass", line) for line in lines)


def run(cell: str, namespace: dict, number: int = 0, wanted: set[str] | None = None) -> str:
    """Runs a cell; the first exception as one line, or "". `wanted`: only the statements that change one of these names."""
    source, file, error, flags = plain_python(cell), f"<cell {number}>", "", 0
    linecache.cache[file] = len(source), None, source.splitlines(True), file  # for whoever asks for the source of a function
    try:
        body = ast.parse(source, file).body
    except UNREADABLE as problem:
        return told(problem)
    for statement in body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            flags |= sum(getattr(__future__, alias.name).compiler_flag for alias in statement.names if hasattr(__future__, alias.name))
        try:
            if wanted is None or wanted & changed(statement):
                exec(compile(ast.Module([statement], []), file, "exec", flags, dont_inherit=True), namespace)
        except (Exception, SystemExit) as problem:
            error = error or told(problem)
    return error


def told(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}"[:300]


def codes(code: CodeType):
    """A code object and all those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


@lru_cache(4096)
def names(statement: ast.stmt) -> tuple[frozenset[str], frozenset[str]]:
    """The names that a statement binds, and those outside of it that it looks up, now or when a function it defines is
    called."""
    code = compile(ast.Module([statement], []), "<read>", "exec", dont_inherit=True)
    found = [(i.opname, i.argval) for part in codes(code) for i in dis.get_instructions(part) if i.opname in BINDS + USES]
    by_kind = [frozenset(name for kind, name in found if kind in kinds) for kinds in (BINDS, USES)]
    return by_kind[0] - {"__annotations__"}, by_kind[1]


def changed(statement: ast.stmt) -> set[str]:
    """The names that a statement binds, and those of which it sets a part (`a.b = …`, `a[0] = …`) or calls a method."""
    parts = list(getattr(statement, "targets", [])) + [getattr(statement, "target", None)]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        parts.append(statement.value.func)
    found = set(names(statement)[0])
    for part in parts:
        while isinstance(part, (ast.Attribute, ast.Subscript, ast.Call)):
            part = part.func if isinstance(part, ast.Call) else part.value
            if isinstance(part, ast.Name):
                found.add(part.id)
    return found


@lru_cache(1)  # asked once an answer
def statements(cells: tuple[str, ...]) -> list[ast.stmt]:
    """All there are at top level, in order, without those that do not compile."""
    found = []
    for cell in cells:
        try:
            body = ast.parse(plain_python(cell)).body
            for statement in body:
                names(statement)
        except UNREADABLE:
            continue
        found += body
    return found


def needed(found: list[ast.stmt], answers: list[str]) -> set[str]:
    """The names that answers depend on: their own, and those that statements which change such a name look up."""
    todo = [(changed(statement), names(statement)[1]) for statement in found]
    leads, before = set(answers), None
    while leads != before:
        before = set(leads)
        for changes, uses in todo:
            if changes & leads:
                leads |= uses
    return leads


def leans_on_show(cells: list[str], answer: str) -> bool:
    """Whether the code of an answer leads to `show(…)`, as far as reading can tell: good for a hint, not for a verdict."""
    found = statements(tuple(cells))
    last = {name: statement for statement in found for name in names(statement)[0]}
    gives = last.get("show")
    if not (isinstance(gives, ast.ImportFrom) and gives.module == "bncourse.grading"):
        return False
    return "show" in needed([statement for statement in found if statement in last.values()], [answer])
