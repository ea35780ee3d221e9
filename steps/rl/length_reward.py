"""The length reward (§2.3.3): among the responses to one problem, shorter is better, and wrong ones never gain."""

from collections.abc import Sequence


def length_rewards(lengths: Sequence[int], correct: Sequence[bool]) -> list[float]:
    """Length reward of each response of one group.

    Args:
        lengths: in tokens.
        correct: whether the verifier accepted the response.

    Returns:
        λ = 0.5 − (length − shortest) / (longest − shortest) for right responses, min(0, λ) for wrong ones; 0 for all
        where all are equally long.
    """
    shortest, longest = min(lengths), max(lengths)
    if shortest == longest:
        return [0.0] * len(lengths)
    rewards = []
    for length, right in zip(lengths, correct, strict=True):
        value = 0.5 - (length - shortest) / (longest - shortest)
        rewards.append(value if right else min(0.0, value))
    return rewards


def weight_at(iteration: int, weight: float, warmup_iterations: int) -> float:
    """The length reward's weight in an iteration (from 0): none during warm-up, then constant."""
    return 0.0 if iteration < warmup_iterations else weight
