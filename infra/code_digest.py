"""The digest of the code that a stage reaches: its module and all of ours that those import.

Formatting, comments and docstrings do not change it; a changed constant does. Nothing is imported to compute it: a plan
must not wait for torch and vLLM, and a dependency that is missing must not make the digest another one.
"""

import ast
import hashlib
from importlib.util import resolve_name
from pathlib import Path

OURS = ("flows", "steps", "infra")
_ROOT = Path(__file__).resolve().parent.parent


def _source(module: str) -> Path | None:
    """The file of a module of ours; None where the name is that of something else, a class for instance."""
    path = _ROOT.joinpath(*module.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _imports(tree: ast.AST, package: str) -> set[str]:
    """Names that a tree in `package` may import from ours, wherever the import stands.

    A string that names a module counts as well: that is how a process of its own is started (`python -m`).
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            names.add(source)
            names.update(f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            names.add(node.value)
    return {name for name in names if name.split(".")[0] in OURS and name.replace(".", "").isidentifier()}


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # A string that stands as a statement documents what is beside it, and does nothing.
            node.body = [  # type: ignore[attr-defined]
                s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
            ] or [ast.Pass()]
    return tree


def reached_modules(module: str) -> list[str]:
    """`module` and every module of ours that it imports, directly or not, sorted."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = None if name in found else _source(name)
        if path is None:
            continue
        found.add(name)
        parent = name.rpartition(".")[0]
        package = name if path.name == "__init__.py" else parent
        waiting += [*_imports(ast.parse(path.read_text(encoding="utf-8")), package), *([parent] if parent else [])]
    return sorted(found)


def code_digest(module: str) -> str:
    """SHA-256 of the syntax trees of all modules that `module` reaches."""
    digest = hashlib.sha256()
    for name in reached_modules(module):
        path = _source(name)
        assert path is not None
        tree = _without_docstrings(ast.parse(path.read_text(encoding="utf-8")))
        digest.update(f"{name}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()
