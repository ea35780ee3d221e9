"""The flow's graph is the chain's: flows/topology.py states it, and Metaflow needs it as source once more."""

import ast
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from flows.topology import MODEL_STAGES, STEPS, upstream_of
from steps.configs.evaluation import ModelStage
from steps.recipe import Recipe, check_recipe, load_recipe

ROOT = Path(__file__).parents[2]
FLOW = ROOT / "flows" / "post_train.py"
MULTI_NODE = ROOT / "flows" / "cluster" / "multi_node_steps.py"
ON_ONE_NODE = ("data",)
"""Stages that never fill several nodes."""


@dataclass(frozen=True)
class Step:
    """A step of a flow, as its source says."""

    stage: str | None
    """By its @stage or @stage_on_nodes."""
    followed_by: tuple[str, ...]
    starts_nodes_of: str | None = None


def steps_in(path: Path) -> dict[str, Step]:
    """The steps of all flows in a file."""
    classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    functions = [node for each in classes for node in each.body if isinstance(node, ast.FunctionDef)]
    return {
        node.name: _step(node) for node in functions if "step" in [ast.unparse(each) for each in node.decorator_list]
    }


def _step(function: ast.FunctionDef) -> Step:
    decorators = [each for each in function.decorator_list if isinstance(each, ast.Call)]
    stages = [
        str(ast.literal_eval(each.keywords[0].value))
        for each in decorators
        if ast.unparse(each.func) in ("stage", "stage_on_nodes")
    ]
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    following = [argument for call in calls if ast.unparse(call.func) == "self.next" for argument in call.args]
    nodes = [str(ast.literal_eval(call.args[1])) for call in calls if ast.unparse(call.func) == "nodes_for"]
    names = tuple(ast.unparse(argument).removeprefix("self.") for argument in following)
    return Step(next(iter(stages), None), names, next(iter(nodes), None))


def with_every_stage() -> Recipe:
    raw = load_recipe(ROOT / "configs" / "smoke.yaml").model_dump(mode="json")
    raw["engine"]["context"] = 2048
    optional = {"reward_models": {}, "long_cot_paths": {"max_response_tokens": 96}}
    return check_recipe(raw | optional | {"rl": raw["rl"] | {"reward": "cot_rm"}}, "test")


def flow_of_the_chain(names: Mapping[str, str]) -> dict[str, Step]:
    """The flow that the chain needs: stages on which others depend one after another, the others beside each other, and
    the report.

    Args:
        names: by stage, the name of its step.
    """
    recipe = with_every_stage()
    needed = set[str]().union(*(upstream_of(recipe, stage) for stage in STEPS))
    trunk = [stage for stage in STEPS if stage in needed]
    branches = [stage for stage in STEPS if stage not in needed]
    following: dict[str, tuple[str, ...]] = {stage: (names[after],) for stage, after in itertools.pairwise(trunk)}
    following[trunk[-1]] = tuple(names[stage] for stage in branches)
    following |= {stage: ("report",) for stage in branches}
    steps = {names[stage]: Step(stage, after) for stage, after in following.items()}
    return {**steps, "report": Step(None, ("end",)), "end": Step(None, ())}


def on_several_nodes(flow: Mapping[str, Step]) -> dict[str, Step]:
    """The steps that a flow's stages need where each fills several nodes."""
    steps: dict[str, Step] = {}
    for name, step in flow.items():
        if step.stage is None or step.stage in ON_ONE_NODE:
            continue
        steps[name] = Step(None, (f"{name}_on_nodes",), starts_nodes_of=step.stage)
        steps[f"{name}_on_nodes"] = Step(step.stage, (f"{name}_join",))
        # Metaflow lets no step join and branch at once.
        branches = len(step.followed_by) > 1
        steps[f"{name}_join"] = Step(None, (f"{name}_branches",) if branches else step.followed_by)
        if branches:
            steps[f"{name}_branches"] = Step(None, step.followed_by)
    return steps


def differences(source: Mapping[str, Step], chain: Mapping[str, Step]) -> str:
    """One line for each step that is not what the chain needs."""
    return "\n".join(
        f"step {name}: the source has {source.get(name, 'no such step')}, the chain needs {chain.get(name, 'none')}"
        for name in dict.fromkeys([*chain, *source])
        if source.get(name) != chain.get(name)
    )


def names_of_steps() -> dict[str, str]:
    steps = steps_in(FLOW)
    names = {step.stage: name for name, step in steps.items() if step.stage}
    assert len(names) == len([step for step in steps.values() if step.stage]), "two steps are the same stage"
    assert set(names) == set(STEPS), f"stages without a step, or the reverse: {set(names) ^ set(STEPS)}"
    return names


def test_the_flow_follows_the_chain() -> None:
    wrong = differences(steps_in(FLOW), flow_of_the_chain(names_of_steps()))
    assert not wrong, f"{FLOW.name} and flows/topology.py differ:\n{wrong}"


def test_steps_on_several_nodes_follow_the_chain() -> None:
    wrong = differences(steps_in(MULTI_NODE), on_several_nodes(flow_of_the_chain(names_of_steps())))
    assert not wrong, f"{MULTI_NODE.name} and flows/topology.py differ:\n{wrong}"


def test_a_step_that_leads_elsewhere_is_named() -> None:
    chain = flow_of_the_chain(names_of_steps())
    astray = {**chain, "curation": Step("curation", ("rl",))}
    assert differences(astray, chain) == (
        "step curation: the source has Step(stage='curation', followed_by=('rl',), starts_nodes_of=None), "
        "the chain needs Step(stage='curation', followed_by=('long_cot_paths',), starts_nodes_of=None)"
    )


def test_evaluations_can_be_asked_for_after_each_stage_that_makes_a_model() -> None:
    assert get_args(ModelStage) == MODEL_STAGES
