"""What chapters tell the build beside what they show (bncourse.claims.MIME), and the seeds that it gives them."""

import ast
import hashlib

MIME = "application/vnd.bncourse+json"


def structure(node):
    """A syntax tree as text. What is empty is left out: whether that is there depends on the version of Python."""
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return f"{type(node).__name__}({','.join(f'{name}={structure(value)}' for name, value in fields)})"
    return f"[{','.join(map(structure, node))}]" if isinstance(node, list) else repr(node)


def code(source):
    """What a cell says, whatever its comments and layout; its words where it is not plain Python (%pip)."""
    try:
        return structure(ast.parse(source))
    except SyntaxError:
        return source.split()


def is_panel(source):
    """Whether a cell is one call of ``panel``, and nothing else."""
    try:
        [statement] = ast.parse(source).body
    except (SyntaxError, ValueError):
        return False
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and getattr(statement.value.func, "id", "") == "panel"


def first_seed(notebook):
    """Drawn from the code: whoever changes a threshold gets other seeds, and cannot have tuned the one to the other. A panel is
    left out: it asks a record, which has seeds of its own, and says what was found there."""
    cells = [code(cell.source) for cell in notebook.cells if cell.cell_type == "code" and not is_panel(cell.source)]
    return int(hashlib.sha256(repr(cells).encode()).hexdigest(), 16) % 100_000


def told(notebook):
    """Claims by id (the later of two verdicts counts), keys of questions, what is remembered of other chapters, and the verdicts that
    records of a larger scale give on claims of the chapter."""
    claims, questions, remembered, scales = {}, [], [], []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {}).get(MIME, {})
            claims |= {claim["id"]: claim for claim in data.get("claims", [])}
            questions += data.get("questions", [])
            remembered += data.get("remembered", [])
            scales += data.get("scales", [])
    return {"claims": list(claims.values()), "questions": questions, "remembered": remembered, "scales": scales}
