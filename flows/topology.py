"""The stages of the chain: how they follow one another, and what of the recipe and of their inputs each uses.

Everything that a stage's key is made of can be read here without importing a stage, so that a plan and the run
that follows it decide the same.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flows.stage_sources import CUSTOM_FILE, OUTSIDE, sources_of
from infra.gates.suites import Suite
from infra.inference.endpoint_config import OPERATIONAL as ENDPOINT_OPERATIONAL
from infra.stages.contract import Body, Check
from infra.store.evaluation_stages import EVALUATE, evaluated_stage, evaluation_stage, is_evaluation
from infra.store.sources import ResolvedSource
from steps.configs.evaluation import EvaluationConfig
from steps.configs.gates import MADE
from steps.recipe import Recipe
from steps.stages.settings import GenerateSettings, Settings, SupervisedSettings, TrainSettings


@dataclass(frozen=True)
class Input:
    """What a stage reads of another."""

    stage: str
    output: str = "model"
    files: tuple[str, ...] = ()
    """Those of the output's files that the stage reads, folders ending in `/`; all of them where none is named."""


Inputs = dict[str, Input]


def data(*files: str) -> Inputs:
    """The input `data` with these files, and the images that they name."""
    return {"data": Input("data", "data", (*files, "images/"))}


PROMPTS: Inputs = {"prompts": Input("curation", "prompts")}
HELD_OUT = data("test.jsonl")
"""What gates compare training data with."""


def model_of(stage: str) -> Inputs:
    """The input `model`: the one that a stage made."""
    return {"model": Input(stage)}


def questions_for_paths(recipe: Recipe) -> Inputs:
    """What a teacher is asked, and the model that the paths are for: where that is not the teacher itself, as it was
    imported, so that another one is not asked again for whatever is trained."""
    assert recipe.long_cot_paths is not None
    if recipe.long_cot_paths.teacher.kind == "model":
        return {**model_of("vanilla_sft"), **PROMPTS}
    return {**model_of("import"), **data("train.jsonl")}


def long_paths(recipe: Recipe) -> Inputs:
    """Where long-CoT SFT reads its paths: from a teacher, or from the data."""
    if recipe.long_cot_paths is None:
        return data("long_cot.jsonl")
    return {"paths": Input("long_cot_paths", "paths")}


def judge(reward: str) -> Inputs:
    """The reward model that RL with this `reward` depends on."""
    return {} if reward == "rules" else {reward: Input("reward_models", reward)}


@dataclass(frozen=True)
class StageSpec:
    """A stage as it stands in the chain."""

    name: str
    section: str
    """Its own section of the recipe, by its key."""
    body: str
    """MODULE:FUNCTION of its body, imported only when it is run."""
    settings_type: type[Settings[Any]]
    inputs: Callable[[Recipe], Inputs]
    """What the body reads, by name."""
    check: str | None = None
    """The function of steps/gates/inputs.py that checks what the stage reads."""
    checked: Inputs = field(default_factory=dict)
    """What that function reads besides."""
    uses_seed: Callable[[Recipe], bool] = lambda recipe: True
    unused: Callable[[Recipe], set[str]] = lambda recipe: set()
    """Settings that the stage does not use as the recipe has it."""
    enabled: Callable[[Recipe], bool] = lambda recipe: True
    """Whether the recipe has this stage."""

    @property
    def module(self) -> str:
        """The module of the body."""
        return self.body.partition(":")[0]

    def load(self) -> Body:
        """The body."""
        body: Body = getattr(importlib.import_module(self.module), self.body.partition(":")[2])
        return body

    def load_check(self) -> Check:
        """The gates on what the stage reads."""
        assert self.check is not None
        check: Check = getattr(importlib.import_module(CHECKS), self.check)
        return check

    def suite(self, recipe: Recipe) -> Suite:
        """The rules of its gates. All evaluations have the same."""
        kind = self.name.partition("/")[0] if self.name.startswith(f"{EVALUATE}/") else self.name
        return recipe.gates.suite(kind) if self.check else Suite({})

    def settings(self, recipe: Recipe) -> Settings[Any]:
        """What the body is given."""
        own: Any = recipe
        for key in self.section.split("."):
            own = getattr(own, key)
        if isinstance(own, EvaluationConfig):
            own = own.for_stage(evaluated_stage(self.name))
        shared = {
            "engine": recipe.engine,
            "trainer": recipe.trainer,
            "handover": recipe.handover,
            "judging": recipe.judging,
        }
        fields = self.settings_type.__dataclass_fields__
        chosen = {name: section for name, section in shared.items() if name in fields}
        return self.settings_type(own=own, gates=self.suite(recipe), **chosen)

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        """Those settings that can change what the stage makes, as plain data.

        Of its gates only the rules on tables that it makes itself, without their wording: the others are checked by
        themselves where they change. What names data outside the store counts by what it names.
        """
        settings = self.settings(recipe)
        unused = self.unused(recipe) | (set() if self.judges_with_a_function(recipe) else {"judging"})
        plain = {
            name: section.model_dump(mode="json")
            for name in self.settings_type.__dataclass_fields__
            if name not in unused and isinstance(section := getattr(settings, name), BaseModel) and name != "gates"
        }
        if "judging" in plain:
            _drop(plain, CUSTOM_FILE.split("."))
        kind = EVALUATE if is_evaluation(self.name) else self.name
        for key in (*OUTSIDE.get(kind, ()), *OPERATIONAL.get(self.name, ())):
            _drop(plain["own"], key.split("."))
        rules = {
            gate: [rule.model_dump(mode="json", exclude={"description"}) for rule in settings.gates.root[gate]]
            for gate in MADE.get(self.name, {})
            if gate in settings.gates
        }
        return plain | ({"gates": rules} if rules else {})

    def judges_with_a_function(self, recipe: Recipe) -> bool:
        """Whether the stage judges, and the recipe names a function of one's own for it."""
        judges = "judging" in self.settings_type.__dataclass_fields__ and "judging" not in self.unused(recipe)
        return judges and recipe.judging.custom is not None

    def reads(self, recipe: Recipe) -> Inputs:
        """What body and gates read, by name."""
        compared: Inputs = {}
        if is_evaluation(self.name) and recipe.evaluation.benchmarks:
            compared = {**data("test.jsonl", *TRAINED_ON), **_written_for(evaluated_stage(self.name), recipe)}
        return {**self.inputs(recipe), **self.checked, **compared}

    def sources(self, recipe: Recipe, cache: Path) -> dict[str, ResolvedSource]:
        """What the stage reads from outside the store, as it is now, by the recipe's key that names it.

        Raises StoreError naming the key, and LonghaulError for a checkpoint that other keys do not fit.
        """
        return sources_of(self.name, recipe, cache, self.judges_with_a_function(recipe))


TRAINED_ON = ("train.jsonl", "sft.jsonl", "long_cot.jsonl")
"""The files of the data stage that models learn from: gates compare them with benchmarks."""


def _written_for(stage: str | None, recipe: Recipe) -> Inputs:
    """What models wrote and this stage's model learned from, itself or by way of those before it: SFT examples by
    rejection sampling, and a teacher's paths. Gates compare them with benchmarks, too."""
    if stage is None or stage == "import":
        return {}
    written: Inputs = {}
    if recipe.vanilla_sft.expansion.problems:
        written["expanded"] = Input("vanilla_sft", "expanded", ("sft.jsonl",))
    if recipe.long_cot_paths is not None and stage != "vanilla_sft":
        written["paths"] = Input("long_cot_paths", "paths", ("long_cot.jsonl",))
    return written


CHECKS = "steps.gates.inputs"

OPERATIONAL = {
    "long_cot_paths": tuple(f"teacher.endpoint.{name}" for name in ENDPOINT_OPERATIONAL),
    "rl": ("keep_every",),
    "long2short/rl": ("keep_every",),
}
"""By stage, keys of its own section that cannot change what it makes: how a server is reached, what may be spent, what
is kept to continue from."""


def _drop(settings: Any, path: list[str]) -> None:
    first, *rest = path
    if not settings:
        return
    if first == "*":
        for each in settings.values() if isinstance(settings, dict) else settings:
            _drop(each, rest)
    elif rest:
        _drop(settings.get(first), rest)
    else:
        settings.pop(first, None)


def _own_inputs(inputs: Inputs) -> Callable[[Recipe], Inputs]:
    return lambda recipe: inputs


def _with_judge(stage: str, reward: Callable[[Recipe], str]) -> Callable[[Recipe], Inputs]:
    return lambda recipe: {**model_of(stage), **PROMPTS, **judge(reward(recipe))}


_MAKERS = (
    StageSpec(
        "data",
        "data",
        "steps.stages.data:run",
        Settings,
        _own_inputs({}),
        uses_seed=lambda recipe: recipe.data.draws,
    ),
    StageSpec(
        "import",
        "import_checkpoint",
        "steps.stages.import_checkpoint:run",
        Settings,
        _own_inputs({}),
        uses_seed=lambda recipe: False,
    ),
    StageSpec(
        "vanilla_sft",
        "vanilla_sft",
        "steps.stages.vanilla_sft:run",
        TrainSettings,
        _own_inputs({**model_of("import"), **data("sft.jsonl", "train.jsonl")}),
        "vanilla_sft",
        data("sft.jsonl", "train.jsonl", "test.jsonl"),
        unused=lambda recipe: set() if recipe.vanilla_sft.expansion.problems else {"engine", "handover", "judging"},
    ),
    StageSpec(
        "curation",
        "curation",
        "steps.stages.curation:run",
        GenerateSettings,
        _own_inputs({**model_of("vanilla_sft"), **data("train.jsonl")}),
        "curation",
        data("train.jsonl", "test.jsonl"),
    ),
    StageSpec(
        "long_cot_paths",
        "long_cot_paths",
        "steps.stages.long_cot_paths:run",
        GenerateSettings,
        questions_for_paths,
        "long_cot_paths",
        data("train.jsonl", "test.jsonl"),
        unused=lambda recipe: {"engine"} if recipe.long_cot_paths and recipe.long_cot_paths.teacher.endpoint else set(),
        enabled=lambda recipe: recipe.long_cot_paths is not None,
    ),
    StageSpec(
        "long_cot_sft",
        "long_cot_sft",
        "steps.stages.long_cot_sft:run",
        SupervisedSettings,
        lambda recipe: {**model_of("vanilla_sft"), **PROMPTS, **long_paths(recipe)},
        "long_cot_sft",
        data("long_cot.jsonl", "test.jsonl"),
    ),
    StageSpec(
        "reward_models",
        "reward_models",
        "steps.stages.reward_models:run",
        TrainSettings,
        _own_inputs({**model_of("long_cot_sft"), **PROMPTS}),
        "prompts",
        HELD_OUT,
        unused=lambda recipe: {"judging"},
        enabled=lambda recipe: recipe.reward_models is not None,
    ),
    StageSpec(
        "rl",
        "rl",
        "steps.stages.rl:run",
        TrainSettings,
        _with_judge("long_cot_sft", lambda recipe: recipe.rl.reward),
        "prompts",
        HELD_OUT,
    ),
    StageSpec(
        "long2short/merge",
        "long2short.merge",
        "steps.stages.merge:run",
        Settings,
        _own_inputs({**model_of("rl"), "short": Input("vanilla_sft")}),
        uses_seed=lambda recipe: False,
    ),
    StageSpec(
        "long2short/shortest",
        "long2short.shortest",
        "steps.stages.shortest:run",
        TrainSettings,
        _own_inputs({**model_of("rl"), **PROMPTS}),
        "prompts",
        HELD_OUT,
    ),
    StageSpec(
        "long2short/dpo",
        "long2short.dpo",
        "steps.stages.dpo:run",
        TrainSettings,
        _own_inputs({**model_of("rl"), **PROMPTS}),
        "prompts",
        HELD_OUT,
    ),
    StageSpec(
        "long2short/rl",
        "long2short.rl",
        "steps.stages.rl:run",
        TrainSettings,
        _with_judge("rl", lambda recipe: recipe.long2short.rl.reward),
        "prompts",
        HELD_OUT,
    ),
)

MODEL_STAGES = tuple(
    spec.name for spec in _MAKERS if spec.name not in ("data", "curation", "long_cot_paths", "reward_models")
)
"""The stages that make a model. Each is followed by its evaluation."""


def evaluation_spec(name: str, inputs: Inputs) -> StageSpec:
    """A stage that evaluates the model which `inputs` name."""
    return StageSpec(
        name,
        "evaluation",
        f"steps.stages.{'evaluate_import' if name == evaluation_stage('import') else 'evaluate'}:run",
        GenerateSettings,
        _own_inputs({**inputs, **HELD_OUT}),
        "evaluate",
        HELD_OUT,
    )


def _chain() -> Iterator[StageSpec]:
    for spec in _MAKERS:
        yield spec
        if spec.name in MODEL_STAGES:
            yield evaluation_spec(evaluation_stage(spec.name), model_of(spec.name))


STAGES: dict[str, StageSpec] = {spec.name: spec for spec in _chain()}
"""Each stage by its name, in the order in which they are shown; a stage stands after all that it depends on."""


def enabled_stages(recipe: Recipe) -> list[str]:
    """The stages that the recipe has, in order."""
    return [name for name, spec in STAGES.items() if spec.enabled(recipe)]


def inputs_of(recipe: Recipe, stage: str) -> Inputs:
    """What body and gates of a stage read, by name."""
    return STAGES[stage].reads(recipe)


def upstream_of(recipe: Recipe, stage: str) -> set[str]:
    """All stages that a stage depends on, directly or not."""
    direct = {each.stage for each in inputs_of(recipe, stage).values()}
    return direct.union(*(upstream_of(recipe, each) for each in direct))


STEPS = tuple(spec.name for spec in _MAKERS)
"""The stages that are steps of the flow. An evaluation runs in the step of the stage whose model it is of."""


def enabled_steps(recipe: Recipe) -> list[str]:
    """The stages that the recipe has and that are steps of the flow, in order."""
    return [stage for stage in enabled_stages(recipe) if stage in STEPS]


def stages_of_step(step: str) -> list[str]:
    """The stages that a step of the flow runs, in order."""
    return [stage for stage in (step, evaluation_stage(step)) if stage in STAGES]
