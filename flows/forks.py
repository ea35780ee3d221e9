"""Continuing from an iteration of an earlier run: `--fork RUN:STAGE@N`.

The iteration that the run kept and the samples of those before it become inputs of the stage, and so parts of its key.
The problems, and whatever the recipe says, may be others; the model that the stage began with may not.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flows.models import run_records
from infra.errors import LonghaulError
from infra.stages.key import UNKNOWN, digest_of_files
from infra.store.records import ForkPoint, StageRecord
from infra.store.store import Ref, Store, StoreError

FORKABLE = ("rl", "long2short/rl")
"""The stages that consist of iterations."""

FORM = re.compile(r"([\w.=-]+):([a-z0-9_/]+)@([0-9]{1,9})", re.ASCII)

STATE_FILES = ("model/", "state.json")
"""What of a kept iteration shapes what is made from it; the metrics so far hold seconds."""

INPUTS = ("fork", "fork_samples")
"""Names of the inputs that a stage has where it continues from an iteration."""


class ForkRefused(LonghaulError, ValueError):
    """A stage cannot continue from there; the message says why, and from where it can."""


def parse_fork(text: str) -> ForkPoint:
    """The run, stage and iteration that RUN:STAGE@N names. Raises ForkRefused."""
    match = FORM.fullmatch(text)
    if match is None:
        raise ForkRefused(f"--fork {text!r} is not RUN:STAGE@N, as in 20261130-091500-nano:rl@20")
    if match[2] not in FORKABLE:
        raise ForkRefused(f"--fork {text}: {match[2]} has no iterations; {' and '.join(FORKABLE)} have")
    return ForkPoint(run=match[1], stage=match[2], iteration=int(match[3]))


@dataclass(frozen=True)
class Fork:
    """An iteration that a run kept, found in the store."""

    name: str
    """As it was asked for."""
    record: StageRecord
    """Of the stage that kept it."""
    iteration: int
    """Iterations that are done there."""

    @property
    def point(self) -> ForkPoint:
        """Where it is, by the run that really ran the stage."""
        run = self.record.reused_from or self.record.run
        return ForkPoint(run=run, stage=self.record.stage, iteration=self.iteration)

    @property
    def inputs(self) -> dict[str, Ref]:
        """What a stage reads that continues from it."""
        return dict(zip(INPUTS, (self.record.iterations[self.iteration], self.record.outputs["samples"]), strict=True))

    def upstream(self, store: Store) -> dict[str, str]:
        """Digests of what it reads of these: of the samples, those of the iterations that are done."""
        samples = tuple(f"{iteration:06d}.parquet" for iteration in range(self.iteration))
        return {
            name: digest_of_files(store.manifest(ref.digest), ref.digest, files)
            for (name, ref), files in zip(self.inputs.items(), (STATE_FILES, samples), strict=True)
        }

    def check(self, upstream: Mapping[str, str], base: str, iterations: int) -> None:
        """Whether a stage can continue from it.

        Args:
            upstream: digests of the stage's inputs; UNKNOWN for one that is yet to be made.
            base: the stage that makes the model that it begins with.
            iterations: of the stage in all.

        Raises ForkRefused.
        """
        began, begins = self.record.inputs["model"].digest, upstream["model"]
        if begins != began:
            what = f"{base} would run" if begins == UNKNOWN else f"{base}'s model is {begins[:12]}"
            raise ForkRefused(
                f"--fork {self.name}: {self.record.stage} of that run began with model {began[:12]} of {base}, and now "
                f"{what}: add --reuse {self.record.run}, which takes that run's model"
            )
        if iterations <= self.iteration:
            raise ForkRefused(
                f"--fork {self.name}: {self.iteration} iterations are done there, and "
                f"{self.record.stage.replace('/', '.')}.iterations is {iterations}: raise it, or continue from an "
                "earlier iteration"
            )


def find_fork(store: Store, name: str) -> Fork:
    """What RUN:STAGE@N names.

    Raises ForkRefused where the run did not keep it, with those that it kept, and ModelNotFound for an unknown run.
    """
    named = parse_fork(name)
    finished = {record.stage: record for record in run_records(store, named.run)}
    record = finished.get(named.stage)
    if record is None:
        stages = ", ".join(finished) or "none"
        raise ForkRefused(f"--fork {name}: {named.stage} of that run did not finish; finished stages: {stages}")
    there = {number: ref for number, ref in sorted(record.iterations.items()) if _is_there(store, ref)}
    if named.iteration in there:
        return Fork(name, record, named.iteration)
    gone = named.iteration in record.iterations
    reason = "was deleted by `longhaul store gc`" if gone else "was not kept"
    if not there:
        rest = (
            f"none is there. `longhaul run --only {named.stage} --force` with "
            f"{named.stage.replace('/', '.')}.keep_every makes and keeps them"
        )
    else:
        rest = f"there are {', '.join(map(str, there))}"
    earlier = record.forked_from
    if earlier is not None and named.iteration <= earlier.iteration:
        rest += f". It continued from {earlier}: name that run for what came before"
    raise ForkRefused(f"--fork {name}: iteration {named.iteration} {reason}; {rest}")


def _is_there(store: Store, ref: Ref) -> bool:
    try:
        store.manifest(ref.digest)
    except StoreError:
        return False
    return True
