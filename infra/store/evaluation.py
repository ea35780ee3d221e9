"""How a model did on the held-out problems, as a stage's record holds it. A type without behaviour."""

from pydantic import AliasChoices, BaseModel, ConfigDict, Field


class DomainResult(BaseModel):
    """One domain's share of an evaluation."""

    problems: int
    accuracy: float
    """Share of right responses, from 0 to 1, averaged over problems."""
    mean_tokens: float


class EvaluatedResponse(BaseModel):
    """One response to be read."""

    problem_id: str
    domain: str
    prompt: str
    response: str
    reward: float
    reason: str
    tokens: int
    images: list[str] = []
    """Digests of the prompt's images, in order (infra/images.py)."""


class LimitResult(BaseModel):
    """What is left of an evaluation's accuracy where fewer tokens are allowed for a response."""

    tokens: int
    accuracy: float
    """Of the same responses, those of more tokens counted as wrong: an answer stands at a response's end."""


class TwinResult(BaseModel):
    """Problems that are asked twice: in text, and drawn as an image."""

    pairs: int
    text_accuracy: float
    image_accuracy: float

    @property
    def gap(self) -> float:
        """The consistency gap: what is lost by reading the same from an image."""
        return self.text_accuracy - self.image_accuracy


class LengthResult(BaseModel):
    """Tasks in texts of one length."""

    tokens: int
    """Of prompt and longest response together."""
    tasks: int
    accuracy: float
    """Share of what the tasks ask for that the answers hold, from 0 to 1."""
    kinds: dict[str, float]
    """The same by kind of task."""


class ContextResult(BaseModel):
    """How much of its context a model uses (RULER, arXiv 2404.06654)."""

    lengths: list[LengthResult]
    threshold: float
    effective_length: int
    """The largest length up to which the accuracy reaches the threshold at every length; 0 where it never does."""


class BenchmarkResult(BaseModel):
    """How a model did on a public benchmark. Shares are from 0 to 1, over problems."""

    title: str
    problems: int
    samples: int
    """Responses for each problem."""
    accuracy: float
    """avg@n: the share of right responses."""
    standard_error: float
    """Of the accuracy; the responses to one problem are one cluster."""
    low: float
    """The 95 % interval of the accuracy, by problems."""
    high: float
    pass_at: dict[int, float] = {}
    """pass@k by k, unbiased."""
    majority_at: dict[int, float] = {}
    """maj@k by k; empty where answers cannot be compared, as of programs."""
    mean_tokens: float
    cut_off: float = 0.0
    """The share of responses that were as long as is allowed."""
    max_response_tokens: int
    """That a response had, by the settings and the engine's context."""
    temperature: float
    answer_reading: str
    address: str
    """Where the rows were read."""
    rows_digest: str
    """SHA-256 of prompts and answers."""
    as_published: bool | None = None
    """Whether the rows are those that the definition knows; None where it knows nothing of them."""
    licence: str = "unknown"
    citation: str = ""


class Evaluation(BaseModel):
    """How a model did on the held-out problems."""

    model_config = ConfigDict(serialize_by_alias=False)

    problems: int
    samples: int
    """Responses for each problem."""
    accuracy: float
    """Share of right responses (pass@1), from 0 to 1, averaged over problems."""
    standard_error: float
    """Of the accuracy, over problems."""
    mean_tokens: float
    median_tokens: float
    p99_tokens: float
    answer_reading: str = "boxed"
    """How answers to mathematics were read (steps/answer_reading.py)."""
    domains: dict[str, DomainResult] = {}
    modalities: dict[str, DomainResult] = {}
    """`text` and `image`, where some problems have images; empty otherwise."""
    twins: TwinResult | None = None
    """Where there are some."""
    benchmarks: dict[str, BenchmarkResult] = {}
    """By name."""
    examples: list[EvaluatedResponse] = Field([], validation_alias=AliasChoices("examples", "shown"))
    """Some responses to be read. Records of format 1 call them `shown`."""

    limits: list[LimitResult] = []
    """Accuracy by the tokens allowed for a response (Fig. 6 of the report), rising."""
    context: ContextResult | None = None
    """Tasks in long texts, where the recipe names them."""

    @property
    def headline(self) -> str:
        """Accuracy and length in a line."""
        reading = "" if self.answer_reading == "boxed" else f" by {self.answer_reading.replace('_', ' ')}"
        used = f", effective context {self.context.effective_length:,}" if self.context else ""
        images = self.modalities.get("image")
        seen = f" ({images.accuracy:.1%} of those with images)" if images else ""
        return f"accuracy {self.accuracy:.1%}{reading}{seen}, {self.mean_tokens:.0f} tokens on average{used}"
