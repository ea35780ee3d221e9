"""Gates of a promotion: whether a model may take a tag from the one that has it.

The rules compare evaluations, and only those made alike: on the same held-out problems, with the same settings.
"""

from dataclasses import dataclass
from typing import Any

from infra.store.evaluation_stages import is_evaluation
from infra.store.records import StageRecord


@dataclass(frozen=True)
class PromotionRules:
    """What a model must keep of the tagged one."""

    accuracy_drop: float = 0.0
    """By how much the accuracy may be lower, 0 to 1."""
    token_growth: float | None = None
    """By what share responses may be longer on average; None where that is not asked."""


@dataclass(frozen=True)
class PromotionCheck:
    """One rule's outcome."""

    rule: str
    value: float | None
    """The new model's figure."""
    limit: float | None
    """What it must reach or keep below; None where it is unknown."""
    passed: bool
    reason: str


def check_promotion(new: StageRecord, tagged: StageRecord, rules: PromotionRules) -> list[PromotionCheck]:
    """Every rule's outcome; of models that were not evaluated alike, that alone, failed."""
    candidate, current = new.evaluation, tagged.evaluation
    if candidate is None or current is None:
        missing = new if candidate is None else tagged
        return [_cannot(f"stage {missing.stage} of run {missing.run} has no evaluation")]
    for name, one, other in (
        ("held-out problems", _problems(new), _problems(tagged)),
        ("evaluation settings", _settings(new), _settings(tagged)),
    ):
        if one != other:
            return [_cannot(f"the two models were evaluated with other {name}: evaluate both alike")]
    least = current.accuracy - rules.accuracy_drop
    checks = [
        PromotionCheck(
            "accuracy",
            candidate.accuracy,
            least,
            # Rounding of a difference must not refuse what is equal.
            candidate.accuracy >= least - 1e-9,
            f"accuracy {candidate.accuracy:.1%}, the tagged model has {current.accuracy:.1%}",
        )
    ]
    if rules.token_growth is not None:
        most = current.mean_tokens * (1 + rules.token_growth)
        reason = f"{candidate.mean_tokens:.0f} tokens on average, the tagged model has {current.mean_tokens:.0f}"
        checks.append(
            PromotionCheck("mean_tokens", candidate.mean_tokens, most, candidate.mean_tokens <= most + 1e-9, reason)
        )
    return checks


def _problems(record: StageRecord) -> Any:
    if record.key_format > 1:
        return record.upstream.get("data")
    data = record.inputs.get("data")
    return data.digest if data else None


def _settings(record: StageRecord) -> Any:
    """Of an evaluation they are its own; in a record of format 1 they stand beside those of the stage."""
    return record.config.get("own" if is_evaluation(record.stage) else "evaluation")


def _cannot(reason: str) -> PromotionCheck:
    return PromotionCheck("comparable", None, None, False, reason)
