"""`longhaul test-cases`: make the test cases of problems that have none."""

import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.command import Command
from flows.cli.sandbox import BACKENDS
from flows.cli.terminal import fail, printable, store_option

if TYPE_CHECKING:
    from infra.sandbox.interface import Sandbox
    from steps.configs.case_generation import CaseGenerationConfig
    from steps.rewards.case_outcomes import Funnel, Outcome
    from steps.rewards.case_problems import CaseProblem
    from steps.rewards.generators import WrittenGenerators


@click.command(name="test-cases", cls=Command)
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File for kept problems.")
@click.option("--seed", type=click.IntRange(0), help="Seed of the cases (default: 0).")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a number, as in --set cases=20.")
@click.option("--model", help="Model that writes missing generators: a stage, RUN:STAGE, a digest or a folder.")
@click.option("--context", default=8192, show_default=True, help="Context of that model, in tokens.")
@click.option("--response-tokens", default=4096, show_default=True, help="Longest response of that model.")
@store_option
@click.option("--backend", type=BACKENDS, default="auto", show_default=True, help="What isolates the programs.")
@click.option("--slots", type=click.IntRange(1), help="Programs at the same time (default: one for each core).")
@click.option("--service", metavar="URL", help="Use a sandbox service instead; its token is in LONGHAUL_SANDBOX_TOKEN.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures and every problem's outcome as JSON.")
def test_cases(
    file: Path,
    out: Path,
    seed: int | None,
    settings: tuple[str, ...],
    model: str | None,
    context: int,
    response_tokens: int,
    store: str,
    backend: str,
    slots: int | None,
    service: str | None,
    as_json: bool,
) -> None:
    """Make test cases for the coding problems in FILE, and keep the problems that have enough valid ones.

    FILE is JSONL, or a folder with one problem in each *.yaml, as in examples/test_cases. The same command resumes
    interrupted work at the problem where it stopped.
    """
    from steps.configs.case_generation import CaseGenerationConfig
    from steps.problem import save_rows
    from steps.rewards.case_generation import make_test_cases
    from steps.rewards.case_outcomes import funnel, kept_problems
    from steps.rewards.case_problems import load_case_problems

    slots = slots or len(os.sched_getaffinity(0))
    numbers = {**_settings(settings), **({"seed": seed} if seed is not None else {})}
    try:
        config = CaseGenerationConfig.model_validate(numbers)
        problems = load_case_problems(file)
    except ValidationError as error:
        fail("\n".join(f"{'.'.join(map(str, e['loc'])) or 'refused'}: {e['msg']}" for e in error.errors()))
    if not out.name:
        fail("--out is empty: name the file for kept problems")
    journal = out.with_name(f"{out.name}.partial")
    missing: dict[str, str] = {}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        journal.touch()
    except OSError as error:
        fail(f"{journal} cannot be written: {error.strerror}")
    try:
        with closing(_sandbox(backend, slots, service)) as sandbox:
            if model is not None:
                written = _written_by(model, store, context, response_tokens, problems, config)
                problems, missing = written.problems, written.missing
            outcomes = make_test_cases(problems, config, sandbox, slots, missing, journal)
    except ValueError as error:  # what the service or the engine refuses
        fail(str(error))
    figures = funnel(outcomes)
    if as_json:
        rows = [outcome.model_dump(exclude={"tests"}) for outcome in outcomes]
        click.echo(json.dumps({**asdict(figures), "outcomes": rows}))
    else:
        console = Console()
        console.print(_funnel_table(figures))
        console.print(_dropped_table(outcomes))
    retained = kept_problems(problems, outcomes)
    if retained:
        save_rows(out, retained)
    journal.unlink(missing_ok=True)
    if not retained:
        fail(f"no problem is left, so {out} is not written")


def _sandbox(backend: str, slots: int, service: str | None) -> "Sandbox":
    if service is not None:
        from infra.sandbox.client import SandboxClient
        from infra.sandbox.token import read_token

        return SandboxClient(service, read_token(None))
    from infra.sandbox.config import SandboxConfig, open_sandbox

    return open_sandbox(SandboxConfig.model_validate({"backend": backend, "slots": slots}))


def _settings(settings: tuple[str, ...]) -> dict[str, Any]:
    if not settings:
        return {}
    from flows.cli.overrides import apply_overrides

    return apply_overrides({}, settings)


def _written_by(
    model: str,
    store: str,
    context: int,
    response_tokens: int,
    problems: "list[CaseProblem]",
    config: "CaseGenerationConfig",
) -> "WrittenGenerators":
    from flows.home import HOME, open_store
    from flows.models import find_model
    from infra.environment import engine_environment

    folder = find_model(open_store(store), model)
    os.environ.update(engine_environment())
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    longest = getattr(config, "max_position_embeddings", context)
    if context > longest:
        fail(f"--context is {context}, and {model} reads {longest} tokens: give --context and --response-tokens")
    from infra.configs import EngineConfig, TrainerConfig
    from infra.progress.logs import quiet_to
    from steps.configs.case_generation import GeneratorConfig
    from steps.rewards.generators import write_generators
    from steps.workbench import open_workbench

    with quiet_to(HOME / "test-cases.log"):
        cache = 256 if "DS_ACCELERATOR" in os.environ else None  # on a GPU vLLM decides
        engine = EngineConfig(context=context, max_sequences=16, kv_cache_mb=cache)
        with open_workbench(folder, engine=engine, trainer=TrainerConfig(), seed=config.seed) as bench:
            generator = GeneratorConfig(max_response_tokens=response_tokens)
            return write_generators(bench, problems, config.cases, generator)


def _funnel_table(figures: "Funnel") -> Table:
    table = Table(title="test cases", caption=_caught(figures), box=box.SIMPLE, pad_edge=False)
    table.add_column("problems")
    table.add_column("left", justify="right")
    table.add_column("of all", justify="right")
    table.add_column("in the report", justify="right")
    for name, left, reported in (
        ("all", figures.problems, 1000),
        ("need no special judge", figures.no_special_judge, 614),
        ("have enough valid cases", figures.enough_valid_cases, 463),
        ("kept", figures.retained, 323),
    ):
        share = f"{left / figures.problems:.1%}" if figures.problems else "–"
        table.add_row(name, f"{left:,}", share, f"{reported / 1000:.1%}")
    return table


def _caught(figures: "Funnel") -> str | None:
    if not figures.wrong:
        return None
    return (
        f"of {figures.wrong} wrong submissions to kept problems, the made tests catch {figures.caught}, "
        f"the statements' samples {figures.caught_by_sample}"
    )


def _dropped_table(outcomes: "Sequence[Outcome]") -> Table:
    table = Table(title="left out", box=box.SIMPLE, pad_edge=False)
    table.add_column("problem")
    table.add_column("reason")
    for outcome in outcomes:
        if outcome.reached != "kept":
            table.add_row(Text(_line(outcome.id)), Text(_line(outcome.reason)))
    return table


def _line(text: str) -> str:
    return printable(" ".join(text.split()))
