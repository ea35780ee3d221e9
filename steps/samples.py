"""What supervised stages record of their examples, to answer later what a model was trained on.

What is kept of responses to choose from is in `steps.long2short.samples`, of rollouts in `steps.rl.samples`: apart, so
that a stage's key depends on no other's code.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path

from infra.images import stored_digest
from infra.lineage.sample_files import write_samples
from infra.lineage.sample_row import KIND, SampleRow
from steps.chat import Chat
from steps.problem import Example, digest_of, images_of
from steps.rewards.score import Score


def keep_samples(folder: Path, rows: Iterable[SampleRow]) -> tuple[str, Path]:
    """Write rows below a stage's folder. Returns kind and folder of the output."""
    write_samples(folder / "samples" / "samples.parquet", rows)
    return KIND, folder / "samples"


def example_rows(
    chat: Chat, examples: Sequence[Example], times_trained: int, scores: Sequence[Score] | None = None
) -> Iterator[SampleRow]:
    """Rows of the examples of a stage; `scores` is what the verifiers said of them, where they were asked."""
    for example, score in zip(examples, scores or repeat(None, len(examples)), strict=True):
        yield SampleRow(
            problem_id=example.problem_id,
            prompt_digest=digest_of(example.prompt),
            prompt=example.text,
            response=example.response,
            tokens=len(chat.encode_response(example.response)) + 1,  # the end token
            role="imitated",
            outcome="trained",
            times_trained=times_trained,
            reward=score.value if score else None,
            reward_reason=score.reason if score else None,
            verifier=score.verifier if score else None,
            source=example.source,
            licence=example.licence,
            images=[digest for address in images_of(example.prompt) if (digest := stored_digest(address))],
        )
