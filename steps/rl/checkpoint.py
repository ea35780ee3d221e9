"""What RL keeps between iterations, so that a killed run goes on as if nothing had happened.

At the end of each iteration everything that the next one starts from is written as one folder that appears whole or
not at all: the weights, the replay buffer, success rates and random state of the prompt sampler, the metrics so far,
and the ledger of prompts. The optimizer is not in it, for it starts anew in each iteration (§2.3.2). What an iteration
samples depends on that folder and on seeds alone: one that was cut off is run again from its start, and comes out the
same.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, RootModel

from infra.files import folder_written_aside, write_text_atomically
from infra.trainer_ranks import AnyTrainer
from steps.rl.prompt_sampling import SamplerState
from steps.rl.trajectory import Group


class LedgerEntry(BaseModel):
    """A group that left the replay buffer: which prompt, when it was started, and when it was trained on or dropped."""

    model_config = ConfigDict(frozen=True)

    problem_id: str
    started: int
    """The iteration in which its rollouts began."""
    ended: int
    """The iteration in which it was handed out."""
    outcome: Literal["trained", "stale", "failed"]
    """What became of it: handed to training, dropped as stale, or left out because too few of its responses could be
    judged."""


class RlState(BaseModel):
    """Where RL stands before an iteration, apart from the weights."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    next_iteration: int
    sampler: SamplerState
    groups: list[Group]
    """The replay buffer."""
    history: list[dict[str, Any]]
    """Metrics of the iterations that are done."""
    ledger: list[LedgerEntry]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one stage: a folder per iteration, of which the newest is kept."""

    folder: Path

    def save(self, state: RlState, trainer: AnyTrainer) -> None:
        """Write the state before the next iteration, and drop older ones once it is there."""
        place = self.folder / f"{state.next_iteration:06d}"
        with folder_written_aside(place) as aside:
            trainer.save(aside / "model")
            write_text_atomically(aside / "state.json", state.model_dump_json())
        for other in self.folder.iterdir():
            # Names that begin with a dot are what a killed process was writing.
            if other != place:
                shutil.rmtree(other)

    def save_batch(self, iteration: int, groups: list[Group]) -> Path:
        """Write, beside the checkpoints, the groups on which training failed. Returns the file's path."""
        place = self.folder.with_name(f"{self.folder.name}-failed-{iteration:06d}.json")
        write_text_atomically(place, RootModel[list[Group]](groups).model_dump_json(indent=1))
        return place

    def restore(self, trainer: AnyTrainer) -> RlState | None:
        """The newest state, its weights put into the trainer; None where there is none."""
        whole = sorted(path for path in self.folder.glob("[0-9]*") if path.is_dir())
        if not whole:
            return None
        state = RlState.model_validate_json((whole[-1] / "state.json").read_text(encoding="utf-8"))
        trainer.load_weights(whole[-1] / "model")
        return state
