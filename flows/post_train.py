"""The chain: a pretrained checkpoint goes in, a reasoning model comes out.

    import → vanilla SFT → curation → long-CoT paths → long-CoT SFT → reward models → RL → long2short (four branches)
    → report

Long-CoT paths and reward models are made only where the recipe has a section for them.

Run it with `longhaul run --config configs/nano.yaml`, or as a plain Metaflow flow:

    python flows/post_train.py run [--from_stage rl] [--only rl] [--until rl] [--select rl+] [--reuse RUN]
        [--fork RUN:rl@20]

Weights and data live in the store; what passes from step to step as Metaflow artifacts are stage records, which hold
references. Each step is a stage, and a stage whose key has a finished record is not run again. What each stage depends
on is in flows/chain.py.
"""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from flows.flow_setup import enter_flow_environment

enter_flow_environment()

from metaflow import (  # type: ignore[attr-defined]  # noqa: E402
    Config,
    FlowSpec,
    Parameter,
    current,
    resources,
    step,
)

from flows.cards import save_card  # noqa: E402
from flows.chain import Chain  # noqa: E402
from flows.cluster.decorator import on_cluster  # noqa: E402
from flows.cluster.finished import finished_records  # noqa: E402
from flows.flow_config import RecipeRefused, read_config, scheduled  # noqa: E402
from flows.forks import ForkRefused  # noqa: E402
from flows.run_flow import run_flow  # noqa: E402
from flows.runs import end_run, start_run  # noqa: E402
from flows.selection import Selection, SelectionRefused  # noqa: E402
from flows.stage_step import stage  # noqa: E402
from infra.store.records import StageRecord  # noqa: E402
from steps.recipe import check_recipe  # noqa: E402


@on_cluster()
@scheduled("full", "rl")
class PostTrain(FlowSpec):
    """From a pretrained checkpoint to a reasoning model."""

    config = Config("config", default="configs/nano.yaml", parser=read_config, help="The recipe's configuration.")
    from_stage: Any = Parameter("from_stage", default="", help="Run this stage and those that depend on it.")
    only: Any = Parameter("only", default="", help="Run this one stage.")
    until: Any = Parameter("until", default="", help="Run this stage and those that it depends on.")
    reuse: Any = Parameter("reuse", default="", help="The run whose outputs stand in for stages that are not run.")
    select: Any = Parameter("select", default="", help="Run these stages (flows/stage_selectors.py).")
    fork: Any = Parameter("fork", default="", help="The iteration, RUN:STAGE@N, from which a stage continues.")
    force: Any = Parameter("force", default=False, help="Run stages even where their outputs could be reused.")

    @property
    def chain(self) -> Chain:
        """The recipe's stages under this run's name."""
        recipe = check_recipe(self.config.to_dict(), "the configuration")
        try:
            selectors = (self.select,) if self.select else ()
            selection = Selection(
                self.from_stage or None,
                self.only or None,
                self.until or None,
                self.reuse or None,
                self.force,
                selectors,
                fork=self.fork or None,
            )
            return Chain(recipe, self.run_name, selection)
        except (SelectionRefused, ForkRefused) as error:
            raise RecipeRefused(str(error)) from error

    def begin(self) -> None:
        """Name the run. One that `longhaul run` started has its name, and is recorded by it at start and end."""
        self.records: dict[str, dict[str, Any]] = {}
        self.run_name = os.environ.get("LONGHAUL_RUN") or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{current.run_id}"
        if "LONGHAUL_RUN" not in os.environ:
            start_run(self.chain.store, self.run_name, self.config.to_dict(), sys.argv[1:])

    def draw_card(self, records: Sequence[StageRecord]) -> None:
        """Draw the step's card: the report of these stages."""
        from infra.store.stored_images import StoredImages
        from steps.report.page import render_report

        images = StoredImages.of(self.chain.store, records)
        save_card(self, render_report(self.config["name"], records, images))

    @resources(cpu=2, memory=8000)
    @stage(name="data")
    @step
    def start(self) -> None:
        """Make the data sets."""
        self.next(self.import_checkpoint)

    @resources(cpu=2, memory=8000)
    @stage(name="import")
    @step
    def import_checkpoint(self) -> None:
        """Check the pretrained checkpoint and store it."""
        self.next(self.vanilla_sft)

    @resources(cpu=2, memory=8000)
    @stage(name="vanilla_sft")
    @step
    def vanilla_sft(self) -> None:
        """Vanilla SFT (§2.5.2)."""
        self.next(self.curation)

    @resources(cpu=2, memory=8000)
    @stage(name="curation")
    @step
    def curation(self) -> None:
        """Curate the RL prompt set (§2.1)."""
        self.next(self.long_cot_paths)

    @resources(cpu=2, memory=8000)
    @stage(name="long_cot_paths")
    @step
    def long_cot_paths(self) -> None:
        """Have a teacher write long reasoning paths (§2.2), where the recipe asks for them."""
        self.next(self.long_cot_sft)

    @resources(cpu=2, memory=8000)
    @stage(name="long_cot_sft")
    @step
    def long_cot_sft(self) -> None:
        """Long-CoT SFT (§2.2)."""
        self.next(self.reward_models)

    @resources(cpu=2, memory=8000)
    @stage(name="reward_models")
    @step
    def reward_models(self) -> None:
        """Train reward models for mathematics (§2.3.5), where the recipe asks for them."""
        self.next(self.rl)

    @resources(cpu=2, memory=8000)
    @stage(name="rl")
    @step
    def rl(self) -> None:
        """Reinforcement learning (§2.3)."""
        self.next(self.merge, self.shortest, self.dpo, self.short_rl)

    @resources(cpu=2, memory=8000)
    @stage(name="long2short/merge")
    @step
    def merge(self) -> None:
        """Long2short by merging weights (§2.4)."""
        self.next(self.report)

    @resources(cpu=2, memory=8000)
    @stage(name="long2short/shortest")
    @step
    def shortest(self) -> None:
        """Long2short by shortest rejection sampling (§2.4)."""
        self.next(self.report)

    @resources(cpu=2, memory=8000)
    @stage(name="long2short/dpo")
    @step
    def dpo(self) -> None:
        """Long2short by DPO (§2.4)."""
        self.next(self.report)

    @resources(cpu=2, memory=8000)
    @stage(name="long2short/rl")
    @step
    def short_rl(self) -> None:
        """Long2short by RL (§2.4)."""
        self.next(self.report)

    @step
    def report(self, inputs: Any) -> None:
        """Join the four branches and write the report."""
        from infra.store.stored_images import StoredImages
        from steps.report.page import render_report

        self.merge_artifacts(inputs, exclude=["records"])
        self.records = {name: record for branch in inputs for name, record in branch.records.items()}
        records = sorted(finished_records(self).values(), key=lambda record: Chain.order(record.stage))
        self.records = {record.stage: record.model_dump(mode="json") for record in records}
        html = render_report(self.config["name"], records, StoredImages.of(self.chain.store, records))
        save_card(self, html)
        self.report_file = str(self.chain.write_report(html))
        self.next(self.end)

    @step
    def end(self) -> None:
        """Say where the report is."""
        if "LONGHAUL_RUN" not in os.environ:
            end_run(self.chain.store, self.run_name, "succeeded")
        print(f"report: {self.report_file}")


if __name__ == "__main__":
    # The four branches would share the cores, and OpenMP's threads collapse when they do.
    os.environ.setdefault("METAFLOW_RUN_MAX_WORKERS", "1")
    run_flow(PostTrain)
