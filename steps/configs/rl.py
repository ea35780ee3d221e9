"""Settings of RL (§2.3, §2.6), and of long2short RL (§2.4)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.configs import Frozen

Objective = Literal["mirror_descent", "token_level", "rest"]
"""The losses of `steps.rl.objective`."""

Baseline = Literal["mean", "log_z"]
"""What is subtracted from a reward: the group's mean, or τ·log Z estimated from the group."""


class RepetitionConfig(BaseModel):
    """When a rollout that repeats itself is ended early (§2.6.2). Digits, white space, rules are not repetition."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_pattern: int = Field(64, ge=1, description="Longest repeated pattern looked for, in tokens.")
    min_count: int = Field(6, ge=2, description="How many times it must stand in a row.")
    min_tokens: int = Field(100, ge=2, description="Tokens that these are in all: one token has to stand this often.")
    penalty: float = Field(0.0, ge=0, description="Subtracted from the reward of a response that repeats itself.")


class LengthRewardConfig(BaseModel):
    """The length reward (§2.3.3)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(0.0, ge=0, description="Weight after warm-up; 0 turns the length reward off.")
    warmup_iterations: int = Field(0, ge=0, description="Iterations at the start without length reward.")


class SamplingConfig(BaseModel):
    """How prompts are chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    curriculum_iterations: int = Field(0, ge=0, description="Iterations over the whole set before the hard ones alone.")
    hard_below: float = Field(1.0, gt=0, le=1, description="After the curriculum: only problems of a lower pass rate.")
    prioritised: bool = Field(True, description="Draw in proportion to 1 - success rate rather than evenly.")
    prior: float = Field(0.5, ge=0, le=1, description="Success rate that a problem counts with until it is seen.")
    floor: float = Field(0.05, gt=0, le=1, description="Least weight of a problem, so that none is forgotten.")
    momentum: float = Field(0.5, ge=0, lt=1, description="How much of the old success rate stays when a group is seen.")


class RlConfig(BaseModel):
    """Reinforcement learning with partial rollouts (§2.3, §2.6)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(ge=1, description="Rollout phases, each followed by a training phase.")
    groups: int = Field(48, ge=1, description="Problems in a full training batch.")
    oversampling: float = Field(
        1.0,
        ge=1,
        description="Problems worked on at once per group of a batch: above 1, batches are full while long ones last.",
    )
    responses: int = Field(8, ge=1, description="k, the responses per problem.")
    max_response_tokens: int = Field(320, ge=1, description="Longest response over all iterations; final when reached.")
    token_budget: int = Field(128, ge=1, description="Most tokens added to a response in one iteration.")
    temperature: float = Field(1.0, gt=0, description="Sampling temperature; log-probabilities are taken under it.")
    objective: Objective = Field("mirror_descent", description="Eq. 3; ReST and a token-level variant to compare with.")
    tau: float = Field(0.1, gt=0, description="τ, the strength of the pull towards the iteration's reference policy.")
    baseline: Baseline = Field("mean", description="What is subtracted from rewards: the group's mean, or τ·log Z.")
    updates: int = Field(2, ge=1, description="Optimizer steps per iteration, each on its share of the groups.")
    learning_rate: float = Field(gt=0, description="Learning rate of the first iteration; Adam is reset in each.")
    final_learning_rate: float = Field(gt=0, description="Learning rate of the last iteration; linear in between.")
    segments: Literal["all", "current_only"] = Field("all", description="Segments whose tokens count in the loss.")
    max_staleness: int = Field(4, ge=0, description="Iterations that a group may continue beyond its first.")
    when_stale: Literal["drop", "finish"] = Field("finish", description="What happens to a group that is older.")
    sequence_length: int = Field(512, ge=16, description="Tokens in a packed training row.")
    keep_every: int | None = Field(
        None,
        ge=1,
        description="Iterations between the states (weights, replay buffer) that are kept for `longhaul run --fork`; "
        "null: none is kept.",
    )
    reward: Literal["rules", "classic_rm", "cot_rm"] = Field(
        "rules", description="Who judges mathematics: the rules, or a model that the section reward_models trains."
    )
    repetition: RepetitionConfig = Field(
        RepetitionConfig(), description="When a rollout that repeats itself is ended early."
    )
    length_reward: LengthRewardConfig = Field(LengthRewardConfig(), description="The length reward and its warm-up.")
    sampling: SamplingConfig = Field(SamplingConfig(), description="How prompts are chosen.")
    freeze: Frozen | None = Field(
        None,
        description="What of a model that reads images is not trained: none, vision or language; null: as "
        "trainer.freeze says.",
        exclude_if=lambda value: value is None,
    )

    @property
    def in_flight(self) -> int:
        """Problems worked on at once; new ones fill the places of those that leave."""
        return round(self.groups * self.oversampling)

    @property
    def retained_iterations(self) -> range:
        """Numbers of iterations after which the state is kept."""
        return range(self.keep_every, self.iterations + 1, self.keep_every) if self.keep_every else range(0)

    def rate_at(self, iteration: int) -> float:
        """The learning rate of an iteration (from 0)."""
        share = iteration / max(1, self.iterations - 1)
        return self.learning_rate + share * (self.final_learning_rate - self.learning_rate)

    @model_validator(mode="after")
    def _possible(self) -> "RlConfig":
        if self.responses == 1:
            raise ValueError("responses: 1 leaves nothing to compare with; the group baseline needs k of at least 2")
        if self.updates > self.groups:
            raise ValueError(f"updates: {self.updates} steps need at least as many groups, and groups is {self.groups}")
        return self
