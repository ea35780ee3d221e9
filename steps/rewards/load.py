"""Reward models as they are stored: a Hugging Face checkpoint, and beside it what judging by it needs to know.

The version that scores carry ends in the beginning of the stored folder's digest, as the store names it.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializeAsAny, model_validator

from infra.configs import EngineConfig
from infra.files import write_text_atomically
from infra.inference.engine import Engine, ValueEngine
from infra.inference.isolated import IsolatedEngine
from infra.store.manifest import Manifest
from steps.chat import Chat
from steps.configs.judging import ClassicJudging, CotJudging
from steps.rewards import classic_rm, cot_rm
from steps.rewards.classic_rm import ClassicRm
from steps.rewards.cot_rm import CotRm
from steps.rewards.reward_model import Reader, RewardModel

FILE = "reward_model.json"

RewardModelName = Literal["classic_rm", "cot_rm"]

_JUDGING: dict[str, type[ClassicJudging] | type[CotJudging]] = {"classic_rm": ClassicJudging, "cot_rm": CotJudging}


class Settings(BaseModel):
    """What stands beside the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_answer_tokens: int
    model: SerializeAsAny[ClassicJudging | CotJudging]
    name: RewardModelName

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, raw: dict[str, Any]) -> dict[str, Any]:
        """What the model of this name judges with. How it was trained stands there too, and is not read."""
        if isinstance(raw.get("model"), dict) and raw.get("name") in _JUDGING:
            return raw | {"model": _JUDGING[raw["name"]].model_validate(raw["model"])}
        return raw


def keep_settings(folder: Path, settings: Settings) -> None:
    """Write the settings beside a saved checkpoint."""
    write_text_atomically(folder / FILE, settings.model_dump_json(indent=1) + "\n")


def open_reward_model(folder: Path, engine: EngineConfig) -> RewardModel:
    """A stored reward model, its engine in a process of its own. Raises ValueError for a folder that is none."""
    try:
        settings = Settings.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is not a reward model of the stage reward_models: {error}") from error
    digest = Manifest.of(folder).digest[:12]
    alone = engine.model_copy(update={"workers": 1})
    if isinstance(settings.model, ClassicJudging):
        reader = Reader(Chat(folder), settings.max_answer_tokens, engine.context)
        values = IsolatedEngine(ValueEngine, folder, alone)
        return ClassicRm(reader, f"{classic_rm.VERSION}:{digest}", values, settings.model.threshold)
    reader = Reader(Chat(folder), settings.max_answer_tokens, engine.context - settings.model.max_response_tokens)
    return CotRm(reader, f"{cot_rm.VERSION}:{digest}", IsolatedEngine(Engine, folder, alone), settings.model)
