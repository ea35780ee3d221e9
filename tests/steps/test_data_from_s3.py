"""The data stage with files in S3."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from pydantic import ValidationError

from flows.topology import STAGES
from infra.stages.contract import StageContext, StageOutput
from infra.store.sources import bring
from infra.store.store import StoreError
from steps.configs.data import DataConfig, NanoWorldConfig, SourcesConfig
from steps.configs.data_source import ROLES
from steps.nano_world.world import generate
from steps.problem import MalformedRow
from steps.recipe import load_recipe
from steps.stages.data import run
from tests.infra.store.store_common import contents, s3_place

NAMES = ROLES


@pytest.fixture
def uploaded(s3: None, tmp_path: Path, request: pytest.FixtureRequest) -> SourcesConfig:
    """The nano world's files, small, in a bucket."""
    world = NanoWorldConfig(train_problems=12, test_problems=6, sft_examples=20, long_cot_paths=12)
    generate(world, 0).save(tmp_path / "made")
    place = s3_place(request.node.nodeid)
    for name in NAMES:
        put(f"{place}/sets/{name}.jsonl", (tmp_path / "made" / f"{name}.jsonl").read_bytes())
    return sources({name: f"{place}/sets/{name}.jsonl" for name in NAMES})


def sources(paths: Mapping[Any, str]) -> SourcesConfig:
    return SourcesConfig.model_validate({role: [{"path": path}] for role, path in paths.items()})


def put(address: str, data: bytes) -> None:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=data)


def convert(folder: Path, config: SourcesConfig) -> StageOutput:
    """The stage, given what lies at the files' addresses."""
    folder.mkdir()
    recipe = load_recipe(Path("configs/smoke.yaml")).model_copy(update={"data": DataConfig(sources=config)})
    spec = STAGES["data"]
    sources = {key: bring(one, folder / key) for key, one in spec.sources(recipe, folder / "digests.json").items()}
    context = StageContext(0, {}, folder, folder / "checkpoints", lambda metrics: None, sources)
    return run(context, spec.settings(recipe))


def test_files_from_s3_are_the_same_as_from_a_folder(uploaded: SourcesConfig, tmp_path: Path) -> None:
    output = convert(tmp_path / "scratch", uploaded)
    local = sources({name: str(tmp_path / "made" / f"{name}.jsonl") for name in NAMES})
    same = convert(tmp_path / "other", local)
    assert contents(output.outputs["data"][1]) == contents(same.outputs["data"][1])
    assert output.metrics == same.metrics


def test_an_object_that_is_not_there_is_named(uploaded: SourcesConfig, tmp_path: Path) -> None:
    paths = {role: uploaded.of(role)[0].path or "" for role in NAMES}
    with pytest.raises(StoreError, match=r"data\.sources\.sft\.0\.path: .*sft\.jsonll: there is nothing at"):
        convert(tmp_path / "scratch", sources({**paths, "sft": paths["sft"] + "l"}))


def test_a_malformed_row_is_named_with_the_objects_address(uploaded: SourcesConfig, tmp_path: Path) -> None:
    address = uploaded.train[0].path or ""
    put(address, b"{}\n")
    with pytest.raises(MalformedRow, match=f"^{address}:1: "):
        convert(tmp_path / "scratch", uploaded)


@pytest.mark.parametrize("address", ["s3://bucket", "s3://bucket/", "s3:/bucket/key", "s3://bucket/folder/", "s3:///a"])
def test_what_is_not_an_objects_address_is_refused_early(address: str) -> None:
    with pytest.raises(ValidationError, match=r"train\.0\.path\n.*not the address of an object"):
        sources({"train": address, "test": "a"})
