"""The chain: a pretrained checkpoint goes in, a reasoning model comes out.

    import → vanilla SFT → curation → long-CoT SFT → reward models → RL → long2short (four branches) → report

Reward models are made only where the recipe has a section for them.

Run it with `longhaul run --config configs/nano.yaml`, or as a plain Metaflow flow:

    python flows/post_train.py run

Weights and data live in the store; what passes from step to step as Metaflow artifacts are stage records, which hold
references. Each step is a stage, and a stage whose key has a finished record is not run again.
"""

import os
from pathlib import Path

from infra.environment import enter_engine_environment

enter_engine_environment()
# Metaflow's own files beside everything else that runs leave, rather than in the folder one happens to stand in.
HOME = Path(os.environ.get("LONGHAUL_HOME", ".longhaul")).resolve()
os.environ.setdefault("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(HOME))
os.environ.setdefault("METAFLOW_CARD_LOCALROOT", str(HOME / ".metaflow" / "mf.cards"))
os.environ.setdefault("METAFLOW_USER", os.environ.get("USER") or "longhaul")

from datetime import UTC, datetime  # noqa: E402
from typing import Any  # noqa: E402

from metaflow import Config, FlowSpec, card, current, resources, step  # type: ignore[attr-defined]  # noqa: E402
from metaflow.exception import MetaflowException  # noqa: E402

from flows.chain import Chain  # noqa: E402
from infra.stages import StageRecord  # noqa: E402
from steps.recipe import ConfigRefused, Recipe, check_recipe, parse_recipe  # noqa: E402
from steps.report.page import render_report  # noqa: E402


class RecipeRefused(MetaflowException):
    """The configuration cannot be run."""

    headline = "Configuration refused"


def read_config(text: str) -> dict[str, Any]:
    """Metaflow's parser for the configuration file: typed, checked, and plain data again."""
    try:
        return parse_recipe(text, "the configuration").model_dump(mode="json")
    except ConfigRefused as error:
        raise RecipeRefused(str(error)) from error


class PostTrain(FlowSpec):
    """From a pretrained checkpoint to a reasoning model."""

    config = Config("config", default="configs/nano.yaml", parser=read_config, help="The recipe's configuration.")

    @property
    def recipe(self) -> Recipe:
        """The configuration, typed."""
        return check_recipe(self.config.to_dict(), "the configuration")

    def run_stage(self, stage: str, **inputs: dict[str, Any]) -> dict[str, Any]:
        """Run a stage of the chain on the records of earlier ones. Returns its record as plain data."""
        chain = Chain(self.recipe, self.run_name)
        records = {name: StageRecord.model_validate(record) for name, record in inputs.items()}
        return chain.run(stage, records).model_dump(mode="json")

    def judge(self, reward: str) -> dict[str, dict[str, Any]]:
        """The reward model that RL with this `reward` depends on, as an input of its stage."""
        return {} if reward == "rules" or self.judges is None else {reward: self.judges}

    def show(self, *records: dict[str, Any]) -> None:
        """Draw the step's card from stage records."""
        self.html = render_report(self.recipe.name, [StageRecord.model_validate(record) for record in records])

    @resources(cpu=2, memory=8000)
    @step
    def start(self) -> None:
        """Make the data sets."""
        self.run_name = os.environ.get("LONGHAUL_RUN") or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{current.run_id}"
        self.data = self.run_stage("data")
        self.next(self.import_checkpoint)

    @card(type="html")
    @resources(cpu=2, memory=8000)
    @step
    def import_checkpoint(self) -> None:
        """Check the pretrained checkpoint and store it."""
        self.imported = self.run_stage("import", data=self.data)
        self.show(self.imported)
        self.next(self.vanilla_sft)

    @card(type="html")
    @resources(cpu=2, memory=8000)
    @step
    def vanilla_sft(self) -> None:
        """Vanilla SFT (§2.5.2)."""
        self.sft = self.run_stage("vanilla_sft", model=self.imported, data=self.data)
        self.show(self.sft)
        self.next(self.curation)

    @card(type="html")
    @resources(cpu=2, memory=8000)
    @step
    def curation(self) -> None:
        """Curate the RL prompt set (§2.1)."""
        self.curated = self.run_stage("curation", model=self.sft, data=self.data)
        self.show(self.curated)
        self.next(self.long_cot_sft)

    @card(type="html")
    @resources(cpu=2, memory=8000)
    @step
    def long_cot_sft(self) -> None:
        """Long-CoT SFT (§2.2)."""
        self.long_cot = self.run_stage("long_cot_sft", model=self.sft, data=self.data, prompts=self.curated)
        self.show(self.long_cot)
        self.next(self.reward_models)

    # No card: making one takes longer than passing through, where there is nothing to train.
    @resources(cpu=2, memory=8000)
    @step
    def reward_models(self) -> None:
        """Train reward models for mathematics (§2.3.5), where the recipe asks for them."""
        self.judges = None
        if self.recipe.reward_models is not None:
            self.judges = self.run_stage("reward_models", model=self.long_cot, data=self.data, prompts=self.curated)
        self.next(self.rl)

    @card(type="html")
    @resources(cpu=2, memory=8000)
    @step
    def rl(self) -> None:
        """Reinforcement learning (§2.3)."""
        judge = self.judge(self.recipe.rl.reward)
        self.reasoner = self.run_stage("rl", model=self.long_cot, data=self.data, prompts=self.curated, **judge)
        self.show(self.reasoner)
        self.next(self.merge, self.shortest, self.dpo, self.short_rl)

    @card(type="html")
    @resources(cpu=2, memory=8000)
    @step
    def merge(self) -> None:
        """Long2short by merging weights (§2.4)."""
        self.short = self.run_stage("long2short/merge", model=self.reasoner, short=self.sft, data=self.data)
        self.show(self.short)
        self.next(self.report)

    @card(type="html")
    @resources(cpu=2, memory=8000)
    @step
    def shortest(self) -> None:
        """Long2short by shortest rejection sampling (§2.4)."""
        self.short = self.run_stage("long2short/shortest", model=self.reasoner, data=self.data, prompts=self.curated)
        self.show(self.short)
        self.next(self.report)

    @card(type="html")
    @resources(cpu=2, memory=8000)
    @step
    def dpo(self) -> None:
        """Long2short by DPO (§2.4)."""
        self.short = self.run_stage("long2short/dpo", model=self.reasoner, data=self.data, prompts=self.curated)
        self.show(self.short)
        self.next(self.report)

    @card(type="html")
    @resources(cpu=2, memory=8000)
    @step
    def short_rl(self) -> None:
        """Long2short by RL (§2.4)."""
        judge = self.judge(self.recipe.long2short.rl.reward)
        self.short = self.run_stage("long2short/rl", model=self.reasoner, data=self.data, prompts=self.curated, **judge)
        self.show(self.short)
        self.next(self.report)

    @card(type="html")
    @step
    def report(self, inputs: Any) -> None:
        """Gather the four branches and write the report."""
        self.merge_artifacts(inputs, exclude=["short", "html"])
        records = [self.imported, self.sft, self.curated, self.long_cot, self.reasoner]
        records += [self.judges] if self.judges else []
        records += [branch.short for branch in inputs]
        self.records = sorted(records, key=lambda record: Chain.order(record["stage"]))
        self.show(self.data, *self.records)
        self.report_file = str(Chain(self.recipe, self.run_name).write_report(self.html))
        self.next(self.end)

    @step
    def end(self) -> None:
        """Say where the report is."""
        print(f"report: {self.report_file}")


if __name__ == "__main__":
    # The four branches would share the cores, and OpenMP's threads collapse when they do.
    os.environ.setdefault("METAFLOW_RUN_MAX_WORKERS", "1")
    PostTrain()
