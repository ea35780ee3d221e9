"""`longhaul notify`: report a failure, by hand or as the exit hook of a workflow on a cluster.

Imports neither the recipe nor an engine unless --config asks for it; also `python -m flows.cli.notify`.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import click

from flows.cli.command import Command
from flows.cli.terminal import fail

NOTHING_WRONG = ("", "Succeeded", "Running")
"""Argo's status of workflows that need no report."""


@click.command(cls=Command)
@click.option("--config", "config_path", help="The recipe, whose notify.webhook is posted to.")
@click.option("--webhook", help="The address, or the environment variable that holds it, instead of the recipe's.")
@click.option("--recipe", help="The recipe's name (default: that of --config).")
@click.option("--run", help="The run.")
@click.option("--stage", help="The stage that failed.")
@click.option("--error", default="", help="What went wrong.")
@click.option("--command", default="", help="The command that runs it again.")
@click.option("--log", help="Where the log is: a path or an address.")
@click.option("--status", help="A workflow's status in Argo; a success is not reported.")
@click.option("--failures", help="A workflow's failed nodes (Argo's workflow.failures), for stage and error.")
def notify(
    config_path: str | None,
    webhook: str | None,
    recipe: str | None,
    run: str | None,
    stage: str | None,
    error: str,
    command: str,
    log: str | None,
    status: str | None,
    failures: str | None,
) -> None:
    """Report a failure to a webhook.

    The report is JSON, sent by POST. The exit code is 1 where it was not delivered.

    As Argo's exit hook: --status '{{workflow.status}}' --failures '{{workflow.failures}}'.
    """
    if status is not None and status in NOTHING_WRONG:
        return
    from pydantic import ValidationError

    from flows.notify import send_report
    from infra.notify import NotifyConfig

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        config = NotifyConfig(webhook=webhook) if webhook else None
    except ValidationError as refused:
        fail(f"--webhook: {refused.errors()[0]['msg'].removeprefix('Value error, ')}")
    if config_path is not None:
        from steps.recipe import load_recipe

        loaded = load_recipe(Path(config_path))
        config, recipe = config or loaded.notify, recipe or loaded.name
        command = command or f"longhaul run --config {config_path}"
    if config is None:
        fail("no webhook to report to: give --webhook, or a --config with a section `notify`")
    if failures:
        failed_stage, its_error = read_failures(failures)
        stage, error = stage or failed_stage, error or its_error
    if not send_report(
        config, recipe, run, stage, error or (f"the workflow ended as {status}" if status else ""), command, log
    ):
        sys.exit(1)


def read_failures(text: str) -> tuple[str | None, str]:
    """Stage and error of the first node that failed, from Argo's list; or the text itself where it is not one."""
    parsed: Any = text
    for _ in range(2):  # Argo quotes the list once more
        try:
            parsed = json.loads(parsed) if isinstance(parsed, str) else parsed
        except ValueError:
            return None, text
    nodes = [node for node in parsed if isinstance(node, dict)] if isinstance(parsed, list) else []
    # A node of a group fails with its members, and names none of the errors.
    nodes = [node for node in nodes if node.get("podName") or node.get("message")] or nodes
    if not nodes:
        return None, text
    first = min(nodes, key=lambda node: str(node.get("finishedAt") or "~"))
    return first.get("displayName"), str(first.get("message") or first.get("phase") or text)


if __name__ == "__main__":
    notify()
