"""Shortest rejection sampling (§2.4): sample n = 8 responses per question, fine-tune on the shortest right one."""

from collections.abc import Sequence
from typing import Any

from steps.configs.long2short import ShortestConfig
from steps.long2short.responses import Responses, sample_responses
from steps.packing import TokenExample
from steps.problem import Problem
from steps.supervised import train
from steps.workbench import Workbench


def shortest_examples(responses: Sequence[Responses]) -> list[TokenExample]:
    """The shortest right response of each problem that has one."""
    return [
        TokenExample([*one.prompt, *one.shortest_right.tokens], len(one.prompt))
        for one in responses
        if one.shortest_right is not None
    ]


def shortest_rejection_sampling(
    bench: Workbench, problems: Sequence[Problem], config: ShortestConfig
) -> dict[str, Any]:
    """Sample, choose, fine-tune; the model is in the bench's trainer and engine. Returns what the stage reports."""
    examples = shortest_examples(sample_responses(bench, problems, config.responses))
    bench.take_back()
    train(bench.trainer, examples, config.phase, bench.random("shortest"), "shortest", bench.log)
    bench.hand_over()
    return {"examples": len(examples)}
