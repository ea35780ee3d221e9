"""Whether what a run made is what it would make today, why it is not, and which command makes it so.

Today's configuration is the recipe's file as it is now, with the changes (`--set`, `--seed`) that the run's own command
had; where that file cannot be read, the recipe as the run recorded it. The numeric environment does not count: what a
cluster made is not stale because a laptop asks.
"""

import shlex
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import click

from flows.chain import Chain
from flows.home import HOME
from flows.plan import PlannedStage, differences_from, in_words, make_plan
from flows.selection import Selection
from flows.topology import STAGES
from infra.errors import LonghaulError
from infra.store import records
from infra.store.records import RunRecord, StageRecord
from infra.store.store import Store
from steps.recipe import Recipe, check_recipe

AnswerT = TypeVar("AnswerT")

FRESH_SECONDS = 30.0
"""How long an answer is valid: what it depends on (files, code, the store) may change at any time."""


@dataclass(frozen=True)
class Staleness:
    """How a stage of a run stands to what it would make today."""

    stage: str
    run: str
    state: Literal["current", "stale", "unknown"]
    """`unknown` where today's plan cannot be made, or does not have the stage; the reasons say why."""
    reasons: tuple[str, ...]
    command: str | None
    """What brings the stage up to date, for a shell; None where nothing is to be done or no command does it."""
    compared_with: str
    """The recipe's file, or what stands in for it."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "reasons": list(self.reasons)}


@dataclass(frozen=True)
class _Today:
    """A run's recipe as it is now."""

    recipe: Recipe
    selection: Selection
    """Everything, but for a run that took outputs from another one."""
    command: tuple[str, ...] | None
    """`longhaul run` with this recipe."""
    name: str


@dataclass(frozen=True)
class _Plan:
    """What a run of a recipe would do now."""

    chain: Chain
    stages: dict[str, PlannedStage]


class RecipeUnknown(LonghaulError, LookupError):
    """No record says what a run ran with."""


class StalenessCheck:
    """Answers for the records of one store. A plan is made once for all that a run made, and again after a while.

    May be used by several threads.
    """

    def __init__(self, store: Store, seconds: float = FRESH_SECONDS) -> None:
        """`seconds` is how long an answer is valid."""
        self._store = store
        self._seconds = seconds
        self._lock = threading.Lock()
        self._plans: dict[str, tuple[float, _Plan | str]] = {}
        self._runs: dict[str, tuple[float, _Today | str]] = {}

    def of(self, record: StageRecord) -> Staleness:
        """Whether what a stage made, or reused, is what its run's recipe makes today.

        Never raises for what is wrong with the recipe, its data or the store: the state is then `unknown`.
        """
        with self._lock:
            return self._of(record)

    def command(self, run: str) -> str | None:
        """What brings all of a run up to date, for a shell; None where its recipe is nowhere to be read."""
        with self._lock:
            today = self._today(run)
        return None if isinstance(today, str) or today.command is None else shlex.join(today.command)

    def _of(self, record: StageRecord) -> Staleness:
        def answer(state: Any, reasons: Sequence[str], command: str | None = None, name: str = "") -> Staleness:
            return Staleness(record.stage, record.run, state, tuple(reasons), command, name)

        if record.stage not in STAGES:
            return answer("unknown", [f"{record.stage!r} is not a stage of the chain: no plan has it"])
        today = self._today(record.run)
        if isinstance(today, str):
            return answer("unknown", [today])
        plan = self._plan(today)
        if isinstance(plan, str):
            return answer("unknown", [plan], name=today.name)
        stage = plan.stages.get(record.stage)
        if stage is None:
            return answer("stale", ["the recipe no longer has this stage"], name=today.name)
        if stage.parts is None or stage.action == "skip":
            return answer("unknown", [stage.reason], name=today.name)
        state, reasons = _compare(plan, stage, record)
        command = None
        if state == "stale" and today.command is not None:
            whole = today.selection.reuse or today.selection.fork
            command = shlex.join([*today.command, *([] if whole else ["--until", record.stage])])
        return answer(state, reasons, command, today.name)

    def _today(self, run: str) -> _Today | str:
        """A run's recipe as it is now, or why there is none."""
        known = self._runs.get(run)
        if known is None or known[0] < time.monotonic():
            try:
                today: _Today | str = _recipe_today(self._store, run)
            except LonghaulError as error:
                today = str(error)
            self._runs = _valid(self._runs)
            known = self._runs[run] = (time.monotonic() + self._seconds, today)
        return known[1]

    def _plan(self, today: _Today) -> _Plan | str:
        """Today's plan, or why there is none."""
        name = f"{today.recipe.model_dump_json()} {today.selection}"
        known = self._plans.get(name)
        if known is None or known[0] < time.monotonic():
            try:
                chain = Chain(today.recipe, "plan", today.selection)
                stages = make_plan(chain, lambda stage: [], lambda key: None)
                plan: _Plan | str = _Plan(chain, {each.stage: each for each in stages})
            except (LonghaulError, OSError) as error:
                plan = f"today's plan cannot be made: {error}"
            self._plans = _valid(self._plans)
            known = self._plans[name] = (time.monotonic() + self._seconds, plan)
        return known[1]


def _valid(known: dict[str, tuple[float, AnswerT]]) -> dict[str, tuple[float, AnswerT]]:
    """Answers that are still valid: a server that runs for weeks would keep a plan of every recipe."""
    now = time.monotonic()
    return {name: each for name, each in known.items() if each[0] >= now}


def _compare(plan: _Plan, stage: PlannedStage, record: StageRecord) -> tuple[Literal["current", "stale"], list[str]]:
    if record.failure is not None:
        return "stale", [f"it failed: {record.failure.error.partition(chr(10))[0]}"]
    differences = differences_from(plan.chain, stage, record)
    counting = [each for each in differences if each.kind != "environment"]
    if stage.action == "reuse" and stage.record is not None:
        made, would_be = ({name: ref.digest for name, ref in each.outputs.items()} for each in (record, stage.record))
        if made == would_be and (made or not counting):
            reasons = ["its data gates would check again: their rules, code or data changed"] * stage.checks_again
            if len(differences) > len(counting):
                reasons.append("made in another numeric environment than this machine's")
            return "current", reasons
        if not counting:
            return "stale", [f"run {stage.record.run} made other bytes with the same key, and those are reused"]
    if not counting:
        return "stale", [stage.reason]
    return "stale", in_words(
        plan.chain, stage.stage, counting, {name: each.record for name, each in plan.stages.items()}
    )


def _recipe_today(store: Store, run: str) -> _Today:
    """Raises RecipeUnknown, and ConfigRefused where the recorded recipe cannot be used now either."""
    started = [record for record in records.read_skipping(store, RunRecord, f"runs/{run}") if record.event == "started"]
    if not started:
        raise RecipeUnknown(f"run {run} has no record of its start: what it ran with is unknown")
    start = started[-1]
    place = {"store": store.backend.address, "reuse_across_environments": True}
    options = _options(start.command)
    if options is not None:
        from flows.cli.overrides import load_with_overrides

        config, settings, selection, command = options
        try:
            recipe = load_with_overrides(config, settings)
            return _Today(recipe.model_copy(update=place), selection, command, config)
        except (LonghaulError, OSError):
            pass  # the recorded recipe stands in for a file that is gone or no longer a recipe
    selection = options[2] if options else Selection()
    copy = HOME / "runs" / run / "config.yaml"
    of_copy = ("longhaul", "run", "--config", str(copy), *_taken(selection)) if copy.is_file() else None
    recipe = check_recipe(start.recipe, f"the recipe that run {run} recorded")
    return _Today(recipe.model_copy(update=place), selection, of_copy, f"the recipe that run {run} recorded")


def _options(arguments: Sequence[str]) -> tuple[str, list[str], Selection, tuple[str, ...]] | None:
    """Of the command of a run: the recipe's file, the changes to it, the selection that matters, and the command that
    runs the same recipe; None for what is not `longhaul run`."""
    if arguments[:1] != ["run"]:
        return None
    from flows.cli.run import run

    try:
        options = run.make_context("run", list(arguments[1:])).params
    except (click.ClickException, click.exceptions.Exit):
        return None  # of another version's options
    seed = [f"seed={options['seed']}"] if options["seed"] is not None else []
    selection = Selection()
    if options["reuse"] or options["fork"]:
        parts = (options["start"], options["only"], options["until"], options["reuse"])
        others = {name: options[name] for name in ("selectors", "against", "fork")}
        selection = Selection(*parts, **others)
    command = ["longhaul", "run", "--config", options["config_path"]]
    command += [part for setting in options["settings"] for part in ("--set", setting)]
    command += ["--seed", str(options["seed"])] if seed else []
    return options["config_path"], [*options["settings"], *seed], selection, (*command, *_taken(selection))


def _taken(selection: Selection) -> list[str]:
    """The options of a selection."""
    named = {
        "--from": selection.start,
        "--only": selection.only,
        "--until": selection.until,
        "--reuse": selection.reuse,
        "--fork": selection.fork,
        "--against": selection.against,
    }
    chosen = [part for selector in selection.selectors for part in ("--select", selector)]
    return chosen + [part for option, value in named.items() if value for part in (option, value)]
