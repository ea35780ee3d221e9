"""Rollout workers: real Ray actors around real engines, against the engine of one process."""

import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import psutil
import pytest

from infra.configs import EngineConfig
from infra.inference.engine import Engine
from infra.inference.requests import Completion, Request
from infra.inference.workers import RolloutWorkers
from infra.training.trainer import Trainer
from infra.weights.handover import HandOver
from tests.infra.engine_process import PROMPTS, requests, train_a_little
from tests.processes import running_below


@pytest.fixture(scope="module")
def workers(base: Path) -> Iterator[RolloutWorkers]:
    """Two workers, of which each generates few sequences at once, so that work is handed out as it is done."""
    workers = RolloutWorkers(base, EngineConfig(max_sequences=4, workers=2))
    yield workers
    workers.close()


def worker_processes() -> list[psutil.Process]:
    """The rollout workers that this process's Ray has started."""
    return [process for process, words in running_below() if "ray::_Worker" in " ".join(words)]


def tokens(completions: list[Completion]) -> list[list[int]]:
    return [completion.tokens for completion in completions]


def test_workers_sample_what_one_engine_samples(workers: RolloutWorkers, engine: Engine) -> None:
    assert workers.end_tokens == engine.end_tokens
    assert tokens(workers.generate_all(requests())) == tokens(engine.generate_all(requests()))


def test_workers_sample_from_new_weights_and_forget_old_prefixes(
    workers: RolloutWorkers, engine: Engine, trainer: Trainer, base: Path
) -> None:
    before = workers.generate_all(requests())
    train_a_little(trainer)
    try:
        HandOver(trainer, workers).to_rollout()
        HandOver(trainer, engine).to_rollout()
        after = workers.generate_all(requests())
        assert tokens(after) == tokens(engine.generate_all(requests()))
        assert tokens(after) != tokens(before)
    finally:
        trainer.load_weights(base)
        HandOver(trainer, workers).to_rollout()
        HandOver(trainer, engine).to_rollout()
    assert tokens(workers.generate_all(requests())) == tokens(before)


def test_short_responses_do_not_wait_for_a_long_one(workers: RolloutWorkers) -> None:
    long = Request(PROMPTS[0], 400, seed=0)
    short = [Request(prompt, 8, seed=i) for i, prompt in enumerate(PROMPTS * 3)]
    order = [completion.index for completion in workers.generate([long, *short])]
    assert order[-1] == 0
    assert sorted(order) == list(range(len(short) + 1))


def test_what_a_killed_worker_had_not_returned_is_given_to_another(workers: RolloutWorkers) -> None:
    work = [Request(prompt, 40 + 10 * (i % 3), seed=i) for i, prompt in enumerate(PROMPTS * 3)]
    undisturbed = workers.generate_all(work)
    seen: list[Completion] = []
    assert len(worker_processes()) == 2
    for completion in workers.generate(work):
        if not seen:
            worker_processes()[0].send_signal(signal.SIGKILL)
        seen.append(completion)
    assert sorted(c.index for c in seen) == list(range(len(work))), "a response is missing, or came twice"
    assert tokens(sorted(seen, key=lambda c: c.index)) == tokens(undisturbed)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_by_one_with_the_newest_weights(
    workers: RolloutWorkers, trainer: Trainer, base: Path
) -> None:
    HandOver(trainer, workers).to_rollout()
    before = workers.generate_all(requests())
    train_a_little(trainer)
    try:
        HandOver(trainer, workers).to_rollout()
        after = workers.generate_all(requests())
        for process in worker_processes():
            process.kill()
        # All are dead: the one that takes over was started from the base, and has to have the newest weights.
        assert tokens(workers.generate_all(requests())) == tokens(after) != tokens(before)
        HandOver(trainer, workers).to_rollout()
        assert len(worker_processes()) == 2
    finally:
        trainer.load_weights(base)
        HandOver(trainer, workers).to_rollout()


def test_nothing_of_ray_listens_where_other_machines_reach_it(workers: RolloutWorkers) -> None:
    below = [process for process, words in running_below() if "ray" in " ".join(words)]
    open_to = {c.laddr.ip for p in below for c in p.net_connections() if c.status == psutil.CONN_LISTEN}
    assert open_to and open_to <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_caller_that_stops_early_leaves_nothing_running(workers: RolloutWorkers) -> None:
    stream = workers.generate(requests())
    assert isinstance(stream, Generator)
    next(stream)
    stream.close()
    assert tokens(workers.generate_all(requests()[:2])) == tokens(workers.generate_all(requests()))[:2]


def test_a_prompt_that_fills_the_context_is_refused_with_the_key_to_change(workers: RolloutWorkers) -> None:
    with pytest.raises(ValueError, match=r"engine\.context"):
        workers.generate_all([Request([5] * workers.config.context, 3, seed=0)])
