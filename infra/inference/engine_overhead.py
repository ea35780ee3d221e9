"""What vLLM does needlessly, or more often than once, where engines start and end in one process."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch


@contextmanager
def without_collection() -> Iterator[None]:
    """Nothing looks for garbage within the block, where there is no GPU.

    Closing, vLLM has the collector look through all objects of the process three times, all that was imported among
    them; in a fork that copies their memory too. Reference counts free caches and weights without it.
    """
    if torch.cuda.is_available():
        yield
        return
    collector: Any = gc
    collect, unfreeze = gc.collect, gc.unfreeze
    collector.collect, collector.unfreeze = lambda *_: 0, lambda: None
    try:
        yield
    finally:
        collector.collect, collector.unfreeze = collect, unfreeze


@cache
def register_kernels() -> None:
    """Put vLLM's kernels for CPUs in the places of Triton's, where vLLM runs on one.

    Each engine would do so, and look for those places in all that was imported.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():  # and not torch, which would open a GPU, and forks could not
        return
    platform: Any = type(current_platform)
    current_platform.register_triton_kernel_overrides()
    platform.register_triton_kernel_overrides = lambda *_: None
