"""The glossary of RL: segment, trajectory, group, and every way in which a rollout stops (§2.6.2).

A response is a list of segments. Each was sampled in one iteration, by that iteration's policy, and remembers it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from steps.problem import Problem
from steps.token_prompt import TokenPrompt


class Stop(StrEnum):
    """Why a rollout stopped."""

    END = "end"
    """The model gave its end token. Final."""
    BUDGET = "budget"
    """The iteration's token budget was used up: the trajectory continues in the next iteration."""
    LENGTH = "length"
    """The longest response allowed was reached. Final, and judged as it is."""
    REPETITION = "repetition"
    """The model repeated itself and was ended early. Final."""
    STALE = "stale"
    """The trajectory took more iterations than the staleness bound allows, and was ended. Final."""
    FAILED = "failed"
    """The response could not be judged. Final, without a reward, and not trained on."""

    @property
    def final(self) -> bool:
        """Whether the trajectory is done."""
        return self is not Stop.BUDGET


@dataclass(frozen=True)
class Segment:
    """What one policy added to a response in one iteration."""

    tokens: Sequence[int]
    logprobs: Sequence[float] = field(repr=False)
    """Log-probability of each token when it was sampled, by the engine."""
    iteration: int
    """The iteration whose policy sampled it."""


@dataclass
class Trajectory:
    """One response to a problem, finished or not."""

    seed: int
    """What its sampling is seeded from, together with the number of the segment."""
    segments: list[Segment] = field(default_factory=list)
    stop: Stop | None = None
    """None until the first segment."""
    reward: float | None = None
    """The verifier's reward; None until the trajectory is done and judged."""
    reason: str = ""
    """Why the verifier gave that reward."""
    verifier: str = ""
    """Name and version of the verifier, as in `math@3`."""

    @property
    def tokens(self) -> list[int]:
        """The response so far."""
        return [token for segment in self.segments for token in segment.tokens]

    @property
    def logprobs(self) -> list[float]:
        """Log-probabilities at sampling, one per token."""
        return [logprob for segment in self.segments for logprob in segment.logprobs]

    @property
    def length(self) -> int:
        """Tokens so far."""
        return sum(len(segment.tokens) for segment in self.segments)

    @property
    def done(self) -> bool:
        """Whether nothing is added any more."""
        return self.stop is not None and self.stop.final

    @property
    def first_iteration(self) -> int:
        """The iteration in which the response began."""
        return self.segments[0].iteration


@dataclass
class Group:
    """The k responses to one problem: the unit that is rewarded, compared and trained on."""

    problem: Problem
    prompt: TokenPrompt
    """The problem's, up to where responses begin."""
    trajectories: list[Trajectory]
    started: int
    """The iteration in which its rollouts began."""

    @property
    def done(self) -> bool:
        """Whether all of its trajectories are done."""
        return all(trajectory.done for trajectory in self.trajectories)

    @property
    def judged(self) -> list[Trajectory]:
        """The trajectories that have a reward: all but those whose judging failed."""
        return [trajectory for trajectory in self.trajectories if trajectory.reward is not None]

    @property
    def rewards(self) -> list[float]:
        """The verifier's rewards of the judged trajectories. Raises ValueError while a judgement is missing."""
        if any(t.reward is None and t.stop is not Stop.FAILED for t in self.trajectories):
            raise ValueError(f"group of problem {self.problem.id} is not judged yet")
        return [trajectory.reward for trajectory in self.trajectories if trajectory.reward is not None]
