"""Finding the forbidden shortcut: `F.batch_norm` where batch norm is to be written.

Two nets. The syntax tree of the code that an answer reaches is read, which gives the best message ("line 3 calls …").
While the answer runs, every call into torch is watched, which also sees a function that came in under another name. A
scratch cell that compares with torch is no shortcut: only code that the answer reaches counts.
"""

import ast
import re
from contextlib import contextmanager
from dataclasses import dataclass

from torch.overrides import TorchFunctionMode

FUSED = re.compile(r"(batch|instance|layer|group|rms)_?norm|BatchNorm|InstanceNorm|LayerNorm|GroupNorm|RMSNorm")
AUTOGRAD = {"autograd", "backward", "grad", "requires_grad", "requires_grad_", "enable_grad",
            "vjp", "jvp", "jacrev", "jacfwd", "jacobian", "gradcheck"}  # fmt: skip
UNREADABLE = {"eval", "exec", "globals", "vars", "__import__", "importlib", "__dict__", "__globals__", "builtins", "__builtins__"}


UNREAD = "unread"
SHOW = "show"


@dataclass(frozen=True)
class Rules:
    """What an answer may use. `fused`: finished normalizations. `ours`: modules of bncourse, by name. `banned`: further names
    that would do the work, such as "svdvals"; a name bans `torch.linalg.svdvals` and its import alike. `anything`: how a
    number was found is free. Only `show` never counts, because it does nothing when the notebook is graded."""

    anything: bool = False
    fused: bool = False
    autograd: bool = True
    ours: tuple[str, ...] = ()
    banned: tuple[str, ...] = ()

    def forbids(self, name: str) -> bool:
        return (
            name in self.banned
            or (not self.fused and FUSED.search(name) is not None)
            or (not self.autograd and name in AUTOGRAD)
        )

    def stops(self, name: str) -> bool:
        """Whether a call of torch's function `name` is stopped while the answer runs."""
        return not self.anything and (name in self.banned or (not self.fused and FUSED.search(name) is not None))

    def forbids_ours(self, module: str) -> bool:
        """`module`: the dotted name of something in bncourse."""
        return module.split(".")[1] not in self.ours


class ShortcutUsed(Exception):
    """The answer called a banned function while it ran."""


class Watcher(TorchFunctionMode):
    used = ""

    def __init__(self, rules: Rules):
        super().__init__()
        self.rules = rules

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if self.rules.stops(name):
            self.used = name
            raise ShortcutUsed(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def watch(rules: Rules):
    """Raises `ShortcutUsed` when a banned function of torch runs inside, also when student code swallows the exception."""
    with Watcher(rules) as watcher:
        yield
    if watcher.used:
        raise ShortcutUsed(watcher.used)


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
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass  # perhaps only because of IPython's own syntax
    shell = re.compile(r"^(\s*)(?:[%!?]\S.*|\S+\?{1,2}|\w+\s*=\s*[%!]\S.*)$")
    return "\n".join(shell.sub(r"\1pass", line) for line in lines)


def bindings(cells: list[str]) -> dict[str, ast.stmt]:
    """Every name bound at top level, with the statement that bound it last. Cells that do not parse are left out."""
    bound = {}
    for cell in cells:
        try:
            body = ast.parse(plain_python(cell)).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for statement in body:
            for name in names_bound(statement):
                bound[name] = statement
    return bound


def names_bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
    return names


def reached(bound: dict[str, ast.stmt], answer: str) -> list[ast.stmt]:
    """The statements an answer depends on: its own definition, and those of every top-level name it uses."""
    seen, todo, found = set(), [answer], []
    while todo:
        name = todo.pop()
        if name in seen or name not in bound:
            continue
        seen.add(name)
        found.append(bound[name])
        todo += [node.id for node in ast.walk(bound[name]) if isinstance(node, ast.Name)]
    return found


def find_shortcut(cells: list[str], answer: str, rules: Rules = Rules()) -> str | None:
    """The forbidden thing in the code that `answer` reaches, as a learner would write it; None when there is none,
    `UNREAD` when the code that defines it is not there to be read."""
    bound = bindings(cells)
    if answer not in bound:
        return UNREAD
    for statement in reached(bound, answer):
        for node in ast.walk(statement):
            shortcut = forbidden(node, rules)
            if shortcut:
                return shortcut
    return None


def forbidden(node: ast.AST, rules: Rules) -> str | None:
    if isinstance(node, ast.ImportFrom) and any(alias.name == "show" for alias in node.names):
        return SHOW
    if rules.anything:
        return None
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        for alias in node.names:
            if module.split(".")[0] == "bncourse":
                banned = alias.name != "exercise" and rules.forbids_ours(f"{module}.{alias.name}")
            else:
                banned = alias.name in rules.banned or (module.startswith("torch") and rules.forbids(alias.name))
            if banned:
                return f"from {module} import {alias.name}"
    elif isinstance(node, ast.Import):
        for alias in node.names:
            parts = alias.name.split(".")
            ours = parts[0] == "bncourse" and len(parts) > 1 and rules.forbids_ours(alias.name)
            if ours or any(part in UNREADABLE or rules.forbids(part) for part in parts):
                return f"import {alias.name}"
    elif isinstance(node, ast.Attribute):
        root = node.value
        while isinstance(root, ast.Attribute):
            root = root.value
        root = root.id if isinstance(root, ast.Name) else ""
        unreadable = node.attr in UNREADABLE and node.attr != "eval"  # net.eval() is something else
        if root not in ("self", "cls") and (unreadable or rules.forbids(node.attr)):
            return ast.unparse(node)[-60:]
        if root == "bncourse" and isinstance(node.value, ast.Name) and rules.forbids_ours(f"bncourse.{node.attr}"):
            return ast.unparse(node)
    elif isinstance(node, ast.Name):
        if node.id in UNREADABLE:
            return node.id
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
        attribute = node.args[1] if len(node.args) > 1 else None
        if not isinstance(attribute, ast.Constant):
            return "getattr with a computed name"
        if rules.forbids(str(attribute.value)):
            return f"getattr(…, {attribute.value!r})"
    return None
