"""Makes torchvision's Python part importable where its operators do not load, in every process of an environment.

vLLM and transformers read images through torchvision, and its build on the registry is for CUDA: beside a CPU build of
torch the library with its operators does not load, and its import then fails on `torchvision::nms`. Images are read
without any operator, so that the two which the import registers something for only have to be declared. A build whose
library loads is left as it is.

    python scripts/torchvision_operators.py     installs this file into the environment of that Python

The environment's site-packages then have it as a module, and a .pth file that imports it in each process, as vLLM
starts some of its own. It imports nothing but the standard library until torchvision is imported.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

NAME = "longhaul_torchvision_operators"
"""The module's name in the environment, and its .pth file's."""

_SCHEMAS = {name: f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")}


class _Finder:
    """Finds torchvision as Python does, and has its operators declared before it runs."""

    _library: object = None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder. Whether torchvision is there is often asked without importing it."""
        if name != "torchvision" or path is not None:
            return None
        spec = PathFinder.find_spec(name)
        if spec is None or spec.loader is None or spec.origin is None:
            return None
        folder, execute = Path(spec.origin).parent, spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            self._declare(folder)
            execute(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _declare(self, folder: Path) -> None:
        import torch

        for library in folder.glob("_C*.so"):
            try:
                torch.ops.load_library(str(library))
                return
            except OSError:
                continue  # built for another torch
        if self._library is None:
            declared = torch.library.Library("torchvision", "FRAGMENT")
            for name, schema in _SCHEMAS.items():
                if not hasattr(torch.ops.torchvision, name):
                    declared.define(schema)
            # What it declares ends with it.
            self._library = declared


def install() -> None:
    """Write this file and its .pth file into this environment."""
    import sysconfig

    folder = Path(sysconfig.get_path("purelib"))
    (folder / f"{NAME}.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    (folder / f"{NAME}.pth").write_text(f"import {NAME}\n", encoding="utf-8")


if __name__ == "__main__":
    install()
elif __name__ == NAME:
    sys.meta_path.insert(0, _Finder())
