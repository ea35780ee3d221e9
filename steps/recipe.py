"""The whole recipe as one typed configuration; every default stands here or in the section's own file.

A file in configs/ is checked against it before anything runs: unknown keys, wrong types and impossible combinations
are refused with the key's name.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from infra.cluster.config import ClusterConfig
from infra.configs import EngineConfig, HandoverConfig, TrainerConfig
from infra.environment import HOME
from infra.errors import LonghaulError
from infra.notify import NotifyConfig
from infra.scheduling.config import ScheduleConfig
from infra.tracking.tracker import TrackingConfig
from steps.configs.curation import CurationConfig
from steps.configs.custom_reward import JudgingConfig
from steps.configs.data import DataConfig
from steps.configs.evaluation import EvaluationConfig
from steps.configs.gates import GatesConfig
from steps.configs.import_checkpoint import ImportConfig
from steps.configs.long2short import Long2ShortConfig
from steps.configs.long_cot import LongCotConfig
from steps.configs.long_cot_paths import LongCotPathsConfig
from steps.configs.reward_models import RewardModelsConfig
from steps.configs.rl import RlConfig
from steps.configs.sft import SftConfig
from steps.recipe_text import UnreadableText, load_mapping

LARGEST = 2**53
"""The largest whole number of a recipe: JSON and floats hold all up to it."""

LARGEST_FILE = 200_000
"""Bytes of a recipe's file: reading YAML takes 20 seconds for each million."""


class ConfigRefused(LonghaulError, ValueError):
    """A configuration cannot be run; the message names the keys and what is wrong with each."""


class Recipe(BaseModel):
    """From a pretrained checkpoint to a reasoning model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, pattern=r"^[a-z0-9][a-z0-9_.-]*$", description="Names the recipe in reports.")
    seed: int = Field(0, ge=0, description="All randomness comes from it.")
    store: str = Field(
        default_factory=lambda: str(HOME / "store"),
        min_length=1,
        description="Where artifacts and records live: a folder or s3://bucket/prefix. Default: the folder `store` in "
        "LONGHAUL_HOME.",
    )
    reuse_across_environments: bool = Field(
        False,
        description="Reuse stages that were run in another numeric environment (processor, GPU, threads, variables of "
        "numeric libraries); the record says in what it differs. Otherwise they run again.",
    )
    data: DataConfig = Field(description="The data sets.")
    import_checkpoint: ImportConfig = Field(description="The checkpoint that training starts from.")
    engine: EngineConfig = Field(EngineConfig(), description="The rollout engine, vLLM.")
    trainer: TrainerConfig = Field(TrainerConfig(), description="The trainer, DeepSpeed.")
    handover: HandoverConfig = Field(HandoverConfig(), description="How weights go from the trainer to the engine.")
    vanilla_sft: SftConfig = Field(description="Vanilla SFT (§2.5.2).")
    curation: CurationConfig = Field(CurationConfig(), description="Curation of the RL prompt set (§2.1).")
    long_cot_paths: LongCotPathsConfig | None = Field(
        None,
        description="Long reasoning paths that a teacher writes (§2.2); without the section long-CoT SFT reads those "
        "of the data, with it those of the teacher alone.",
    )
    long_cot_sft: LongCotConfig = Field(description="Long-CoT SFT (§2.2).")
    reward_models: RewardModelsConfig | None = Field(
        None, description="Reward models for mathematics; without the section none is trained."
    )
    rl: RlConfig = Field(description="Reinforcement learning (§2.3, §2.6).")
    long2short: Long2ShortConfig = Field(description="The long2short methods (§2.4).")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="How models are evaluated.")
    judging: JudgingConfig = Field(JudgingConfig(), description="How responses are judged.")
    gates: GatesConfig = Field(GatesConfig(), description="The rules of the data gates.")
    tracking: TrackingConfig = Field(TrackingConfig(), description="Where metrics go besides the record.")
    schedule: ScheduleConfig | None = Field(
        None, description="When the recipe is run without anyone asking, by `longhaul schedule run` or by Argo."
    )
    notify: NotifyConfig | None = Field(
        None, description="Who is notified of a failure; without the section nobody is."
    )
    cluster: ClusterConfig | None = Field(
        None, description="What stages get on a cluster, where `longhaul deploy` brings the recipe."
    )

    @field_validator("store")
    @classmethod
    def _is_a_place(cls, store: str) -> str:
        if not store.strip():
            raise ValueError("it is blank: write a folder or s3://bucket/prefix, or leave the key out")
        return store

    @model_validator(mode="after")
    def _has_data_that_can_change(self) -> "Recipe":
        if self.schedule is not None and self.schedule.when == "data-changed" and self.data.sources is None:
            raise ValueError(
                "schedule.when is data-changed, and data.nano_world generates data, which never change: read "
                "data.sources, or leave `when` out"
            )
        return self

    @model_validator(mode="after")
    def _has_something_to_train_on(self) -> "Recipe":
        """The one place that says what long-CoT SFT trains on where data.sources has nothing for it. Vanilla SFT has
        the problems' solutions then, or samples."""
        if not self.data.has("long_cot") and self.long_cot_paths is None:
            raise ValueError(
                "data.sources.long_cot is not given, and long_cot_sft has nothing to train on: add "
                "`long_cot_paths: {}`, with which a teacher writes long reasoning paths, or name a source of "
                "them (rows with problem_id, prompt and response)"
            )
        if self.data.sources is not None and self.data.has("long_cot") and self.long_cot_paths is not None:
            raise ValueError(
                "data.sources.long_cot and long_cot_paths both name long reasoning paths, and long_cot_sft trains on "
                "one set: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _hands_over(self) -> "Recipe":
        self.handover.check(self.engine, self.trainer)
        return self

    @model_validator(mode="after")
    def _has_the_rewards_that_it_names(self) -> "Recipe":
        for key, section in (("rl", self.rl), ("long2short.rl", self.long2short.rl)):
            if section.reward != "rules" and self.reward_models is None:
                raise ValueError(
                    f"{key}.reward is {section.reward}, and there is no section reward_models to train it: add "
                    f"`reward_models: {{}}`, or set {key}.reward to rules"
                )
        if self.reward_models is not None and self.data.nano_world is None:
            raise ValueError(
                "reward_models learns from answers of data.nano_world, written in many forms, and data.sources has no "
                "such: leave the section out"
            )
        return self

    @model_validator(mode="after")
    def _fits_the_context(self) -> "Recipe":
        prompt = self.curation.max_prompt_tokens
        responses = {
            "curation.max_response_tokens": self.curation.max_response_tokens,
            "vanilla_sft.expansion.max_response_tokens": self.vanilla_sft.expansion.max_response_tokens,
            "rl.max_response_tokens": self.rl.max_response_tokens,
            "evaluation.max_response_tokens": self.evaluation.max_response_tokens,
            "long2short.rl.max_response_tokens": self.long2short.rl.max_response_tokens,
            "long2short.shortest.responses.max_response_tokens": self.long2short.shortest.responses.max_response_tokens,
            "long2short.dpo.responses.max_response_tokens": self.long2short.dpo.responses.max_response_tokens,
        }
        if self.long_cot_paths is not None and self.long_cot_paths.teacher.endpoint is None:
            responses["long_cot_paths.max_response_tokens"] = self.long_cot_paths.max_response_tokens
        if self.reward_models is not None:
            responses["reward_models.max_response_tokens"] = self.reward_models.max_response_tokens
        for key, tokens in responses.items():
            if prompt + tokens > self.engine.context:
                raise ValueError(
                    f"engine.context is {self.engine.context}, shorter than curation.max_prompt_tokens ({prompt}) plus "
                    f"{key} ({tokens}): raise engine.context or lower one of the two"
                )
        if self.reward_models is not None:
            self.reward_models.check(prompt, self.engine.context)
        short = self.long2short
        rows = {
            "rl": (self.rl.sequence_length, "rl"),
            "long2short.rl": (short.rl.sequence_length, "long2short.rl"),
            "long2short.dpo": (short.dpo.sequence_length, "long2short.dpo.responses"),
            "long2short.shortest.phase": (short.shortest.phase.sequence_length, "long2short.shortest.responses"),
        }
        if self.long_cot_paths is not None:
            responses["long_cot_paths.max_response_tokens"] = self.long_cot_paths.max_response_tokens
            rows["long_cot_sft.phase"] = (self.long_cot_sft.phase.sequence_length, "long_cot_paths")
        for key, (length, section) in rows.items():
            response = responses[f"{section}.max_response_tokens"]
            if prompt + response > length:
                raise ValueError(
                    f"{key}.sequence_length is {length}, shorter than curation.max_prompt_tokens ({prompt}) plus "
                    f"{section}.max_response_tokens ({response}): raise it"
                )
        if self.evaluation.context is not None and self.evaluation.context.lengths[-1] > self.engine.context:
            raise ValueError(
                f"evaluation.context.lengths has {self.evaluation.context.lengths[-1]}, longer than engine.context "
                f"({self.engine.context}): raise engine.context or leave the length out"
            )
        context = self.import_checkpoint.context_length
        if context is not None and context < self.engine.context:
            raise ValueError(
                f"engine.context is {self.engine.context}, longer than import_checkpoint.context_length ({context})"
            )
        return self


def parse_recipe(text: str, source: str) -> Recipe:
    """A recipe from YAML (or JSON) text. Raises ConfigRefused naming every bad key of `source`."""
    try:
        raw = load_mapping(text)
    except UnreadableText as error:
        raise ConfigRefused(f"{source} {error}") from error
    return check_recipe(raw, source)


def check_recipe(raw: dict[str, Any], source: str) -> Recipe:
    """A recipe from plain data. Raises ConfigRefused naming every bad key."""
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
            message = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                message = "unknown key; remove it or fix its spelling"
            lines.append(f"  {key}: {message}")
        raise ConfigRefused(f"{source} is refused:\n" + "\n".join(lines)) from error
    values = recipe.model_dump()
    if faults := [f"  {key}: {fault}" for key, fault in (*_unbounded(values), *_truth_values(raw, values))]:
        raise ConfigRefused(f"{source} is refused:\n" + "\n".join(faults))
    return recipe


def _truth_values(raw: Any, value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Truth values that were taken as the numbers 1 and 0, by key: YAML reads yes, no, on and off as such."""
    if isinstance(raw, dict) and isinstance(value, dict):
        for name in raw.keys() & value.keys():
            yield from _truth_values(raw[name], value[name], f"{key}.{name}".lstrip("."))
    elif isinstance(raw, list) and isinstance(value, list | tuple):
        for place, (one, other) in enumerate(zip(raw, value, strict=False)):
            yield from _truth_values(one, other, f"{key}.{place}")
    elif isinstance(raw, bool) and not isinstance(value, bool) and isinstance(value, int | float):
        yield key, f"expected a number, and {str(raw).lower()} (also written {'yes' if raw else 'no'}) is a truth value"


def _unbounded(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Numbers that a field's own limits let pass and with which nothing can be computed, by key."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _unbounded(each, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            yield from _unbounded(each, f"{key}.{place}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield key, f"{value} is not a finite number"
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield key, f"expected a whole number of at most {LARGEST}, and it has {value.bit_length()} bits"


def load_recipe(path: Path) -> Recipe:
    """A recipe from a file. Raises ConfigRefused."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device has no end
            raise ConfigRefused(f"{path} cannot be read: it is not a regular file")
        if path.stat().st_size > LARGEST_FILE:
            raise ConfigRefused(f"{path} is larger than {LARGEST_FILE:,} bytes, and a recipe has a few thousand")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigRefused(f"{path} cannot be read: {error}") from error
    return parse_recipe(text, str(path))
