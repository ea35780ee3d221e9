"""The digest of the code that a stage reaches: its module, all of ours that those import, and files that they name.

Formatting, comments, docstrings and the descriptions of settings do not change it; a changed constant does. Nothing is
imported to compute it: a plan must not wait for torch and vLLM, and a dependency that is missing must not make the
digest another one.
"""

import ast
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

OURS = ("flows", "steps", "infra")
_ROOT = Path(__file__).resolve().parents[2]


def _source(module: str) -> Path | None:
    """The file of a module of ours; None where the name is that of something else, a class for instance."""
    path = _ROOT.joinpath(*module.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _names(tree: ast.AST, package: str) -> tuple[set[str], set[str]]:
    """Names that a tree in `package` may import from ours, wherever the import stands; and all its strings.

    A string that names a module counts as an import: that is how a process of its own is started (`python -m`).
    """
    names: set[str] = set()
    strings: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            names.add(source)
            names.update(f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.add(node.value)
    names |= {string for string in strings if "." in string}
    return {name for name in names if name.split(".")[0] in OURS and name.replace(".", "").isidentifier()}, strings


def _files_beside(strings: set[str], module: Path) -> list[Path]:
    """What strings in a module name in its folder: files (programs, templates), and folders of data with all that is in
    them. A package of ours is no data: what is reached of it is imported."""
    found: list[Path] = []
    for path in module.parent.iterdir():
        if path.name not in strings:
            continue
        if path.is_file():
            found.append(path)
        elif path.is_dir() and not (path / "__init__.py").exists():
            found += [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    return sorted(found)


def _without_documentation(tree: ast.AST) -> ast.AST:
    """The tree without docstrings, and without the descriptions of settings (`Field(description=…)`)."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # A string that stands as a statement documents what is beside it, and does nothing.
            node.body = [  # type: ignore[attr-defined]
                s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
            ] or [ast.Pass()]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
    return tree


@dataclass(frozen=True)
class _Module:
    """What a module of ours reaches."""

    imports: set[str]
    files: list[Path]


@cache
def _read(name: str, path: Path, modified: int) -> _Module:
    """Once for each state of a file: stages share most of their modules."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports, strings = _names(ast.parse(path.read_text(encoding="utf-8")), package)
    return _Module(imports, _files_beside(strings, path))


def _module(name: str, path: Path) -> _Module:
    return _read(name, path, path.stat().st_mtime_ns)


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
        waiting += [*_module(name, path).imports, *([parent] if parent else [])]
    return sorted(found)


@cache
def _content(path: Path, modified: int) -> str:
    """SHA-256 of what counts of a file: a Python file's syntax, another file's bytes."""
    if path.suffix == ".py":
        tree = _without_documentation(ast.parse(path.read_text(encoding="utf-8")))
        return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_digests(module: str) -> dict[str, str]:
    """SHA-256 of each module that `module` reaches, by its name, and of each file that those name, by its path below
    the project."""
    digests = {}
    for name in reached_modules(module):
        path = _source(name)
        assert path is not None
        digests[name] = _content(path, path.stat().st_mtime_ns)
        for file in _module(name, path).files:
            digests[file.relative_to(_ROOT).as_posix()] = _content(file, file.stat().st_mtime_ns)
    return digests


def digest_of(digests: Mapping[str, str]) -> str:
    """One digest of them all."""
    return hashlib.sha256("".join(f"{name}\n{digests[name]}\n" for name in sorted(digests)).encode()).hexdigest()
