"""Data beside modules are part of an installed package: otherwise they are missing wherever it is not a checkout."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_INSTALLED = ("infra/sandbox/deploy/", "steps/nano_world/checkpoint/", "steps/nano_world/vision_checkpoint/")
"""What images are built from, and the bases that recipes name by their paths in a checkout."""


def test_every_file_beside_modules_is_installed_with_them() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    installed = {
        path for package, patterns in named.items() for pattern in patterns for path in _matches(package, pattern)
    }
    beside = {
        path
        for top in ("flows", "steps", "infra")
        for path in (ROOT / top).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
        if not path.relative_to(ROOT).as_posix().startswith(NOT_INSTALLED)
    }
    assert beside and sorted(path.relative_to(ROOT).as_posix() for path in beside - installed) == []


def _matches(package: str, pattern: str) -> list[Path]:
    folder = ROOT.joinpath(*package.split("."))
    # In setuptools, ** at the end takes files as well.
    return list(folder.glob(f"{pattern}/*" if pattern.endswith("**") else pattern))
