"""Homes of their own for commands that tests start."""

from pathlib import Path

from infra.environment import CACHE
from tests.processes import own_environment


def in_home(folder: Path) -> dict[str, str]:
    """The environment of a command whose home is a folder. What the engines compile is there already: in a new home
    they would do it for half a minute."""
    cache = CACHE.resolve()
    engines = {"TORCH_EXTENSIONS_DIR": str(cache / "torch_extensions"), "VLLM_CACHE_ROOT": str(cache / "vllm")}
    return {**own_environment(), "LONGHAUL_HOME": str(folder), **engines}
