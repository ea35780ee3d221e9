"""Running a flow's command line."""

import os
import sys

from metaflow import FlowSpec
from metaflow.parameters import flow_context

from flows.fork_server.client import ENTRYPOINT, SOCKET


def run_flow(flow: type[FlowSpec]) -> None:
    """What `flow()` does in Metaflow, with the difference that steps are started through a fork server's client where
    this process's environment names one."""
    if SOCKET not in os.environ:
        flow()
        return
    with flow_context(flow):
        from metaflow import cli  # its options are made of the flow, when it is imported

        cli.main(flow(use_cli=False), entrypoint=[*ENTRYPOINT, sys.argv[0]])
