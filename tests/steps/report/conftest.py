"""A made-up run and its page."""

import pytest

from infra.store.records import StageRecord
from steps.report.page import render_report
from tests.steps.report.made_up_run import STAGES, record


@pytest.fixture(scope="module")
def run() -> list[StageRecord]:
    return [record(stage, reused_from="20260313-201500-6" if stage == "import" else None) for stage in STAGES]


@pytest.fixture(scope="module")
def page(run: list[StageRecord]) -> str:
    return render_report("nano", run)
