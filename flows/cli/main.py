"""The `longhaul` command."""

import click

from flows.cli.command import LazyCommand, LazyGroup, print_version

SECTIONS = {
    "Run": {
        "plan": LazyCommand("flows.cli.run:plan", "Show which stages would run or be reused, and why."),
        "run": LazyCommand("flows.cli.run:run", "Run a recipe, or a part of it."),
        "evaluate": LazyCommand("flows.cli.evaluate:evaluate", "Evaluate a model and compare it with a tagged one."),
        "stop": LazyCommand("flows.cli.act:stop", "Stop a run."),
        "schedule": LazyCommand("flows.cli.schedule:schedule", "Run recipes at set times on this machine."),
        "check": LazyCommand("flows.cli.check:check", "Check that new models come."),
        "notify": LazyCommand("flows.cli.notify:notify", "Report a failure to a webhook."),
    },
    "Look": {
        "runs": LazyCommand("flows.cli.runs:runs", "List the newest runs."),
        "show": LazyCommand("flows.cli.show:show", "Show what a run or stage did, and whether it is current."),
        "note": LazyCommand("flows.cli.act:note", "Write down something about a run."),
        "logs": LazyCommand("flows.cli.act:logs", "Print the log of a run or of one of its stages."),
        "failures": LazyCommand("flows.cli.act:failures", "Show what failed, why, and how to run it again."),
        "diff": LazyCommand("flows.cli.runs:diff", "Show how two runs differ in inputs and results."),
        "compare": LazyCommand("flows.cli.compare:compare", "Compare many runs, with their seeds grouped."),
        "report": LazyCommand("flows.cli.report:report", "Show how each stage's model performed."),
        "lineage": LazyCommand("flows.cli.lineage:lineage", "Trace models, data and prompts through all runs."),
    },
    "Models": {
        "sample": LazyCommand("flows.cli.sample:sample", "Ask a model a question."),
        "serve": LazyCommand("flows.cli.serve:serve", "Serve a model with an OpenAI-compatible API."),
        "publish": LazyCommand("flows.cli.publish:publish", "Bring a model with its card to a folder, S3 or the hub."),
        "tag": LazyCommand("flows.cli.tag:tag", "Name a model, or list the names."),
    },
    "Data": {
        "data": LazyCommand("flows.cli.data:data", "Check the data of a recipe before it runs."),
        "store": LazyCommand("flows.cli.store:store", "List, verify and clean up stored artifacts."),
        "test-cases": LazyCommand("flows.cli.case_generation:test_cases", "Make test cases for coding problems."),
        "sandbox": LazyCommand("flows.cli.sandbox:sandbox", "Run untrusted programs in isolation."),
    },
    "Cluster": {
        "cloud": LazyCommand("flows.cli.cloud:cloud", "Connect this machine to a cluster."),
        "deploy": LazyCommand("flows.cli.deploy:deploy", "Deploy a recipe to a cluster as Argo workflows."),
    },
}
"""The commands, as `longhaul --help` lists them."""


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the version, and the commit of a checkout.",
)
def main() -> None:
    """From a pretrained checkpoint to a reasoning model, by the recipe of the Kimi k1.5 report."""
