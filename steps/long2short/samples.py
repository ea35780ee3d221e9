"""What shortest rejection sampling and DPO leave of the responses that they were trained on: one row each."""

from collections.abc import Iterator, Sequence

from infra.lineage.sample_row import Role, SampleRow
from steps.chat import Chat
from steps.long2short.dpo import Pair
from steps.long2short.responses import JudgedResponse, Responses


def response_row(
    chat: Chat, of: Responses, response: JudgedResponse, role: Role, passes: int, pair: int | None = None
) -> SampleRow:
    """The row of a response that the stage sampled."""
    return SampleRow(
        problem_id=of.problem.id,
        prompt_digest=of.problem.digest,
        prompt=of.problem.text,
        response=chat.text(response.tokens),
        tokens=len(response.tokens),
        role=role,
        outcome="trained",
        passes=passes,
        stop="end",
        reward=float(response.right),
        reward_reason=response.reason or None,
        verifier=response.verifier or None,
        pair=pair,
        source=of.problem.source,
        licence=of.problem.licence,
    )


def preference_rows(chat: Chat, pairs: Sequence[Pair], passes: int) -> Iterator[SampleRow]:
    """Two rows of each preference pair, in the order in which the pairs are trained on."""
    for number, pair in enumerate(pairs):
        yield response_row(chat, pair.responses, pair.better, "chosen", passes, number)
        yield response_row(chat, pair.responses, pair.worse, "rejected", passes, number)
