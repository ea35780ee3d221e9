"""Which problems an iteration works on (§2.3.4): a curriculum, then in proportion to 1 − success rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from pydantic import BaseModel

from steps.configs.rl import SamplingConfig
from steps.problem import Problem


class SamplerState(BaseModel):
    """What a sampler knows, to continue with later."""

    success: dict[str, float]
    random: tuple[int, tuple[int, ...], float | None]
    """As `random.Random.getstate` gives it."""


@dataclass
class PromptSampler:
    """Draws problems without replacement within an iteration. Deterministic from its generator."""

    problems: Sequence[Problem]
    config: SamplingConfig
    rng: Random
    success: dict[str, float] = field(default_factory=dict)
    """Success rate s of each problem, by id: the curation's pass rate first, then what RL sees."""

    @classmethod
    def start(
        cls, problems: Sequence[Problem], pass_rates: Mapping[str, float], config: SamplingConfig, rng: Random
    ) -> "PromptSampler":
        """A sampler that knows the pass rates of curation; other problems count with the prior."""
        return cls(problems, config, rng, {p.id: pass_rates.get(p.id, config.prior) for p in problems})

    def draw(self, count: int, iteration: int, exclude: set[str]) -> list[Problem]:
        """`count` different problems for an iteration (from 0), none of those in `exclude`.

        The curriculum begins with the whole set, evenly. After it come the hard problems, those that are not hard only
        filling what they leave open.
        """
        pool = [problem for problem in self.problems if problem.id not in exclude]
        if len(pool) < count:
            raise ValueError(
                f"{count} prompts are asked for and {len(pool)} are left: lower rl.groups or "
                "rl.oversampling, or curate more"
            )
        # Efraimidis and Spirakis: the largest u ** (1 / weight) are a weighted draw without replacement.
        warming_up = iteration < self.config.curriculum_iterations
        keys = [
            (
                warming_up or self.success[problem.id] < self.config.hard_below,
                self.rng.random() ** (1 / (1.0 if warming_up else self._weight(problem))),
                problem,
            )
            for problem in pool
        ]
        keys.sort(key=lambda key: key[:2], reverse=True)
        return [problem for _, _, problem in keys[:count]]

    def _weight(self, problem: Problem) -> float:
        if not self.config.prioritised:
            return 1.0
        return max(self.config.floor, 1 - self.success[problem.id])

    def observe(self, problem: Problem, rate: float) -> None:
        """Note the share of right responses of a group."""
        momentum = self.config.momentum
        self.success[problem.id] = momentum * self.success[problem.id] + (1 - momentum) * rate

    @property
    def state(self) -> SamplerState:
        """What this sampler knows."""
        return SamplerState(success=dict(self.success), random=self.rng.getstate())

    def restore(self, state: SamplerState) -> None:
        """Continue from what another sampler knew. Of problems that it did not have, what this one knows stays; those
        that this one does not have are forgotten."""
        self.success = {problem: state.success.get(problem, rate) for problem, rate in self.success.items()}
        self.rng.setstate(state.random)
