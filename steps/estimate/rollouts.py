"""How RL's rollouts go: partial ones, in groups, with lengths drawn from a distribution, iteration by iteration.

The book-keeping is the recipe's own (steps/rl/rollout.py, replay_buffer.py) on lengths in place of responses: a
response grows by the token budget at most, a group leaves when all of its responses are done, and new problems fill the
places that are left.
"""

import itertools
import math
from dataclasses import dataclass, field
from random import Random
from statistics import NormalDist

from steps.configs.rl import RlConfig

_STANDARD = NormalDist()

_SIMULATED = 64
"""Most groups of a batch that are simulated."""


@dataclass(frozen=True)
class Rollouts:
    """Means over the iterations."""

    tokens: float
    """Generated in an iteration."""
    requests: float
    """Responses that are worked on."""
    prefixes: float
    """Tokens of responses that go on, which are read again under the new weights."""
    started: float
    """Groups that are new."""
    longest: float
    """Tokens of the response that grows most."""
    done: float
    """Groups that go to training."""
    trained_tokens: float
    """Response tokens of those groups."""


@dataclass
class _Group:
    number: int
    lengths: list[int]
    started: int
    grown: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.grown = [0] * len(self.lengths)

    @property
    def done(self) -> bool:
        return self.grown == self.lengths


def capped_mean(centre: float, deviation: float, cap: float) -> float:
    """Mean of a log-normal variable (mean and σ of its logarithm) of which no value is above `cap`."""
    edge = (math.log(cap) - centre) / deviation
    below = math.exp(centre + deviation**2 / 2) * _STANDARD.cdf(edge - deviation)
    return below + cap * (1 - _STANDARD.cdf(edge))


def centre_of(mean: float, deviation: float, cap: float) -> float:
    """The mean of the logarithm with which the capped mean is `mean`, which has to be below `cap`."""
    low, high = math.log(mean) - 4 * deviation**2 - 1, math.log(cap) + 8 * deviation + 8
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if capped_mean(middle, deviation, cap) < mean else (low, middle)
    return (low + high) / 2


def simulate(config: RlConfig, mean: float, deviation: float, seed: int = 0) -> Rollouts:
    """Rollouts of responses of `mean` tokens on average. The same arguments give the same result.

    Large batches are simulated by smaller ones, of which everything but the longest response is scaled up.
    """
    rng = Random(seed)
    groups = min(config.groups, _SIMULATED)
    in_flight = round(config.in_flight * groups / config.groups)
    longest = config.max_response_tokens
    centre = centre_of(mean, deviation, longest) if mean < 0.98 * longest else math.inf
    share = deviation / math.sqrt(2)

    numbers = itertools.count()

    def group(iteration: int) -> _Group:
        if centre == math.inf:
            return _Group(next(numbers), [longest] * config.responses, iteration)
        problem = rng.gauss(centre, share)
        drawn = [min(longest, max(1, round(math.exp(rng.gauss(problem, share))))) for _ in range(config.responses)]
        return _Group(next(numbers), drawn, iteration)

    sums = dict.fromkeys(("tokens", "requests", "prefixes", "started", "longest", "done", "trained_tokens"), 0.0)
    buffer: list[_Group] = []
    for iteration in range(config.iterations):
        too_old = [one for one in buffer if iteration - one.started > config.max_staleness and not one.done]
        if config.when_stale == "drop":
            dropped = {one.number for one in too_old}
            buffer = [one for one in buffer if one.number not in dropped]
        else:
            for one in too_old:
                one.lengths = list(one.grown)
        new = [group(iteration) for _ in range(max(0, in_flight - len(buffer)))]
        buffer += new
        sums["started"] += len(new)
        most = 0
        for one in buffer:
            for place, length in enumerate(one.lengths):
                if (left := length - one.grown[place]) > 0:
                    step = min(left, config.token_budget)
                    sums["requests"] += 1
                    sums["prefixes"] += one.grown[place]
                    sums["tokens"] += step
                    one.grown[place] += step
                    most = max(most, step)
        sums["longest"] += most
        done = [one for one in buffer if one.done][:groups]
        sums["done"] += len(done)
        sums["trained_tokens"] += sum(sum(one.lengths) for one in done)
        gone = {one.number for one in done}
        buffer = [one for one in buffer if one.number not in gone]
    scale = {name: 1.0 if name == "longest" else config.groups / groups for name in sums}
    return Rollouts(**{name: scale[name] * total / config.iterations for name, total in sums.items()})
