"""The digest of the code that a stage reaches: its module, all of ours that those import, and files that they name.

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


def _files_beside(tree: ast.AST, module: Path) -> list[Path]:
    """Files in the module's folder that a string in its tree names: programs and templates that it reads."""
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return sorted(path for path in module.parent.iterdir() if path.name in names and path.is_file())


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


def _content(path: Path) -> str:
    """What counts of a file: a Python file's syntax, another file's bytes."""
    if path.suffix == ".py":
        return ast.dump(_without_docstrings(ast.parse(path.read_text(encoding="utf-8"))))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def code_digest(module: str) -> str:
    """SHA-256 of all modules that `module` reaches and of the files beside them that they name."""
    digest = hashlib.sha256()
    for name in reached_modules(module):
        path = _source(name)
        assert path is not None
        digest.update(f"{name}\n{_content(path)}\n".encode())
        for file in _files_beside(ast.parse(path.read_text(encoding="utf-8")), path):
            digest.update(f"{name} {file.name}\n{_content(file)}\n".encode())
    return digest.hexdigest()
