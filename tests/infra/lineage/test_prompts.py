"""Which models saw a prompt: those trained on it, those that came from them, and no others."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.lineage import prompts
from infra.lineage.index import LineageIndex
from infra.lineage.prompt_digest import prompt_digest
from infra.lineage.prompts import models_that_saw_prompt, read_new_samples
from infra.lineage.sample_files import write_samples
from infra.lineage.sample_row import KIND, Outcome, SampleRow
from infra.lineage.samples import samples_of
from infra.store import records
from infra.store.open import open_store
from infra.store.records import StageRecord
from infra.store.store import Ref, Store
from tests.infra.lineage.records import ref, stage_record


class Made:
    """A store with runs whose stages left samples."""

    def __init__(self, folder: Path, index: LineageIndex) -> None:
        self.folder, self.index = folder, index
        self.store = open_store(folder / "store")

    def samples(
        self, *texts: str, outcome: Outcome = "trained", digest: str | None = None, images: Sequence[str] = ()
    ) -> Ref:
        """Two responses to each prompt, the first right."""
        place = self.folder / "samples"
        shutil.rmtree(place, ignore_errors=True)
        times_trained = int(outcome == "trained")
        rows = [
            SampleRow(
                "id",
                digest or prompt_digest(text, images),
                text,
                "so",
                2,
                "rollout",
                outcome,
                times_trained,
                0,
                reward=reward,
                images=images,
            )
            for text in texts
            for reward in (1.0, 0.0)
        ]
        write_samples(place / "000000.parquet", rows)
        return self.store.put(place, KIND)

    def stage(self, run: str, stage: str, samples: Ref, model: Ref | None = None, **changed: Any) -> StageRecord:
        inputs = {"model": model} if model else {}
        outputs = {"model": ref("model", run, stage), "samples": samples}
        record = stage_record(stage, run, inputs=inputs, outputs=outputs, **changed)
        records.write(self.store, f"stages/{record.key}", record)
        records.write(self.store, f"stage-runs/{run}", record)
        return record

    def models_of(self, prompt: str) -> tuple[list[str], list[str]]:
        """RUN:STAGE of the models that were trained on a prompt, and of those that came from them."""
        self.index.sync(self.store)
        results = models_that_saw_prompt(self.index, self.store, prompt)
        assert not results.problems
        trained, descendants = (
            [f"{row.run}:{row.stage}" for row in rows] for rows in (results.trained, results.descendants)
        )
        return sorted(trained), sorted(descendants)


@pytest.fixture
def made(tmp_path: Path, opened: Callable[[], LineageIndex]) -> Made:
    made = Made(tmp_path, opened())
    sft = made.stage("a", "vanilla_sft", made.samples("one", "two"), minutes=1)
    made.stage("a", "rl", made.samples("two", "three"), sft.outputs["model"], minutes=2)
    records.write(made.store, "stage-runs/b", sft.model_copy(update={"run": "b", "reused_from": "a"}))
    made.stage("b", "rl", made.samples("three", "four", outcome="stale"), sft.outputs["model"], minutes=3)
    return made


def test_models_trained_on_a_prompt_and_those_made_from_them_are_listed_apart(made: Made) -> None:
    assert made.models_of("one") == (["a:vanilla_sft"], ["a:rl", "b:rl"])
    assert made.models_of("two") == (["a:rl", "a:vanilla_sft"], ["b:rl"])
    assert made.models_of("three") == (["a:rl"], [])
    assert made.models_of("  one\n") == made.models_of(prompt_digest("one")) == made.models_of("one")


def test_samples_of_an_earlier_version_are_found_by_the_text(made: Made) -> None:
    earlier = hashlib.sha256(b"how many mb are 3 gb?").hexdigest()
    samples = made.samples("How many Mb are 3 Gb?", digest=earlier)
    made.stage("old", "rl", samples)
    assert made.models_of("How many Mb are 3 Gb?") == made.models_of(earlier) == (["old:rl"], [])
    assert len(samples_of(made.store, samples, prompt="How many Mb are 3 Gb?")) == 2
    assert samples_of(made.store, samples, prompt="How many are 3 Gb?") == []


def test_an_images_digest_leads_to_the_models_that_saw_it(made: Made) -> None:
    circle, square = ("c" * 64, "d" * 64)
    samples = made.samples("How many?", "And now?", images=[circle, circle, square])
    record = made.stage("seen", "vanilla_sft", samples)
    made.stage("seen", "rl", made.samples("one"), record.outputs["model"])
    assert made.models_of(circle) == made.models_of(square) == (["seen:vanilla_sft"], ["seen:rl"])
    assert made.models_of("How many?") == ([], []), "the same words without the images make a different prompt"
    (use,) = models_that_saw_prompt(made.index, made.store, circle).uses
    assert (use.responses, use.times_trained, use.mean_reward) == (4, 4, 0.5)


def test_a_prompt_whose_responses_were_all_dropped_trained_nothing_but_is_listed(made: Made) -> None:
    assert made.models_of("four") == ([], [])
    (use,) = models_that_saw_prompt(made.index, made.store, "four").uses
    assert (use.responses, use.times_trained, use.mean_reward) == (2, 0, 0.5)
    assert [node.id for node in use.executions] == ["execution:b:rl"]


def test_a_prompt_that_nothing_saw_has_no_uses(made: Made) -> None:
    assert made.models_of("'; DROP TABLE lineage_prompts; --\0") == ([], [])
    assert models_that_saw_prompt(made.index, made.store, "five").uses == ()


def test_samples_are_read_once_and_new_ones_are_found(made: Made) -> None:
    before = made.models_of("three")
    for each in (made.folder / "store" / "objects").rglob("*.parquet"):
        each.chmod(0o644)
        each.unlink()
    assert made.models_of("three") == before
    made.index.rebuild(made.store)
    assert made.models_of("three") == before
    made.stage("c", "long2short/dpo", made.samples("three", "six"), minutes=9)
    assert made.models_of("three") == (sorted([*before[0], "c:long2short/dpo"]), [])


def test_samples_that_cannot_be_read_are_named_and_tried_again(made: Made) -> None:
    made.index.sync(made.store)
    (file, *_) = sorted((made.folder / "store" / "objects").rglob("*.parquet"))
    whole = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(whole[:-9])
    (problem,) = models_that_saw_prompt(made.index, made.store, "three").problems
    assert str(file) in problem
    file.write_bytes(whole)
    assert made.models_of("three") == (["a:rl"], [])


def test_two_processes_that_read_the_same_samples_count_them_once(
    made: Made, opened: Callable[[], LineageIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    made.index.sync(made.store)
    other, read = opened(), prompts.prompts_in

    def read_while_the_other_does(store: Store, ref: Ref) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(prompts, "prompts_in", read)
            read_new_samples(other, store)
        return read(store, ref)

    monkeypatch.setattr(prompts, "prompts_in", read_while_the_other_does)
    assert read_new_samples(made.index, made.store) == ()
    (use,) = models_that_saw_prompt(made.index, made.store, "one").uses
    assert (use.responses, use.times_trained) == (2, 2)
    assert made.models_of("two") == (["a:rl", "a:vanilla_sft"], ["b:rl"])


def test_samples_of_the_former_store_count_only_where_this_one_holds_them_too(made: Made, tmp_path: Path) -> None:
    assert made.models_of("two") == (["a:rl", "a:vanilla_sft"], ["b:rl"])
    other = Made(tmp_path / "other", made.index)
    other.index.rebuild(other.store)
    assert models_that_saw_prompt(other.index, other.store, "two").uses == ()
    # The same bytes as before, and so not read again.
    same = other.stage("c", "rl", other.samples("two", "three")).outputs["samples"]
    assert other.models_of("two") == (["c:rl"], [])
    (use,) = models_that_saw_prompt(other.index, other.store, "two").uses
    assert use.samples == same.digest
    assert [node.id for node in use.executions] == ["execution:c:rl"]
