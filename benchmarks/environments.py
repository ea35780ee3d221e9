"""Environments of their own for what Longhaul is compared with: their packages conflict with its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def environment(place: Path, requirements: Path) -> Path:
    """Its Python, in an environment that is created if it is missing or its requirements have changed."""
    made_from = place / "requirements.txt"
    if not made_from.exists() or made_from.read_text() != requirements.read_text():
        uv, links = Path(sys.prefix, "bin", "uv"), os.environ.get("PIP_FIND_LINKS")
        torch = ["--find-links", links] if links else ["--torch-backend", "cpu"]
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, place], check=True)
        install = [str(uv), "pip", "install", "--quiet", "--python", f"{place}/bin/python"]
        subprocess.run([*install, *torch, "-r", str(requirements)], check=True)
        shutil.copyfile(requirements, made_from)
    return place / "bin" / "python"
