"""What RL keeps between iterations, so that a killed run continues as if nothing had happened.

At the end of each iteration everything that the next one starts from is written as one folder that appears whole or
not at all:

    model/          the weights
    state.json      the replay buffer, success rates and random state of the prompt sampler, the ledger of prompts
    history.json    the metrics so far, apart from the rest: they hold seconds, which no two runs have alike

The optimizer is not in it: it is reset in each iteration (§2.3.2). What an iteration samples depends on that folder and
on seeds alone: one that was cut off is run again from its start, and comes out the same. So does RL that continues from
such a folder of another run (`longhaul run --fork`), for which every `rl.keep_every`th stays.

Beside these folders stands `samples/`, a file for each iteration with the responses that it was trained on. An
iteration's file is there before its folder, and files of iterations that are run again are dropped: at any time the
files are those of the iterations that are done, and after a kill they are those of a run that was not killed.
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, RootModel

from infra.files import folder_written_aside, write_text_atomically
from infra.lineage.sample_files import write_samples
from infra.lineage.sample_row import SampleRow
from infra.training.ranks import AnyTrainer
from steps.rl.ledger import LedgerEntry
from steps.rl.metrics import IterationMetrics
from steps.rl.prompt_sampling import SamplerState
from steps.rl.trajectory import Group


class RlState(BaseModel):
    """Where RL stands before an iteration, apart from the weights."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    next_iteration: int
    sampler: SamplerState
    groups: list[Group]
    """The replay buffer."""
    history: list[IterationMetrics]
    """Metrics of the iterations that are done."""
    ledger: list[LedgerEntry]


@dataclass(frozen=True)
class Origin:
    """An iteration of an earlier run, from which RL begins."""

    checkpoint: Path
    """Its folder, as `Checkpoints.save` wrote it."""
    samples: Path
    """The samples of that run, of this iteration at least."""


class SamplesMissing(RuntimeError):
    """A finished iteration has no file of samples; the message names it and the way out."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one stage: a folder per iteration, of which the newest is kept and every `keep_every`th, and
    all samples so far."""

    folder: Path
    keep_every: int | None = None
    origin: Origin | None = None
    """Where RL begins; None: at the stage's model, with nothing in the replay buffer."""

    @property
    def samples(self) -> Path:
        """The folder of the samples: `000012.parquet` holds those of iteration 12."""
        return self.folder / "samples"

    @property
    def retained(self) -> dict[int, Path]:
        """The folders that stay, by the number of iterations done."""
        numbered = {int(path.name): path for path in self._whole()}
        return {number: path for number, path in numbered.items() if self._is_kept(number)}

    def save(self, state: RlState, trainer: AnyTrainer, samples: Iterable[SampleRow]) -> None:
        """Write the state before the next iteration, with the samples of the one that is done, and drop older states
        that do not stay once it is there."""
        write_samples(self.samples / _file_of(state.next_iteration - 1), samples)
        place = self.folder / f"{state.next_iteration:06d}"
        with folder_written_aside(place) as aside:
            trainer.save(aside / "model")
            write_text_atomically(aside / "state.json", state.model_dump_json(exclude={"history"}))
            write_text_atomically(aside / "history.json", state.model_dump_json(include={"history"}))
        for other in self.folder.iterdir():
            # Names that begin with a dot are what a killed process was writing.
            stays = other.name.isdecimal() and self._is_kept(int(other.name))
            if other not in (place, self.samples) and not stays:
                shutil.rmtree(other)

    def save_batch(self, iteration: int, groups: list[Group]) -> Path:
        """Write, beside the checkpoints, the groups on which training failed. Returns the file's path."""
        place = self.folder.with_name(f"{self.folder.name}-failed-{iteration:06d}.json")
        write_text_atomically(place, RootModel[list[Group]](groups).model_dump_json(indent=1))
        return place

    def restore(self, trainer: AnyTrainer) -> RlState | None:
        """The newest state, or else that of the origin, its weights put into the trainer; None where there is neither.
        Raises SamplesMissing."""
        whole = self._whole()
        place = whole[-1] if whole else self.origin.checkpoint if self.origin else None
        if place is None:
            self._keep_samples(0)
            return None
        parts = [json.loads((place / name).read_text(encoding="utf-8")) for name in ("state.json", "history.json")]
        state = RlState.model_validate(parts[0] | parts[1])
        if not whole and self.origin is not None:
            self._copy_samples(self.origin.samples, state.next_iteration)
        self._keep_samples(state.next_iteration)
        trainer.load_weights(place / "model")
        return state

    def _whole(self) -> list[Path]:
        """The folders that are there, oldest first."""
        return sorted(path for path in self.folder.glob("[0-9]*") if path.is_dir())

    def _is_kept(self, number: int) -> bool:
        return self.keep_every is not None and number % self.keep_every == 0

    def _copy_samples(self, samples: Path, iterations: int) -> None:
        """Take over the samples of the iterations that another run has done."""
        self.samples.mkdir(parents=True, exist_ok=True)
        for name in map(_file_of, range(iterations)):
            aside = self.samples / f".{name}"
            shutil.copyfile(samples / name, aside)
            os.replace(aside, self.samples / name)

    def _keep_samples(self, iterations: int) -> None:
        """Drop the samples of later iterations, and what a killed process was writing."""
        valid = {_file_of(iteration) for iteration in range(iterations)}
        there = {path.name: path for path in self.samples.iterdir()} if self.samples.exists() else {}
        for name in there.keys() - valid:
            there[name].unlink()
        if missing := valid - there.keys():
            raise SamplesMissing(
                f"{self.samples / min(missing)} is missing, and held what a finished iteration was trained on: "
                f"put it back, or delete {self.folder} to start from scratch"
            )


def _file_of(iteration: int) -> str:
    return f"{iteration:06d}.parquet"
