"""Shortest rejection sampling (§2.4): sample n = 8 responses per question, fine-tune on the shortest right one.

As in the report. Responses that reach the length limit are not finished, and are never chosen.

    longhaul run --only long2short/shortest --config configs/nano.yaml
"""

from collections.abc import Sequence

from steps.configs.shortest import ShortestConfig
from steps.long2short.responses import JudgedResponse, Responses
from steps.supervised import train
from steps.token_example import TokenExample
from steps.workbench import Workbench


def shortest(responses: Sequence[Responses]) -> list[tuple[Responses, JudgedResponse]]:
    """The shortest right response of each problem that has one."""
    return [(one, one.shortest_right) for one in responses if one.shortest_right is not None]


def shortest_examples(responses: Sequence[Responses]) -> list[TokenExample]:
    """The same, as they are trained on."""
    return [one.example(response) for one, response in shortest(responses)]


def shortest_rejection_sampling(bench: Workbench, responses: Sequence[Responses], config: ShortestConfig) -> int:
    """Choose and fine-tune; the model is in the bench's trainer. Returns the number of responses trained on."""
    examples = shortest_examples(responses)
    bench.resume_training()
    train(bench.trainer, examples, config.phase, bench.random("shortest"), "shortest", bench.log)
    return len(examples)
