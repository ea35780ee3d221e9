"""torchvision beside a CPU torch, by the file that set-up installs into the environment."""

import _ctypes
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import torchvision_operators
from tests.processes import own_environment

INSTALLED = Path(importlib.util.find_spec(torchvision_operators.NAME).origin)  # type: ignore[union-attr, arg-type]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=own_environment()
    )
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout.strip()


def test_the_environment_has_the_file_of_this_version_which_costs_a_process_nothing() -> None:
    assert INSTALLED.read_text() == Path(torchvision_operators.__file__).read_text()
    assert INSTALLED.with_suffix(".pth").read_text().strip() == f"import {torchvision_operators.NAME}"
    code = "import sys, importlib.util as u; print(u.find_spec('torchvision') is not None, 'torch' in sys.modules)"
    assert run(code) == "True False"


def test_torchvision_is_imported_beside_any_torch() -> None:
    assert run("import torch, torchvision; print(hasattr(torch.ops.torchvision, 'nms'))") == "True"


@pytest.mark.parametrize("loads", [True, False])
def test_operators_are_declared_only_where_the_library_does_not_load(loads: bool, tmp_path: Path) -> None:
    """In a package of that name whose library is any one that loads, or none."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("import torch\nprint(hasattr(torch.ops.torchvision, 'nms'))\n")
    if loads:
        shutil.copyfile(_ctypes.__file__, package / "_C.so")
    else:
        (package / "_C.so").write_bytes(b"built for another torch")
    assert run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import torchvision") == str(not loads)
