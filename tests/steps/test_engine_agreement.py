"""The comparison of engine and trainer on an imported checkpoint, with a real engine."""

import json
import shutil
from pathlib import Path

import pytest

from infra.inference.engine import Engine
from steps.checkpoint_refused import CheckpointRefused
from steps.engine_agreement import LARGEST, check_agreement
from steps.sampling_bench import SamplingBench


def test_the_engine_computes_the_shipped_base_as_the_trainer_does(engine: Engine, base: Path) -> None:
    assert check_agreement(SamplingBench(base, engine=engine, context=512, seed=0), "float32") < 1e-5


@pytest.mark.parametrize("dtype", LARGEST)
def test_a_key_of_the_configuration_that_the_engine_reads_differently_is_noticed(
    engine: Engine, base: Path, tmp_path: Path, dtype: str
) -> None:
    folder = shutil.copytree(base, tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    rope = config["rope_parameters"] | {"rope_type": "linear", "factor": 4.0}
    (folder / "config.json").write_text(json.dumps(config | {"rope_parameters": rope}))
    with pytest.raises(CheckpointRefused, match=rf"vLLM.*transformers.*expected at most {LARGEST[dtype]} in {dtype}"):
        check_agreement(SamplingBench(folder, engine=engine, context=512, seed=0), dtype)
