"""What is kept from vLLM while an engine closes."""

import gc
import weakref

import pytest
import torch

from infra.inference.engine_overhead import without_collection


class Cycle:
    """Garbage that only the collector frees."""

    def __init__(self) -> None:
        self.own = self


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU, vLLM collects as it will")
def test_nothing_is_collected_within_the_block_and_all_is_after_it_even_where_closing_fails() -> None:
    gc.disable()
    try:
        garbage = weakref.ref(Cycle())
        with pytest.raises(RuntimeError), without_collection():
            gc.collect()
            assert garbage() is not None
            raise RuntimeError
        gc.collect()
        assert garbage() is None
    finally:
        gc.enable()
