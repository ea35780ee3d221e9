"""What can be said of a user's reward function without running it."""

import ast
from pathlib import Path

PARAMETERS = ("prompt", "response", "answer", "problem")


def function_fault(path: Path, function: str) -> str | None:
    """Why a file's function cannot judge, as far as its text says so; None where nothing is seen.

    A function that the file imports or assigns is seen only when it is loaded.
    """
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError, RecursionError) as error:
        return f"{path} is not Python: {error}"
    definitions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    top = {node.name: node for node in tree.body if node in definitions}
    node = top.get(function)
    if node is None:
        if {function, "*"} & _other_names(tree):
            return None
        known = ", ".join(str(name) for name in top if not str(name).startswith("_")) or "none"
        return f"{path} has no function {function!r} at its top level; it defines: {known}"
    if not isinstance(node, ast.FunctionDef):
        return f"{function!r} in {path} is not a plain function: write `def {function}({', '.join(PARAMETERS)}):`"
    positional = [*node.args.posonlyargs, *node.args.args]
    required = len(positional) - len(node.args.defaults)
    if required > len(PARAMETERS) or (len(positional) < len(PARAMETERS) and node.args.vararg is None):
        return (
            f"{function!r} in {path} takes {len(positional)} arguments, and is called with {len(PARAMETERS)}: "
            f"write `def {function}({', '.join(PARAMETERS)}):`"
        )
    if any(default is None for default in node.args.kw_defaults):
        return f"{function!r} in {path} has a keyword argument without a default: it is called with positions alone"
    return None


def _other_names(tree: ast.Module) -> set[str]:
    """Names that a module may have besides what it defines in so many words; `*` stands for any."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)  # within `if` or `try`
    return names
