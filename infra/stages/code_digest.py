"""What code a stage reaches: its module, all of the project's that those import, files that they name, and packages.

Formatting, comments, docstrings and the descriptions of settings do not change a digest; a changed constant does.
Imports for types alone (`if TYPE_CHECKING`) do not count, and neutral modules (infra/stages/neutral.py) are left out
with all that they import. Nothing is imported to compute it: a plan must not wait for torch and vLLM, and a dependency
that is missing must not change the digest.
"""

import ast
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from infra.environment import CACHE
from infra.files import write_text_atomically
from infra.stages.neutral import is_neutral

PROJECT = ("flows", "steps", "infra")
_ROOT = Path(__file__).resolve().parents[2]

DEFINITION_DIGITS = 12
"""Hex digits of a definition's digest: it is only compared with that of the same definition at another time."""


def _source(module: str) -> Path | None:
    """The file of a module of the project; None where the name is that of something else, a class for instance."""
    path = os.path.join(_ROOT, *module.split("."))
    return next((Path(file) for file in (f"{path}/__init__.py", f"{path}.py") if os.path.isfile(file)), None)


class _Sources:
    """The files of modules, each looked for once."""

    def __init__(self) -> None:
        self._files: dict[str, Path | None] = {}

    def file(self, module: str) -> Path | None:
        """See `_source`."""
        if module not in self._files:
            parent = module.rpartition(".")[0]
            # Most names that are imported are those of classes and functions, which have no files to look for.
            is_in_package = not parent or ((file := self.file(parent)) is not None and file.name == "__init__.py")
            self._files[module] = _source(module) if is_in_package else None
        return self._files[module]


def _is_for_types(node: ast.AST) -> bool:
    """Whether a node is a block `if TYPE_CHECKING:`."""
    test = node.test if isinstance(node, ast.If) else None
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))


def executed_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a tree but those of imports for types alone."""
    yield node
    for child in ast.iter_child_nodes(node):
        if _is_for_types(child):
            assert isinstance(child, ast.If)
            for other in child.orelse:
                yield from executed_nodes(other)
        else:
            yield from executed_nodes(child)


def _names(tree: ast.AST, package: str) -> tuple[set[str], set[str], set[str]]:
    """Names that a tree in `package` may import from the project, wherever the import stands; the first parts of the
    others that it imports; and all its strings.

    A string that names a module counts as an import: that is how a process of its own is started (`python -m`).
    """
    names: set[str] = set()
    strings: set[str] = set()
    for node in executed_nodes(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            names.add(source)
            names.update(f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.add(node.value)
    foreign = {name.split(".")[0] for name in names} - set(PROJECT)
    names |= {string for string in strings if "." in string}
    inside = {name for name in names if name.split(".")[0] in PROJECT and name.replace(".", "").isidentifier()}
    return inside, foreign, strings


def _without_documentation(tree: ast.Module) -> ast.Module:
    """The tree without docstrings, imports for types, and the descriptions of settings (`Field(description=…)`)."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # A string that stands as a statement documents what is beside it, and does nothing.
            node.body = [  # type: ignore[attr-defined]
                s
                for s in body
                if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)) and not _is_for_types(s)
            ] or [ast.Pass()]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
    return tree


@dataclass(frozen=True)
class _Module:
    """What a module of the project holds and reaches."""

    digest: str
    """See `_content`."""
    imports: tuple[str, ...]
    packages: tuple[str, ...]
    """First parts of what it imports from elsewhere."""
    strings: tuple[str, ...]
    """Those that may name a file beside it."""
    definitions: dict[str, str]
    """See `definitions`."""

    @property
    def values(self) -> list[Any]:
        """As the file that remembers modules has them."""
        return [self.digest, self.imports, self.packages, self.strings, self.definitions]


def _read(name: str, path: Path) -> _Module:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports, packages, strings = _names(tree, package)
    names = {string for string in strings if 0 < len(string) < 256 and not {"/", "\n"} & set(string)}
    tree = _without_documentation(tree)
    return _Module(
        _digest_of_tree(tree),
        tuple(sorted(imports)),
        tuple(sorted(packages)),
        tuple(sorted(names)),
        _definitions(tree),
    )


def _digest_of_tree(tree: ast.Module) -> str:
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


class _Remembered:
    """Modules as they were read, in this process or an earlier one, for as long as their files look the same: to read
    all of them takes a second, and a plan should not."""

    FILE = CACHE / "code_digests.json"
    RECENT_NS = 2_000_000_000
    """A file that changed less than this ago may change again with the same time of change."""

    def __init__(self) -> None:
        own = Path(__file__).stat()
        self._format = f"{sys.version} {own.st_mtime_ns} {own.st_size}"
        self._modules: dict[str, tuple[int, int, _Module]] = {}
        self._new = False
        with suppress(OSError, ValueError, TypeError):  # it only saves time, so it may be missing or damaged
            remembered = json.loads(self.FILE.read_text(encoding="utf-8"))
            if remembered["format"] == self._format:
                for path, (modified, size, digest, imports, packages, strings, defined) in remembered[
                    "modules"
                ].items():
                    module = _Module(digest, tuple(imports), tuple(packages), tuple(strings), defined)
                    self._modules[path] = (modified, size, module)

    def module(self, name: str, path: Path) -> _Module:
        """A module of the project and its file."""
        status, key = path.stat(), str(path)
        known = self._modules.get(key)
        if known is None or known[:2] != (status.st_mtime_ns, status.st_size):
            known = (status.st_mtime_ns, status.st_size, _read(name, path))
            self._modules[key] = known
            self._new = True
        return known[2]

    def save(self) -> None:
        """For processes to come."""
        if not self._new:
            return
        self._new = False
        latest = time.time_ns() - self.RECENT_NS
        modules = {
            path: [modified, size, *module.values]
            for path, (modified, size, module) in self._modules.items()
            if modified < latest
        }
        with suppress(OSError):  # a full or read-only disk
            write_text_atomically(self.FILE, json.dumps({"format": self._format, "modules": modules}))


@cache
def _remembered() -> _Remembered:
    return _Remembered()


@cache
def _files_beside(strings: tuple[str, ...], module: Path) -> list[Path]:
    """What strings in a module name in its folder: files (programs, templates), and folders of data with all that is in
    them. A package of the project is not data: what is reached of it is imported."""
    files: list[Path] = []
    for entry in os.scandir(module.parent):
        if entry.name not in strings:
            continue
        path = Path(entry.path)
        if path.is_file():
            files.append(path)
        elif path.is_dir() and not (path / "__init__.py").exists():
            files += [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    return sorted(files)


def _reached(module: str, leave_out: Callable[[str], bool]) -> dict[str, tuple[Path, _Module]]:
    """The file and content of `module`, and of each module of the project that it imports, directly or not."""
    reached: dict[str, tuple[Path, _Module]] = {}
    sources = _Sources()
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = None if leave_out(name) else sources.file(name)
        if path is None:
            continue
        reached[name] = (path, _remembered().module(name, path))
        parent = name.rpartition(".")[0]
        waiting += [*reached[name][1].imports, *([parent] if parent else [])]
    return reached


def reached_modules(module: str, leave_out: Callable[[str], bool] = is_neutral) -> list[str]:
    """`module` and every module of the project that it imports, directly or not, sorted; without those that are left
    out, which are by default the neutral ones."""
    return sorted(_reached(module, leave_out))


@cache
def _content(path: Path, modified: int) -> str:
    """SHA-256 of what counts of a file: a Python file's syntax, another file's bytes."""
    if path.suffix == ".py":
        return _digest_of_tree(_without_documentation(ast.parse(path.read_text(encoding="utf-8"))))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class ReachedCode:
    """What a module reaches."""

    digests: dict[str, str]
    """SHA-256 of each module by its name, and of each file that those name by its path below the project."""
    packages: set[str]
    """First parts of the names that modules import from outside the project."""


def reached_code(module: str, leave_out: Callable[[str], bool] = is_neutral) -> ReachedCode:
    """See `ReachedCode`; without modules that are left out, and what they alone import."""
    digests: dict[str, str] = {}
    packages: set[str] = set()
    for name, (path, read) in _reached(module, leave_out).items():
        digests[name] = read.digest
        packages.update(read.packages)
        for file in _files_beside(read.strings, path):
            digests[file.relative_to(_ROOT).as_posix()] = _content(file, file.stat().st_mtime_ns)
    _remembered().save()
    return ReachedCode(dict(sorted(digests.items())), packages)


def definitions(modules: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Of each Python module among those with digests, a digest of each function, class and constant at its top
    level."""
    sources = {name: _source(name) for name in modules if "/" not in name}
    remembered = _remembered()
    return {name: remembered.module(name, path).definitions for name, path in sources.items() if path is not None}


def _definitions(tree: ast.Module) -> dict[str, str]:
    texts: dict[str, str] = {}
    for node in tree.body:
        for name in _defined(node):
            texts[name] = texts.get(name, "") + ast.dump(node)
    return {name: hashlib.sha256(text.encode()).hexdigest()[:DEFINITION_DIGITS] for name, text in texts.items()}


def _defined(node: ast.stmt) -> list[str]:
    """What a statement at a module's top level defines, for people; `(statements)` for what has no name."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return ["(imports)"]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)] or ["(statements)"]


def digest_of(digests: Mapping[str, str]) -> str:
    """One digest of them all."""
    return hashlib.sha256("".join(f"{name}\n{digests[name]}\n" for name in sorted(digests)).encode()).hexdigest()
