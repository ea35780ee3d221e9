"""Our own facets of OpenLineage events; `facets/` has the JSON schema of each, which its `_schemaURL` names."""

from typing import Any

import attr
from openlineage.client.facet_v2 import DatasetFacet, RunFacet

VERSION = "2-1-0"
"""Of both schemas; a changed schema gets another version, as OpenLineage's facets do."""


def schema_url(name: str) -> str:
    """The address of a facet's schema: a name, since the files are wherever Longhaul is installed."""
    return f"urn:longhaul:facets:{VERSION}:{name}.json#/$defs/{name}"


@attr.define
class LonghaulStageRunFacet(RunFacet):
    """What shapes a stage's outputs, and its metrics; the fields are described in the schema."""

    stage: str
    key: str
    keyFormat: int
    seed: int | None
    config: dict[str, Any]
    code: str
    diff: str | None
    packages: dict[str, str]
    environment: dict[str, str]
    metrics: dict[str, Any]
    peakMemoryMb: float
    otherBytes: dict[str, Any] | None
    forkedFrom: dict[str, Any] | None

    @staticmethod
    def _get_schema() -> str:
        return schema_url("LonghaulStageRunFacet")


@attr.define
class LonghaulEvaluationDatasetFacet(DatasetFacet):
    """How a model did on the held-out problems; the fields are described in the schema."""

    stage: str
    run: str
    problems: int
    samples: int
    accuracy: float
    standardError: float
    meanTokens: float
    medianTokens: float
    p99Tokens: float
    domains: dict[str, Any]

    @staticmethod
    def _get_schema() -> str:
        return schema_url("LonghaulEvaluationDatasetFacet")
