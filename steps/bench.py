"""What the benches of the stages have in common: one model's tokenizer, a scorer, seeds, and where metrics go.

`steps.sampling_bench` adds an engine, `steps.training_bench` a trainer, `steps.workbench` both: a stage takes the one
whose parts it uses, and has the code of those parts alone in its key.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from infra.vision.folders import ImageFolders
from steps.chat import Chat
from steps.rewards.scorer import Scorer
from steps.token_prompt import TokenPrompt


class _Closes(Protocol):
    def close(self) -> None: ...


PartT = TypeVar("PartT", bound=_Closes)


class Part(Generic[PartT]):
    """A part of the bench: handed in ready, or opened when it is first used and then the bench's to close."""

    def __init__(self, part: PartT | Callable[[], PartT]) -> None:
        self._open: Callable[[], PartT] | None = part if callable(part) else None
        self._part: PartT | None = None if callable(part) else part

    @property
    def started(self) -> bool:
        """Whether it is there already."""
        return self._part is not None

    def get(self) -> PartT:
        """The part, opened now if it was not."""
        if self._part is None:
            assert self._open is not None
            self._part = self._open()
        return self._part

    def close(self) -> None:
        """Close it, if it was opened here."""
        if self._open is not None and self._part is not None:
            self._part.close()


class Bench:
    """Built around one model folder.

    A part that is handed in ready stays its owner's to close. A part that a function opens starts when it is first
    used, and ends with the `with` block.
    """

    def __init__(
        self,
        model: Path,
        *,
        seed: int,
        scorer: Scorer | Callable[[], Scorer] = Scorer,
        log: Callable[[dict[str, Any]], None] = lambda metrics: None,
        chat: Chat | None = None,
        images: ImageFolders | None = None,
    ) -> None:
        """`chat` is read from the model's folder by default, with `images`: where those of prompts lie."""
        self.model = model
        self.seed = seed
        self.log = log
        self._scorer: Part[Scorer] = Part(scorer)
        self._chat = chat
        self._images = images

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what was opened."""
        self._scorer.close()

    @cached_property
    def chat(self) -> Chat:
        """Tokenizer and chat format."""
        return self._chat or Chat(self.model, self._images)

    def image_paths(self, prompt: TokenPrompt) -> tuple[Path, ...]:
        """Where the images of a prompt lie, in order. Raises UnreadableImage for one that is missing."""
        return self.chat.paths(prompt) if prompt.images else ()

    @property
    def scorer(self) -> Scorer:
        """Judges responses."""
        return self._scorer.get()

    def random(self, purpose: str) -> Random:
        """A random generator of its own for each purpose, from the run's seed."""
        return Random(f"{self.seed} {purpose}")
