"""A vLLM of another shape than the one whose model runner is changed: nothing is sampled differently in silence."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from infra.inference.chunked_prefill import ChunksRefused, spare_generators


def runner(sample_tokens: Any, generators: dict[int, torch.Generator]) -> Any:
    """What is used of a model runner: the second of two requests has its token thrown away."""
    mask = SimpleNamespace(np=np.array([False, True, True]))
    return SimpleNamespace(
        sample_tokens=sample_tokens,
        input_batch=SimpleNamespace(generators=generators, num_reqs=2),
        discard_request_mask=mask,
    )


@pytest.mark.parametrize("part", ["sample_tokens", "input_batch", "discard_request_mask"])
def test_a_model_runner_without_what_is_changed_is_refused_with_the_way_out(part: str) -> None:
    other = runner(lambda: None, {})
    delattr(other, part)
    with pytest.raises(ChunksRefused, match=rf"has no {part}.*raise engine.max_batched_tokens to engine.context"):
        spare_generators(SimpleNamespace(model_runner=other))


def test_a_model_runner_that_draws_from_its_own_copy_of_the_generators_is_refused() -> None:
    generators = {place: torch.Generator().manual_seed(place) for place in range(2)}
    copied = dict(generators)
    changed = runner(lambda: [torch.rand(1, generator=each) for each in copied.values()], generators)
    spare_generators(SimpleNamespace(model_runner=changed))
    with pytest.raises(ChunksRefused, match="draws from the generators of requests whose token it throws away"):
        changed.sample_tokens()


def test_generators_are_out_of_the_batch_while_tokens_are_sampled_and_in_it_again_after() -> None:
    generators = {place: torch.Generator().manual_seed(place) for place in range(2)}
    before = dict(generators)
    seen: list[set[int]] = []
    changed = runner(lambda: seen.append(set(generators)), generators)
    spare_generators(SimpleNamespace(model_runner=changed))
    changed.sample_tokens()
    assert seen == [{0}] and generators == before
