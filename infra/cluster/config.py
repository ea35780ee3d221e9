"""What stages get on a cluster: machines, image, secrets. One machine ignores it, and no stage's key holds it.

Light to import: every recipe is read with it.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

POOL_LABEL = "longhaul/pool"
"""The label by which nodes say what they are for; terraform/modules/node_group sets it."""
GPU = "nvidia.com/gpu"
EFA = "vpc.amazonaws.com/efa"
HUGE_PAGES = "hugepages-2Mi"
EFA_HUGE_PAGES = "5120Mi"
"""Huge pages that EFA's library takes for its buffers, whatever the number of interfaces."""
NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"


class Toleration(BaseModel):
    """A taint that a stage's pods tolerate, in Kubernetes' words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(min_length=1, description="The taint's key.")
    operator: Literal["Exists", "Equal"] = Field("Exists", description="Whether the value counts.")
    value: str | None = Field(None, description="The taint's value, with Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="The taint's effect (default: all)."
    )

    @model_validator(mode="after")
    def _has_a_value_where_it_counts(self) -> "Toleration":
        if (self.operator == "Equal") != (self.value is not None):
            raise ValueError("give `value` with operator Equal, and none with Exists")
        return self


class StageResources(BaseModel):
    """What each node of a stage has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: float = Field(2, gt=0, description="Cores.")
    memory_gb: float = Field(8, gt=0, description="Memory, in GiB.")
    disk_gb: float = Field(20, gt=0, description="Disk for scratch, fetched folders and caches, in GiB.")
    shared_memory_gb: float = Field(
        0, ge=0, description="/dev/shm, in GiB, out of the memory: NCCL and weights pass it. 0: the node's 64 MiB."
    )
    gpus: int = Field(0, ge=0, le=16, description="GPUs.")
    efa: int = Field(
        0, ge=0, le=32, description="EFA interfaces, for stages on several nodes: all that the instance type has."
    )
    nodes: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Nodes; above 1 they start and end as one. As many as trainer.ranks and engine.workers fill with "
        "`gpus` on each, if not given.",
    )
    pool: str | None = Field(None, pattern=NAME, description="Nodes with this label longhaul/pool (default: any).")
    node_selector: dict[str, str] = Field({}, description="Further labels that nodes must have.")
    tolerations: tuple[Toleration, ...] = Field(
        (), description="Taints to tolerate, besides that of GPU nodes, which a stage with GPUs always tolerates."
    )
    spot: bool = Field(False, description="Whether nodes may be taken away: the stage is retried more often.")
    retries: int | None = Field(
        None, ge=0, le=4, description="How often the stage is retried; 1 if not given, and 4 on spot nodes."
    )
    retry_minutes: int = Field(2, ge=0, le=120, description="Minutes before a retry.")
    hours: float = Field(120, ge=0.1, description="An attempt is ended after this time.")

    @model_validator(mode="after")
    def _fits_together(self) -> "StageResources":
        if self.efa and not self.gpus:
            raise ValueError("efa needs gpus: instance types with EFA here have GPUs")
        if self.shared_memory_gb >= self.memory_gb:
            raise ValueError(
                f"shared_memory_gb is {self.shared_memory_gb:g} and is taken out of memory_gb, {self.memory_gb:g}: "
                "lower it, or raise memory_gb"
            )
        if self.pool is not None and POOL_LABEL in self.node_selector:
            raise ValueError(f"node_selector has {POOL_LABEL}, which pool sets: give one of the two")
        return self

    @property
    def effective_retries(self) -> int:
        """How often it is retried."""
        return self.retries if self.retries is not None else 4 if self.spot else 1

    @property
    def labels(self) -> dict[str, str]:
        """All labels that nodes must have."""
        return {**self.node_selector, **({POOL_LABEL: self.pool} if self.pool else {})}

    @property
    def all_tolerations(self) -> list[dict[str, str]]:
        """All tolerations, as Kubernetes has them."""
        own = [one.model_dump(exclude_none=True) for one in self.tolerations]
        return [*own, {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}] if self.gpus else own

    @property
    def efa_resources(self) -> dict[str, str]:
        """What a node of several requests beside GPUs, as Kubernetes has it."""
        return {EFA: str(self.efa), HUGE_PAGES: EFA_HUGE_PAGES} if self.efa else {}


class ClusterConfig(BaseModel):
    """How the recipe runs on Kubernetes, where `longhaul deploy` brings it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str | None = Field(
        None, min_length=1, description="The image that steps run in (default: from Metaflow's configuration)."
    )
    namespace: str | None = Field(None, pattern=NAME, description="Kubernetes' namespace (default: Metaflow's).")
    service_account: str | None = Field(None, pattern=NAME, description="What pods run as (default: Metaflow's).")
    secrets: tuple[str, ...] = Field(
        (), description="Kubernetes secrets whose keys become environment variables: tokens, the webhook's address."
    )
    environment: dict[str, str] = Field(
        {}, description="Environment variables of all steps. No secrets: they stand in the workflow for all to read."
    )
    sandbox: str | None = Field(
        None,
        pattern=r"^https?://",
        description="The sandbox's service: boxes cannot be made in pods without privileges.",
    )
    pools: dict[str, int] = Field(
        {},
        description="How many nodes each pool has at most. Stages that need more are refused; those that may run at "
        "the same time and need more together take turns.",
    )
    default: StageResources = Field(StageResources(), description="What a stage gets that is not listed in `stages`.")
    stages: dict[str, StageResources] = Field({}, description="What stages get, by name, as in long2short/rl.")

    @field_validator("environment")
    @classmethod
    def _is_not_the_pipelines_own(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name.startswith("METAFLOW_") or name in ("LONGHAUL_RUN", "LONGHAUL_CLUSTER"):
                raise ValueError(f"{name} is set by the workflow itself: remove it")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fills_stages_from_the_default(cls, values: Any) -> Any:
        """A stage's section says in what it differs from the default."""
        if not isinstance(values, dict) or not isinstance(values.get("stages"), dict):
            return values
        default = values.get("default") or {}
        if not isinstance(default, dict):
            return values
        filled = {
            name: {**default, **stage} if isinstance(stage, dict) else stage for name, stage in values["stages"].items()
        }
        return {**values, "stages": filled}

    def resources(self, stage: str) -> StageResources:
        """What a stage gets."""
        return self.stages.get(stage, self.default)

    def check(self, stages: list[str]) -> None:
        """Raises ValueError for a name that is not a stage's."""
        for name in self.stages:
            if name not in stages:
                raise ValueError(f"cluster.stages: there is no stage {name!r}; there are {', '.join(stages)}")
