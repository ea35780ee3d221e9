"""Plans of each size: how many nodes, had how, and what no size may lack. No account is asked."""

import base64
import email
from typing import Any

import pytest
import yaml

from infra.cluster.config import ClusterConfig
from tests.terraform.scratch import SOURCE, Terraform

CLUSTER = SOURCE.parent / "configs" / "cluster"
SIZES = ("small", "medium", "large")


@pytest.fixture(scope="session")
def plans(apart: Terraform, mine: Any) -> dict[str, dict[str, Any]]:
    """A first plan of each size."""
    root = "stacks/cloud"
    apart.ready_to_apply(root)
    return {
        size: apart.plan(root, f"-var-file={apart.folder / 'sizes' / size}.tfvars", f"-var-file={mine}")
        for size in SIZES
    }


def of_type(plan: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """What a plan would make of one type, by address."""
    changes = [change for change in plan["resource_changes"] if change["type"] == kind and change["mode"] == "managed"]
    return {change["address"]: change["change"]["after"] for change in changes}


def groups(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Node groups by name."""
    return {group["node_group_name"]: group for group in of_type(plan, "aws_eks_node_group").values()}


def template(plan: dict[str, Any], group: str) -> dict[str, Any]:
    """The launch template of a node group."""
    return of_type(plan, "aws_launch_template")[f'module.node_group["{group}"].aws_launch_template.this']


def efa_interfaces(plan: dict[str, Any], group: str) -> int:
    """How many interfaces for EFA a node of a group gets."""
    return sum(one["interface_type"] == "efa-only" for one in template(plan, group)["network_interfaces"])


def test_every_size_is_planned() -> None:
    assert {file.stem for file in (SOURCE / "sizes").glob("*.tfvars")} == set(SIZES)


@pytest.mark.parametrize("size", SIZES)
def test_no_size_pays_for_gpus_while_nothing_runs(plans: dict[str, dict[str, Any]], size: str) -> None:
    for name, group in groups(plans[size]).items():
        scaling = group["scaling_config"][0]
        assert scaling["min_size"] == scaling["desired_size"] == (0 if name != "system" else scaling["min_size"])
        if group["ami_type"].endswith("NVIDIA"):
            assert [taint["key"] for taint in group["taint"]] == ["nvidia.com/gpu"]


@pytest.mark.parametrize("size", SIZES)
def test_each_stage_finds_a_disk_that_is_large_enough(plans: dict[str, dict[str, Any]], size: str) -> None:
    pools: dict[str, float] = {}
    for group in plans[size]["planned_values"]["outputs"]["pools"]["value"].values():
        pools[group["pool"]] = min(group["scratch_gib"], pools.get(group["pool"], group["scratch_gib"]))
    cluster = ClusterConfig(**yaml.safe_load((CLUSTER / f"{size}.yaml").read_text(encoding="utf-8")))
    for resources in (cluster.default, *cluster.stages.values()):
        assert resources.pool is not None and resources.disk_gb <= pools[resources.pool]


@pytest.mark.parametrize("size", SIZES)
def test_no_size_lets_pods_become_their_node(plans: dict[str, dict[str, Any]], size: str) -> None:
    for template_ in of_type(plans[size], "aws_launch_template").values():
        options = template_["metadata_options"][0]
        assert (options["http_tokens"], options["http_put_response_hop_limit"]) == ("required", 1)
        assert template_["block_device_mappings"][0]["ebs"][0]["encrypted"] == "true"


@pytest.mark.parametrize("size", SIZES)
def test_no_size_is_open_to_the_internet(plans: dict[str, dict[str, Any]], size: str) -> None:
    (cluster,) = of_type(plans[size], "aws_eks_cluster").values()
    assert (
        cluster["vpc_config"][0]["endpoint_private_access"] and not cluster["vpc_config"][0]["endpoint_public_access"]
    )
    (database,) = of_type(plans[size], "aws_db_instance").values()
    assert not database["publicly_accessible"] and database["storage_encrypted"]
    rules = of_type(plans[size], "aws_vpc_security_group_ingress_rule").values()
    assert rules and all(rule["cidr_ipv4"] in (None, "10.64.0.0/16") for rule in rules)


def test_small_is_one_node_of_eight_gpus(plans: dict[str, dict[str, Any]]) -> None:
    plan = plans["small"]
    gpu = {name: group for name, group in groups(plan).items() if group["ami_type"].endswith("NVIDIA")}
    assert list(gpu) == ["train"]
    assert gpu["train"]["scaling_config"][0]["max_size"] == 1
    assert plan["planned_values"]["outputs"]["pools"]["value"]["train"]["gpus"] == 8
    assert not of_type(plan, "aws_placement_group") and not of_type(plan, "aws_fsx_lustre_file_system")


def test_medium_trains_on_four_nodes_with_efa_and_rolls_out_on_spot(plans: dict[str, dict[str, Any]]) -> None:
    plan = plans["medium"]
    train, rollout = groups(plan)["train"], groups(plan)["rollout"]
    assert (train["scaling_config"][0]["max_size"], train["capacity_type"]) == (4, "ON_DEMAND")
    assert efa_interfaces(plan, "train") == 32
    assert len(of_type(plan, "aws_placement_group")) == 1
    assert rollout["capacity_type"] == "SPOT" and efa_interfaces(plan, "rollout") == 0


def test_large_trains_in_a_capacity_block_of_64_nodes(plans: dict[str, dict[str, Any]]) -> None:
    plan = plans["large"]
    train = groups(plan)["train"]
    assert (train["scaling_config"][0]["max_size"], train["capacity_type"]) == (64, "CAPACITY_BLOCK")
    assert efa_interfaces(plan, "train") == 16
    assert template(plan, "train")["instance_market_options"][0]["market_type"] == "capacity-block"
    assert not of_type(plan, "aws_placement_group"), "beside a reservation no instance of a placement group starts"
    (database,) = of_type(plan, "aws_db_instance").values()
    assert database["multi_az"] and len(of_type(plan, "aws_nat_gateway")) == 3


@pytest.mark.parametrize(("size", "parts"), [("small", 1), ("medium", 2)])
def test_gpu_nodes_start_with_data_that_cloud_init_can_read(
    plans: dict[str, dict[str, Any]], size: str, parts: int
) -> None:
    message = email.message_from_string(base64.b64decode(template(plans[size], "train")["user_data"]).decode())
    assert message.is_multipart() and not message.defects
    parts_of_it = [part for part in message.walk() if not part.is_multipart()]
    node, *script = [str(part.get_payload()) for part in parts_of_it]
    assert yaml.safe_load(node)["spec"]["instance"]["localStorage"] == {"strategy": "RAID0"}
    assert len(script) == parts - 1
    # Without EFA no pod asks for huge pages, which would be memory that nothing can use.
    assert all(one.startswith("#!/bin/sh\n") and "vm.nr_hugepages=5128" in one for one in script)
