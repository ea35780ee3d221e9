"""What each response of a group is worth to the objective: its reward with what RL adds and takes, and its advantage
over the others of the group."""

from dataclasses import dataclass

from steps.configs.rl import RlConfig
from steps.rewards.score import RIGHT_FROM
from steps.rl.length_reward import length_rewards, weight_at
from steps.rl.objective import advantages, best_responses
from steps.rl.trajectory import Group, Stop, Trajectory


@dataclass(frozen=True)
class Credit:
    """One judged response."""

    place: int
    """The trajectory's place in the group."""
    trajectory: Trajectory
    total_reward: float
    """The verifier's reward, plus the weighted length reward, minus the penalty for repetition."""
    advantage: float
    """What the objective weights it with. Where it is 0 in a whole group, there is nothing to learn from the group."""


def credit(group: Group, config: RlConfig, iteration: int) -> list[Credit]:
    """The credit of each judged response of a group that is trained on in an iteration (from 0)."""
    weight = weight_at(iteration, config.length_reward.weight, config.length_reward.warmup_iterations)
    lengths = [trajectory.length for trajectory in group.judged]
    shorter = length_rewards(lengths, [reward >= RIGHT_FROM for reward in group.rewards])
    totals = [
        reward + weight * short - (config.repetition.penalty if trajectory.stop is Stop.REPETITION else 0.0)
        for reward, short, trajectory in zip(group.rewards, shorter, group.judged, strict=True)
    ]
    values = best_responses(totals) if config.objective == "rest" else advantages(totals, config.tau, config.baseline)
    places = [place for place, trajectory in enumerate(group.trajectories) if trajectory.reward is not None]
    return [Credit(*one) for one in zip(places, group.judged, totals, values, strict=True)]
