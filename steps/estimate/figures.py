"""What an estimate takes from the data, or assumes where nothing tells: each figure with where it comes from.

Data that can be read here are counted, and the lengths measured on the first rows. Everything else is an assumption,
listed as one, which the user may replace.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from infra.estimate.vision import VisionShape
from infra.store.source import Source
from steps.configs.data_source import Role, SourceConfig
from steps.data_rows import mixed
from steps.nano_world.world import generate
from steps.problem import Example, MalformedRow, Problem
from steps.recipe import Recipe
from steps.row_images import RowImages
from steps.source_rows import read_source

if TYPE_CHECKING:
    from PIL.Image import Image

_MEASURED = 200
"""Rows whose lengths are measured."""

_CHARACTERS = 4.0
"""Of English text in a token of a large vocabulary; used where the tokenizer is not on this machine."""

_AROUND = 30
"""Tokens of a chat format around a prompt, a system prompt among them; used likewise."""


@dataclass(frozen=True)
class Figures:
    """What the data and the models' behaviour come to. Lengths are means, in tokens."""

    train_problems: float = 7473
    """GSM8K's."""
    test_problems: float = 1319
    """GSM8K's."""
    sft_examples: float = 20_000
    long_cot_paths: float = 1000
    prompt_tokens: float = 120
    """With the chat format."""
    sft_tokens: float = 250
    """Of an SFT example's response; a model after vanilla SFT answers as long."""
    long_cot_tokens: float = 1500
    """Of a long path's response."""
    response_share: float = 0.25
    """A long-CoT model's mean response, as a share of the longest that a stage allows: 0.22 to 0.28 in nano runs."""
    length_spread: float = 0.6
    """σ of the lengths' logarithm; half of its variance is between problems."""
    signal_share: float = 0.75
    """Groups that are trained on, of those that are done: 0.72 and 0.78 in a nano run."""
    image_share: float = 0.0
    """Of prompts, those with images. Assumed for a model that reads them: half, as in the report's SFT (§2.5.2)."""
    image_tokens: float = 0.0
    """Of a prompt with images, what the model reads of them. Assumed: 400, an image of 560 × 560 pixels in Qwen2.5-VL,
    where a token stands for 28 × 28."""


@dataclass(frozen=True)
class KnownFigures:
    """Figures, and where each comes from."""

    values: Figures
    sources: Mapping[str, str]
    """By name: what it was counted in, `given`, or `assumed`."""


_OF_IMAGES = {"image_share": 0.5, "image_tokens": 400.0}
"""Figures that a model of text alone has none of, and what is assumed."""


def known_figures(recipe: Recipe, overrides: Mapping[str, float], vision: VisionShape | None = None) -> KnownFigures:
    """Everything an estimate needs to know beside the recipe; `overrides` go before what is counted or assumed.

    Args:
        vision: the model's vision tower; None: it reads text alone.

    Raises ValueError for a figure that does not exist or is not a positive number, MalformedRow for data that cannot
    be read.
    """
    names = [field.name for field in fields(Figures) if vision is not None or field.name not in _OF_IMAGES]
    for name, value in overrides.items():
        if name not in names:
            raise ValueError(f"there is no figure {name!r} to assume; there are {', '.join(names)}")
        if not 0 < value < 1e12 or (name.endswith("_share") and value > 1):
            raise ValueError(f"the figure {name} is {value}; expected a positive number, and of a share at most 1")
    values, sources = Figures(), dict.fromkeys(names, "assumed")
    if vision is not None:
        values = replace(values, **_OF_IMAGES)
    if recipe.long_cot_sft.paths:
        values = replace(values, long_cot_paths=recipe.long_cot_sft.paths)
    sizes = _ImageSizes(vision)
    counted = _nano(recipe, sizes) if recipe.data.nano_world is not None else _sources(recipe, sizes)
    for name, (value, source) in counted.items():
        if name not in names:
            continue
        values, sources[name] = replace(values, **{name: value}), source
    for name, value in overrides.items():
        values, sources[name] = replace(values, **{name: value}), "given"
    return KnownFigures(values, sources)


class _ImageSizes(RowImages):
    """Measures the images of the first prompts, and reads no others."""

    def __init__(self, vision: VisionShape | None) -> None:
        super().__init__()
        self._unit = vision.unit if vision else 1
        self._tokens: list[float] = []
        self._measured = 0

    def keep(self, image: "Image") -> str:
        """The address of an image, which is measured."""
        # The processor brings sides to whole tokens; its limits of pixels are not known here.
        self._tokens.append(max(1, round(image.width / self._unit)) * max(1, round(image.height / self._unit)))
        return super().keep(image)

    def read(self, row: Problem | Example, files: Path | None) -> Problem | Example:
        """The row as it is."""
        # Files that are not on this machine are for the data stage.
        there = files is not None or all(address.startswith("data:") for address in row.images)
        if row.images and there and self._measured < _MEASURED:
            self._measured += 1
            super().read(row, files)
        return row

    def figures(self, prompts: Sequence[Problem], source: str) -> dict[str, tuple[float, str]]:
        """Share of prompts with images, and the mean tokens of the images of one; nothing where there are none."""
        counts = [len(one.images) for one in prompts if one.images]
        if not counts or not self._tokens:
            return {}
        tokens = statistics.fmean(self._tokens) * statistics.fmean(counts)
        return {"image_share": (len(counts) / len(prompts), source), "image_tokens": (tokens, source)}


def _nano(recipe: Recipe, sizes: _ImageSizes) -> dict[str, tuple[float, str]]:
    assert recipe.data.nano_world is not None
    world, count = generate(recipe.data.nano_world, recipe.seed, sizes), _Counter(recipe)
    counted = {
        "train_problems": float(len(world.train)),
        "test_problems": float(len(world.test)),
        "sft_examples": float(len(world.sft)),
        "long_cot_paths": float(len(world.long_cot)),
        "prompt_tokens": count.prompts(problem.text for problem in world.train),
        "sft_tokens": count.responses(example.response for example in world.sft),
        "long_cot_tokens": count.responses(example.response for example in world.long_cot),
    }
    known = {name: (value, "the nano world") for name, value in counted.items()}
    return known | sizes.figures(world.train, "the nano world")


def _sources(recipe: Recipe, sizes: _ImageSizes) -> dict[str, tuple[float, str]]:
    sources = recipe.data.sources
    assert sources is not None
    count = _Counter(recipe)
    counted: dict[str, tuple[float, str]] = {}
    figures: Mapping[Role, tuple[str, str | None]] = {
        "train": ("train_problems", "prompt_tokens"),
        "test": ("test_problems", None),
        "sft": ("sft_examples", "sft_tokens"),
        "long_cot": ("long_cot_paths", "long_cot_tokens"),
    }
    for role, (number, length) in figures.items():
        paths = [Path(one.path or "") for one in sources.of(role)]
        if not paths or not all(path.is_file() for path in paths):
            continue
        heads = [_head(path, one, role, sizes) for path, one in zip(paths, sources.of(role), strict=True)]
        names = ", ".join(path.name for path in paths)
        counted[number] = float(sum(mixed(sources.of(role), [rows for rows, _ in heads]))), names
        first = [row for _, rows in heads for row in rows]
        if length and first:
            counted[length] = count.mean(first), names
        if role == "train":
            counted |= sizes.figures([row for row in first if isinstance(row, Problem)], names)
    return counted


def _head(path: Path, config: SourceConfig, role: Role, sizes: _ImageSizes) -> tuple[int, list[Problem | Example]]:
    """How many rows a source has, and the first of them. Raises MalformedRow."""
    rows, first = 0, list[Problem | Example]()
    for _, row in islice(read_source(Source(path, str(path)), config, role, sizes, _folder(config)), config.limit):
        rows += 1
        if isinstance(row, MalformedRow) and not config.skip_refused:
            raise row
        if rows <= _MEASURED and not isinstance(row, MalformedRow):
            first.append(row)
    return rows, first


def _folder(config: SourceConfig) -> Path | None:
    """Where the image files of a source lie, if that is a folder here."""
    folder = Path(config.images).expanduser() if config.images else None
    return folder if folder is not None and folder.is_dir() else None


class _Counter:
    """Counts tokens by the checkpoint's tokenizer, where that is a folder here; else by characters."""

    def __init__(self, recipe: Recipe) -> None:
        folder = Path(recipe.import_checkpoint.checkpoint).expanduser()
        self._chat = None
        if folder.is_dir():
            from steps.chat import Chat

            self._chat = Chat(folder)

    def mean(self, rows: Sequence[Problem | Example]) -> float:
        """Mean tokens of problems' prompts, or of examples' responses."""
        if problems := [row.text for row in rows if isinstance(row, Problem)]:
            return self.prompts(problems)
        return self.responses(row.response for row in rows if isinstance(row, Example))

    def prompts(self, texts: Iterable[str]) -> float:
        """Mean tokens of prompts in the chat format."""
        chat = self._chat
        return _mean(len(chat.prompt(text)) if chat else len(text) / _CHARACTERS + _AROUND for text in texts)

    def responses(self, texts: Iterable[str]) -> float:
        """Mean tokens of responses, the end token among them."""
        chat = self._chat
        return _mean((len(chat.encode(text)) if chat else len(text) / _CHARACTERS) + 1 for text in texts)


def _mean(lengths: Iterator[float]) -> float:
    return statistics.fmean(islice(lengths, _MEASURED))
