"""The row of a response that shortest rejection sampling or DPO was trained on."""

from infra.lineage.sample_row import Role, SampleRow
from steps.chat import Chat
from steps.long2short.responses import JudgedResponse, Responses


def response_row(
    chat: Chat, of: Responses, response: JudgedResponse, role: Role, times_trained: int, pair: int | None = None
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
        times_trained=times_trained,
        stop="end",
        reward=float(response.right),
        reward_reason=response.reason or None,
        verifier=response.verifier or None,
        pair=pair,
        source=of.problem.source,
        licence=of.problem.licence,
        images=of.prompt.images,
    )
