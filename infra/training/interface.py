"""What a trainer takes and what it gives: rows, losses, and results of optimizer steps. Types without behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from infra.training.attention import Lengths

Head = Literal["next_token", "value"]
"""What a model ends in: a distribution over the next token, or one number for the whole row, as reward models have."""

PADDING = 0
"""The token that rows are filled up with."""


class LossNotFinite(RuntimeError):
    """A loss or a gradient became NaN or infinite; no optimizer step was taken from it."""


@dataclass(frozen=True)
class LossValue:
    """What a loss makes of one micro-batch."""

    loss: Float[Tensor, ""]
    """Scalar with a gradient: the micro-batch's share of the optimizer step's loss."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """What is worth watching, without a gradient; added up over the micro-batches of the step."""


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step reports."""

    loss: float
    """Sum of the micro-batches' losses."""
    gradient_norm: float
    """Before clipping."""
    sums: dict[str, Tensor]
    """The micro-batches' sums, added up."""


@runtime_checkable
class Rows(Protocol):
    """A micro-batch: tokens, positions, the lengths of the examples, images, and whatever else the loss needs."""

    @property
    def tokens(self) -> Int[Tensor, "rows length"]: ...

    @property
    def positions(self) -> Int[Tensor, "rows length"]: ...

    @property
    def example_lengths(self) -> Lengths: ...

    @property
    def images(self) -> Sequence[Path]: ...


RowsT = TypeVar("RowsT", bound=Rows)
