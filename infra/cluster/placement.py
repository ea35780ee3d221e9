"""Which nodes trainer ranks and engines are on. Imports no torch: the deployment and the estimate decide by it before
anything runs, and the nodes themselves afterwards.

Ranks fill the first nodes. Workers have the GPUs that ranks leave, or all of them where both take turns; no engine
reaches over two nodes. A single worker is in the stage's own process, on the first GPUs of the first node, beside
ranks.
"""

from infra.configs import EngineConfig, HandoverConfig


def layout(ranks: int, nodes: int, gpus: int) -> list[int]:
    """How many of the ranks are on each node: the first nodes are filled; without GPUs all have the same number.

    Raises ValueError where they have too few GPUs.
    """
    on_each = gpus or -(-ranks // nodes)
    if ranks > on_each * nodes:
        raise ValueError(f"trainer.ranks is {ranks}, and {nodes} nodes have {gpus} GPUs each: lower it, or add nodes")
    return [min(on_each, max(0, ranks - on_each * node)) for node in range(nodes)]


def in_the_same_gpus(engine: EngineConfig, handover: HandoverConfig) -> bool:
    """Whether engines are on the ranks' GPUs, however many nodes there are."""
    return handover.share_device or engine.workers == 1


def has_room(engine: EngineConfig, ranks: int, handover: HandoverConfig, nodes: int, gpus: int) -> bool:
    """Whether ranks and engines find GPUs. On one node, where Ray knows nothing of ranks, both begin at the first."""
    if ranks > nodes * gpus:
        return False
    together = nodes == 1 or in_the_same_gpus(engine, handover)
    free = layout(0 if together else ranks, nodes, gpus)
    return sum((gpus - taken) // engine.tensor_parallel for taken in free) >= engine.workers


def nodes_needed(engine: EngineConfig, ranks: int, handover: HandoverConfig, gpus: int) -> int:
    """The fewest nodes of `gpus` GPUs on which ranks and workers have GPUs of their own, or take
    turns. Raises ValueError for an engine that is larger than a node.
    """
    if engine.tensor_parallel > gpus:
        raise ValueError(
            f"engine.tensor_parallel is {engine.tensor_parallel}, and an engine has to fit one node of {gpus} GPUs: "
            "lower it"
        )
    apart = 0 if in_the_same_gpus(engine, handover) else ranks
    nodes = max(1, -(-ranks // gpus), -(-(apart + engine.workers * engine.tensor_parallel) // gpus))
    while sum((gpus - taken) // engine.tensor_parallel for taken in layout(apart, nodes, gpus)) < engine.workers:
        nodes += 1
    return nodes
