"""Images: the root folders that boxes run in, one for each language, with what its programs need and nothing else.

A language is a folder in `images/` with an image.yaml (see `Image`). Its root is made once, from this machine's files,
and stored under a name that says what it is made of: another Python or compiler makes another root. Every root holds
the running Python, which the box's init needs, at /opt/python wherever it lives outside, so that tracebacks are the
same on every machine.
"""

import compileall
import functools
import glob
import hashlib
import importlib.metadata
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from infra.environment import CACHE
from infra.files import folder_written_aside
from infra.sandbox.interface import SandboxUnavailable

PYTHON_HOME = "/opt/python"
INIT = f"{PYTHON_HOME}/box_init.pyc"
"""The box's first process, compiled: to do that in each box would be a twentieth of a run."""

_INIT_SOURCE = Path(__file__).with_name("box_init.py")
FOLDER = (CACHE / "sandbox").resolve()
"""Where roots are."""

LANGUAGES = Path(__file__).with_name("images")
_FORMAT = 3
_LIBRARY_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64", "/lib32")
_NOT_FOR_PROGRAMS = {
    *("site-packages", "dist-packages", "test", "tests", "idlelib", "idle_test", "tkinter", "turtledemo"),
    *("ensurepip", "lib2to3"),
}
MOUNT_POINTS = ("box", "build", "dev", "proc", "tmp")


class Image(BaseModel):
    """What an image.yaml says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(description="Name of the program's file, in /box.")
    compile: tuple[str, ...] = Field((), description="Command that makes something in /build of it, once for each box.")
    run: tuple[str, ...] = Field((), description="Command that runs it; empty: the box's Python does.")
    packages: tuple[str, ...] = Field(
        (), description="Installed Python packages to bring along, without what they need."
    )
    commands: tuple[str, ...] = Field((), description="Commands of this machine to bring along.")
    files: tuple[str, ...] = Field((), description="Patterns of files and folders of this machine to bring along.")
    address_space: bool = Field(True, description="Whether a process's addresses can be limited to its memory.")
    threads: int = Field(0, ge=0, description="Threads that the language's runtime starts by itself.")
    debian: str = Field("", description="Debian's package that brings the commands.")


@functools.cache
def image(language: str) -> Image:
    """A language's image. Raises KeyError with the ones that there are."""
    file = LANGUAGES / language / "image.yaml"
    if not language.isidentifier() or not file.is_file():
        known = ", ".join(sorted(folder.name for folder in LANGUAGES.iterdir() if (folder / "image.yaml").is_file()))
        raise KeyError(f"no image for language {language!r}; there are {known}")
    return Image.model_validate(yaml.safe_load(file.read_text()))


def _tree(outside: Path, inside: str, leave_out: Iterable[str] = ()) -> Iterator[tuple[str, Path]]:
    """Pairs of a path inside and a file outside, for a file or for all files of a folder."""
    if not outside.is_dir():
        yield inside, outside
        return
    for folder, folders, names in os.walk(outside):
        folders[:] = [name for name in folders if name not in leave_out]
        place = Path(folder).relative_to(outside)
        for name in names:
            if not name.endswith((".opt-1.pyc", ".opt-2.pyc")):
                yield os.path.normpath(f"{inside}/{place}/{name}"), Path(folder, name)


def _python() -> Iterator[tuple[str, Path]]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    yield f"{PYTHON_HOME}/bin/python", Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    library = f"{PYTHON_HOME}/{sys.platlibdir}/{version}"
    config = f"config-{version.removeprefix('python')}-{sysconfig.get_config_var('MULTIARCH')}"
    yield from _tree(Path(sysconfig.get_path("stdlib")), library, {*_NOT_FOR_PROGRAMS, config})
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        shared = Path(sys.base_prefix, "lib", sysconfig.get_config_var("INSTSONAME"))
        # A distribution's Python has its library in a folder of _LIBRARY_FOLDERS, where ldd finds it.
        if shared.exists():
            yield f"{PYTHON_HOME}/lib/{shared.name}", shared


def site_packages() -> str:
    """Where an image's Python packages are."""
    return f"{PYTHON_HOME}/{sys.platlibdir}/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def _packages(names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    for name in names:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError as error:
            raise SandboxUnavailable(f"the image needs the Python package {name}: pip install {name}") from error
        for file in files:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                yield f"{site_packages()}/{file}", Path(str(file.locate()))


def _is_program(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _shared_libraries(programs: list[Path]) -> Iterator[tuple[str, Path]]:
    """What the dynamic loader opens for programs and libraries, at the paths where it looks."""
    listed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True).stdout
    for path in sorted(set(re.findall(r"(?:=>\s*|^\s+)(/\S+) \(0x", listed, re.MULTILINE))):
        folder = os.path.realpath(os.path.dirname(path))
        standard = any(folder == f or folder.startswith(f + "/") for f in map(os.path.realpath, _LIBRARY_FOLDERS))
        # The box's Python looks into its own folder too (LD_LIBRARY_PATH).
        place = folder if standard else f"{PYTHON_HOME}/lib"
        yield f"{place}/{os.path.basename(path)}", Path(path)


def _files(spec: Image) -> dict[str, Path]:
    """All files of an image but the shared libraries: paths inside, and the files of this machine that they are."""
    files = dict(_python())
    files.update(_packages(spec.packages))
    for command in spec.commands:
        path = shutil.which(command)
        if path is None:
            raise SandboxUnavailable(f"the image needs `{command}` on PATH: apt-get install {spec.debian}")
        files[f"/usr/bin/{command}"] = Path(os.path.realpath(path))
    for pattern in spec.files:
        matches = glob.glob(pattern)
        if not matches and "*" not in pattern:
            raise SandboxUnavailable(f"the image needs {pattern}: apt-get install {spec.debian}")
        for match in matches:
            files.update(_tree(Path(match), match))
    return files


def _made_of(spec: Image, files: dict[str, Path]) -> str:
    """A digest of what a root is made of. Sizes and times stand for contents, which would take a second to read."""
    stats = [
        (inside, str(outside), s.st_size, s.st_mtime_ns)
        for inside, outside in sorted(files.items())
        for s in [outside.stat()]
    ]
    rest = [
        _FORMAT,
        _INIT_SOURCE.read_text(encoding="utf-8"),
        spec.model_dump(),
        os.confstr("CS_GNU_LIBC_VERSION"),
    ]
    return hashlib.sha256(json.dumps([rest, stats]).encode()).hexdigest()[:16]


def _make(root: Path, files: dict[str, Path]) -> None:
    programs = [path for inside, path in files.items() if _is_program(path) and not inside.endswith(".o")]
    for name in ("lib", "lib64", "lib32", "bin", "sbin"):
        if os.path.islink(f"/{name}"):
            (root / name).symlink_to(os.readlink(f"/{name}"))
            (root / os.readlink(f"/{name}")).mkdir(parents=True, exist_ok=True)
    for inside, outside in [*files.items(), *_shared_libraries(programs)]:
        place = root / inside.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(outside, place)
        # Python compares a module's time with that in its compiled file.
        shutil.copystat(outside, place)
        place.chmod(0o755 if os.access(outside, os.X_OK) else 0o644)
    if (packages := root / site_packages().lstrip("/")).is_dir():
        compileall.compile_dir(packages, quiet=2, stripdir=root)
    init = str(root / INIT.lstrip("/"))
    never = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(_INIT_SOURCE), init, "box_init.py", doraise=True, invalidation_mode=never)
    for name in MOUNT_POINTS:
        (root / name).mkdir()
    for folder, _, _ in os.walk(root):
        os.chmod(folder, 0o755)


@functools.cache
def root(language: str) -> Path:
    """A language's root folder, made where it is missing. Raises KeyError, and SandboxUnavailable naming a package."""
    spec = image(language)
    files = {inside: outside for inside, outside in _files(spec).items() if outside.is_file()}
    folder = FOLDER / f"{language}-{_made_of(spec, files)}"
    if not folder.is_dir():
        with folder_written_aside(folder) as aside:
            _make(aside, files)
    return folder
