"""What an estimate takes from the data, or assumes where nothing tells: each figure with where it comes from.

Data that can be read here are counted, and the lengths measured on the first rows. Everything else is an assumption,
listed as one, which the user may replace.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path

from infra.store.source import Source
from steps.configs.data_source import Role, SourceConfig
from steps.data_rows import mixed
from steps.nano_world.world import generate
from steps.problem import Example, MalformedRow, Problem
from steps.recipe import Recipe
from steps.source_rows import read_source

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


@dataclass(frozen=True)
class KnownFigures:
    """Figures, and where each comes from."""

    values: Figures
    sources: Mapping[str, str]
    """By name: what it was counted in, `given`, or `assumed`."""


def known_figures(recipe: Recipe, overrides: Mapping[str, float]) -> KnownFigures:
    """Everything an estimate needs to know beside the recipe; `overrides` go before what is counted or assumed.

    Raises ValueError for a figure that does not exist or is not a positive number, MalformedRow for data that cannot
    be read.
    """
    names = [field.name for field in fields(Figures)]
    for name, value in overrides.items():
        if name not in names:
            raise ValueError(f"there is no figure {name!r} to assume; there are {', '.join(names)}")
        if not 0 < value < 1e12 or (name.endswith("_share") and value > 1):
            raise ValueError(f"the figure {name} is {value}; expected a positive number, and of a share at most 1")
    values, sources = Figures(), dict.fromkeys(names, "assumed")
    if recipe.long_cot_sft.paths:
        values = replace(values, long_cot_paths=recipe.long_cot_sft.paths)
    counted = _nano(recipe) if recipe.data.nano_world is not None else _sources(recipe)
    for name, (value, source) in counted.items():
        values, sources[name] = replace(values, **{name: value}), source
    for name, value in overrides.items():
        values, sources[name] = replace(values, **{name: value}), "given"
    return KnownFigures(values, sources)


def _nano(recipe: Recipe) -> dict[str, tuple[float, str]]:
    assert recipe.data.nano_world is not None
    world, count = generate(recipe.data.nano_world, recipe.seed), _Counter(recipe)
    counted = {
        "train_problems": float(len(world.train)),
        "test_problems": float(len(world.test)),
        "sft_examples": float(len(world.sft)),
        "long_cot_paths": float(len(world.long_cot)),
        "prompt_tokens": count.prompts(problem.text for problem in world.train),
        "sft_tokens": count.responses(example.response for example in world.sft),
        "long_cot_tokens": count.responses(example.response for example in world.long_cot),
    }
    return {name: (value, "the nano world") for name, value in counted.items()}


def _sources(recipe: Recipe) -> dict[str, tuple[float, str]]:
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
        heads = [_head(path, one, role) for path, one in zip(paths, sources.of(role), strict=True)]
        names = ", ".join(path.name for path in paths)
        counted[number] = float(sum(mixed(sources.of(role), [rows for rows, _ in heads]))), names
        first = [row for _, rows in heads for row in rows]
        if length and first:
            counted[length] = count.mean(first), names
    return counted


def _head(path: Path, config: SourceConfig, role: Role) -> tuple[int, list[Problem | Example]]:
    """How many rows a source has, and the first of them. Raises MalformedRow."""
    rows, first = 0, list[Problem | Example]()
    for _, row in islice(read_source(Source(path, str(path)), config, role), config.limit):
        rows += 1
        if isinstance(row, MalformedRow) and not config.skip_refused:
            raise row
        if rows <= _MEASURED and not isinstance(row, MalformedRow):
            first.append(row)
    return rows, first


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
