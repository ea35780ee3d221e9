"""Settings of the data stage: where problems and examples come from, the nano world or data sets of one's own."""

from collections import Counter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from infra.images import LARGEST, ImageLimits
from steps.configs.data_source import EXAMPLES, ROLES, Role, SourceConfig

LongKind = Literal["facts", "assignments", "steps", "long search"]
"""Kinds of long problem (steps/nano_world/long.py)."""


class LongConfig(BaseModel):
    """How much of the nano world's long problems to generate, and how long they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_problems: int = Field(120, ge=3, description="Long problems offered to curation.")
    test_problems: int = Field(30, ge=3, description="Held-out long problems for evaluation.")
    sft_examples: int = Field(240, ge=3, description="Examples of vanilla SFT.")
    long_cot_paths: int = Field(240, ge=3, description="Reasoning paths for long-CoT SFT to choose from.")
    lengths: tuple[int, ...] = Field(
        (512, 1024, 2048), min_length=1, description="Tokens of the problems' texts, each in turn."
    )
    kinds: tuple[LongKind, ...] = Field(
        ("facts", "assignments", "steps", "long search"), min_length=1, description="Kinds of problem, each in turn."
    )
    path_tokens: int = Field(1024, ge=64, description="Most tokens of a path, which limits what a problem asks for.")

    @field_validator("lengths")
    @classmethod
    def _long_enough(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        for length in lengths:
            if length < SHORTEST_LONG:
                raise ValueError(f"{length} tokens are too few for a long problem: give at least {SHORTEST_LONG}")
        return lengths


SHORTEST_LONG = 64


PictureKind = Literal["count", "compare", "position", "chart", "geometry"]
"""Kinds of problem about a picture (steps/nano_world/pictures.py)."""


class VisionConfig(BaseModel):
    """How many of the nano world's problems with an image to generate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_problems: int = Field(240, ge=4, description="Problems with an image offered to curation.")
    test_problems: int = Field(60, ge=4, description="Held-out problems with an image for evaluation.")
    sft_examples: int = Field(600, ge=4, description="Examples of vanilla SFT.")
    long_cot_paths: int = Field(400, ge=4, description="Reasoning paths for long-CoT SFT to choose from.")
    drawn_text_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of each that is a text problem of the same set drawn as an image; the text problem is its "
        "twin. The rest are problems about pictures.",
    )
    kinds: tuple[PictureKind, ...] = Field(
        ("count", "compare", "position", "chart", "geometry"),
        min_length=1,
        description="Kinds of problem about a picture, each in turn.",
    )

    def drawn(self, count: int) -> int:
        """How many of so many are drawn text."""
        return round(self.drawn_text_share * count)


class NanoWorldConfig(BaseModel):
    """How much of the nano world to generate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_problems: int = Field(1200, ge=8, description="Problems offered to curation, a sixth of them unsuitable.")
    test_problems: int = Field(150, ge=6, description="Held-out problems for evaluation.")
    sft_examples: int = Field(3000, ge=8, description="Examples of vanilla SFT.")
    long_cot_paths: int = Field(1000, ge=4, description="Long reasoning paths for long-CoT SFT to choose from.")
    long: LongConfig | None = Field(
        None, description="Long problems in addition to the numbers above; without the section there are none."
    )
    vision: VisionConfig | None = Field(
        None,
        description="Problems with an image in addition to the numbers above; without the section there are none.",
        exclude_if=lambda value: value is None,
    )

    @model_validator(mode="after")
    def _has_texts_to_draw(self) -> "NanoWorldConfig":
        for name, texts in (
            ("train_problems", self.train_problems - self.train_problems // 6),
            ("test_problems", self.test_problems),
            ("sft_examples", self.sft_examples - self.sft_examples // 4),
        ):
            if self.vision is not None and (drawn := self.vision.drawn(getattr(self.vision, name))) > texts:
                raise ValueError(
                    f"vision.{name}: {drawn} drawn texts need as many text problems to draw, and nano_world.{name} "
                    f"has {texts}: raise that, or lower vision.drawn_text_share"
                )
        return self


Sources = tuple[SourceConfig, ...]


class SourcesConfig(BaseModel):
    """By role, any number of sources, whose rows are put together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: Sources = Field(min_length=1, description="Problems offered to curation.")
    test: Sources = Field(min_length=1, description="Held-out problems for evaluation.")
    sft: Sources = Field(
        (),
        description="Examples of vanilla SFT. Without them, the solutions that problems of `train` have; without "
        "those, right answers of the imported model (vanilla_sft.expansion).",
    )
    long_cot: Sources = Field(
        (),
        description="Long reasoning paths to problems of `train`; without them a teacher (long_cot_paths) writes some.",
    )

    @model_validator(mode="after")
    def _work_together(self) -> "SourcesConfig":
        for role in ROLES:
            for source in self.of(role):
                source.check(role)
            weights = [source.weight for source in self.of(role)]
            if None in weights and any(weights):
                raise ValueError(f"{role}: one source has no weight, and another one has: give one to each, or to none")
            names = Counter(source.name for source in self.of(role))
            if repeated := [name for name, count in names.items() if count > 1]:
                raise ValueError(f"{role}: two sources are named {repeated[0]!r}: give one of them another `name`")
        problems = {source.name: source for source in self.train}
        for role in EXAMPLES:
            for source in self.of(role):
                other = problems.get(source.name)
                if other is not None and source.numbers_examples and source.place != other.place:
                    raise ValueError(
                        f"{role}: its source {source.name!r} has the name of one of train, so that its rows would be "
                        "taken for examples of those problems: give it another `name`"
                    )
        return self

    def of(self, role: Role) -> Sources:
        """The sources of one role."""
        sources: Sources = getattr(self, role)
        return sources

    def weighted(self, role: Role) -> bool:
        """Whether the role's rows are a mixture, drawn at random."""
        return any(source.weight for source in self.of(role))

    def by_key(self) -> dict[str, SourceConfig]:
        """All sources, by the recipe's keys: data.sources.train.0."""
        return {source_key(role, place): one for role in ROLES for place, one in enumerate(self.of(role))}


def source_key(role: Role, place: int) -> str:
    """The recipe's key of the source at this place of a role, from 0."""
    return f"data.sources.{role}.{place}"


def images_key(source: str) -> str:
    """The recipe's key of the folder with a source's image files."""
    return f"{source}.images"


class ImagesConfig(BaseModel):
    """How large an image may be; a larger one is refused with its row. Formats: PNG, JPEG, WebP, GIF and BMP."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_bytes: int = Field(20_000_000, ge=1, le=LARGEST.max_bytes, description="Bytes of the file.")
    max_pixels: int = Field(50_000_000, ge=1, le=LARGEST.max_pixels, description="Pixels, before it is decoded.")
    max_side: int = Field(20_000, ge=1, le=LARGEST.max_side, description="Pixels of the longer side.")

    @property
    def limits(self) -> ImageLimits:
        """As images are read by."""
        return ImageLimits(self.max_bytes, self.max_pixels, self.max_side)


class DataConfig(BaseModel):
    """The source of all data sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nano_world: NanoWorldConfig | None = Field(None, description="Generate the nano world.")
    sources: SourcesConfig | None = Field(None, description="Read data sets.")
    images: ImagesConfig = Field(
        ImagesConfig(),
        description="Limits of the rows' images.",
        # What a recipe of text says, and its key, is as without images.
        exclude_if=lambda value: value == ImagesConfig(),
    )
    instructions: dict[str, str] = Field(
        {},
        description="By domain of a problem, or by verifier (math, code, custom) for the other domains, what is added "
        "to each problem's prompt, and to the prompts of its examples: how the answer is to be given. A model that was "
        "not trained on it writes no \\boxed{} unless the prompt says so.",
    )
    system_prompts: dict[str, str] = Field(
        {},
        description="By the same names, the system turn of problems and examples that have none of their own.",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_no_files(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "files" in raw:
            raise ValueError(
                "data.files was replaced by data.sources, in which each role has a list: "
                "`sources: {train: [{path: train.jsonl, format: gsm8k}], test: [...], sft: [...], long_cot: [...]}`"
            )
        return raw

    @model_validator(mode="after")
    def _one_origin(self) -> "DataConfig":
        if (self.nano_world is None) == (self.sources is None):
            raise ValueError("give exactly one of nano_world and sources")
        return self

    @property
    def draws(self) -> bool:
        """Whether anything is drawn at random."""
        return self.sources is None or any(self.sources.weighted(role) for role in ROLES)

    def has(self, role: Role) -> bool:
        """Whether there are rows of this role."""
        return self.sources is None or bool(self.sources.of(role))
