"""Reinforcement learning (§2.3, §2.6.1): iterations of a rollout phase and a training phase.

The policy at an iteration's start is its reference: the trainer recomputes the reference log-probabilities then, and
the optimizer is reset. Partial rollouts, rewards, sampling and the loss are the report's, each in the module that is
named after it. Added to the report: groups whose rewards are all equal carry no signal and are left out of the
training phase; what an iteration starts from is saved, so that a killed run continues. Long2short RL (§2.4) is the same
with a length reward and a lower longest response.

    longhaul run --only rl --config configs/nano.yaml
    longhaul run --only long2short/rl --config configs/nano.yaml
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.lineage.sample_row import SampleRow
from infra.progress.tasks import say, task
from infra.training.interface import LossNotFinite
from steps.configs.rl import RlConfig
from steps.problem import Problem
from steps.rl.checkpoint import Checkpoints, RlState
from steps.rl.credit import credit
from steps.rl.ledger import LedgerEntry
from steps.rl.metrics import HandoverMetrics, IterationMetrics, TrainingMetrics, UpdateMetrics
from steps.rl.prompt_sampling import PromptSampler
from steps.rl.replay_buffer import ReplayBuffer
from steps.rl.rollout import rollout, rollout_metrics
from steps.rl.samples import sample_rows
from steps.rl.trajectory import Group
from steps.rl.update import Sample, Update, update, update_metrics
from steps.workbench import Workbench


def train_on(bench: Workbench, groups: Sequence[Group], config: RlConfig, iteration: int) -> TrainingMetrics:
    """The training phase on groups that are done. Returns its metrics."""
    started = time.perf_counter()
    credited = [credit(group, config, iteration) for group in groups]
    retained = [
        [Sample(group.prompt, one.trajectory, one.advantage) for one in row]
        for group, row in zip(groups, credited, strict=True)
        if any(one.advantage for one in row)
    ]
    bench.random(f"updates {iteration}").shuffle(retained)
    bench.trainer.reset_optimizer()
    shares = [share for start in range(config.updates) if (share := retained[start :: config.updates])]
    # All references are taken before the first update: they belong to the policy that the iteration started from.
    updates = [
        Update.prepare(bench, [sample for row in share for sample in row], config, iteration) for share in shares
    ]
    with task("training", total=len(updates), unit="updates") as progress:
        results = []
        for prepared in updates:
            results.append(update(bench.trainer, prepared, config, iteration))
            progress.advance(1)
    steps = update_metrics(updates, results) if results else UpdateMetrics()
    return TrainingMetrics(
        no_signal_share=1 - len(retained) / len(groups) if groups else 0.0,
        reward=statistics.fmean(one.total_reward for row in credited for one in row) if credited else None,
        training_seconds=time.perf_counter() - started,
        **steps.model_dump(),
    )


def drop_long_prompts(bench: Workbench, problems: Sequence[Problem], config: RlConfig) -> list[Problem]:
    """The problems whose prompt leaves room for the longest response, in the engine's context and in a training row.

    Says how many do not. Raises ValueError if none is left.
    """
    room = min(bench.context, config.sequence_length) - config.max_response_tokens
    fitting = [problem for problem in problems if len(bench.chat.prompt(problem)) <= room]
    if len(fitting) < len(problems):
        limits = f"engine.context {bench.context}, rl.sequence_length {config.sequence_length}"
        summary = (
            f"{len(problems) - len(fitting)} of {len(problems)} prompts are longer than the {room} tokens that "
            f"rl.max_response_tokens {config.max_response_tokens} leaves them ({limits})"
        )
        if not fitting:
            raise ValueError(f"{summary}: raise the limits or curate shorter prompts")
        say(f"{summary}, and are left out")
    return fitting


@dataclass
class RlRun:
    """A run of RL. Everything but the weights, which are in the bench's trainer and engine."""

    bench: Workbench
    problems: Sequence[Problem]
    pass_rates: Mapping[str, float]
    config: RlConfig
    checkpoints: Checkpoints

    def __post_init__(self) -> None:
        problems, rng = drop_long_prompts(self.bench, self.problems, self.config), self.bench.random("prompts")
        self.sampler = PromptSampler.start(problems, self.pass_rates, self.config.sampling, rng)
        self.buffer = ReplayBuffer()
        self.history: list[IterationMetrics] = []
        self.ledger: list[LedgerEntry] = []
        self.samples: list[SampleRow] = []
        """The responses of the groups that left the replay buffer in the last iteration."""

    @property
    def state(self) -> RlState:
        """What the next iteration starts from."""
        return RlState(
            next_iteration=len(self.history),
            sampler=self.sampler.state,
            groups=self.buffer.groups,
            history=self.history,
            ledger=self.ledger,
        )

    def load_state(self, state: RlState) -> None:
        """Continue from a state whose weights are in the trainer.

        It may be that of a run with other problems or settings. A group that these rule out leaves the replay buffer,
        without an entry in the ledger: its problem is gone or changed, or it has a response that is too long.
        """
        self.sampler.restore(state.sampler)
        problems = {problem.id: problem for problem in self.sampler.problems}
        groups = [group for group in state.groups if self._continues(group, problems)]
        if len(groups) < len(state.groups):
            say(
                f"{len(state.groups) - len(groups)} of {len(state.groups)} groups of unfinished responses are dropped: "
                "their problems are gone or changed, or responses are longer than rl.max_response_tokens "
                f"{self.config.max_response_tokens}"
            )
        self.buffer, self.history, self.ledger = ReplayBuffer(groups), state.history, state.ledger

    def _continues(self, group: Group, problems: Mapping[str, Problem]) -> bool:
        most = self.config.max_response_tokens
        fits = all(one.length <= most if one.done else one.length < most for one in group.trajectories)
        return fits and problems.get(group.problem.id) == group.problem

    def iterate(self) -> IterationMetrics:
        """One iteration: hand-over, rollout, training. Returns its metrics.

        Raises LossNotFinite, once the groups that it was trained on are saved; weights and buffer are of no use then.
        """
        iteration = len(self.history)
        phases = self.bench.hand_over()
        result = rollout(self.bench, self.buffer, self.sampler, self.config, iteration)
        phases |= self.bench.resume_training()
        rolled_out = rollout_metrics(result, self.buffer, self.config, iteration)
        try:
            trained = train_on(self.bench, result.done, self.config, iteration)
        except LossNotFinite as error:
            place = self.checkpoints.save_batch(iteration, result.done)
            raise LossNotFinite(f"iteration {iteration}: {error}. The groups trained on are in {place}") from error
        for group in result.done:
            self.sampler.observe(group.problem, statistics.fmean(group.rewards))
        left = [(result.done, "trained"), (result.stale, "stale"), (result.failed, "failed")]
        self.ledger += [
            LedgerEntry(problem_id=group.problem.id, started=group.started, ended=iteration, outcome=outcome)
            for groups, outcome in left
            for group in groups
        ]
        self.samples = list(sample_rows(self.bench.chat, result, self.config, iteration))
        self.history.append(IterationMetrics.join(iteration, rolled_out, trained, HandoverMetrics.of(phases)))
        return self.history[-1]


def reinforce(
    bench: Workbench,
    problems: Sequence[Problem],
    pass_rates: Mapping[str, float],
    config: RlConfig,
    checkpoints: Checkpoints,
) -> RlState:
    """Run the iterations that are left; the trained policy is in the bench's trainer.

    Returns where RL stands at the end: each iteration's metrics, and the ledger of prompts. An iteration whose loss is
    not finite is tried once more from where it began; a second time it ends RL. Raises LossNotFinite.
    """
    run = RlRun(bench, problems, pass_rates, config, checkpoints)
    state = checkpoints.restore(bench.trainer)
    if state is not None:
        run.load_state(state)
        say(f"continues after {len(run.history)} finished iterations")
    for metrics in run.history:
        bench.log(metrics.logged())
    failed: int | None = None
    with task("RL", total=config.iterations, unit="iterations") as progress:
        progress.advance(len(run.history))
        while len(run.history) < config.iterations:
            try:
                metrics = run.iterate()
            except LossNotFinite as error:
                if failed == len(run.history):
                    raise
                failed = len(run.history)
                say(f"{error}; the iteration is tried once more")
                run = RlRun(bench, problems, pass_rates, config, checkpoints)
                state = checkpoints.restore(bench.trainer)
                if state is None:
                    bench.trainer.load_weights(bench.model)
                    state = run.state
                run.load_state(state)
                continue
            checkpoints.save(run.state, bench.trainer, run.samples)
            bench.log(metrics.logged())
            progress.advance(1)
            progress.note(f"accuracy {metrics.accuracy or 0:.2f}, {metrics.response_tokens or 0:.0f} tokens")
    if not any(metrics.groups_done for metrics in run.history):
        say("no group was finished: raise rl.token_budget or rl.iterations")
    return run.state
