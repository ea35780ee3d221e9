"""What is known of each kind of accelerator: its figures, where they come from, and what an hour of it costs.

Prices are estimates. `PRICES_AS_OF` is their date: whoever pays another price says so (`--price`).
"""

from dataclasses import dataclass

import psutil

GIB = 2**30

PRICES_AS_OF = "2025-06"
"""When the prices were taken: AWS's on-demand prices in us-east-1 after the reduction of June 2025, per GPU."""


@dataclass(frozen=True)
class Device:
    """One accelerator, or one CPU machine."""

    name: str
    memory: int
    """Bytes that a process can have."""
    flops: float
    """Dense bfloat16 operations per second by the data sheet; for `cpu`, what was measured."""
    bandwidth: float
    """Bytes per second between memory and cores, by the data sheet."""
    link: float
    """Bytes per second that one device sends to others in its node, one direction, by the data sheet."""
    network: float
    """Bytes per second that a node of `per_node` devices sends to other nodes, one direction: EFA of the instance type
    that the price is of, as AWS's pages of it said at PRICES_AS_OF. Nothing goes between nodes of the `cpu`."""
    price: float
    """US dollars an hour."""
    source: str
    compute_share: float = 0.4
    """Of `flops` that training and prefill reach: between the 0.38 to 0.43 that Llama 3 reports on H100 (arXiv
    2407.21783, table 4) and what smaller models reach."""
    bandwidth_share: float = 0.6
    """Of `bandwidth` that decoding reaches, and of `link` and `network` that collectives reach."""
    step_seconds: float = 0.005
    """Host time of one decoding step, whatever it holds: scheduling, launching, sampling."""
    sequence_seconds: float = 1e-5
    """Host time that each sequence of a decoding step adds: its log-probability, its bookkeeping."""
    start_seconds: float = 90.0
    """From a stage's start until trainer and engine are ready: imports, weights, CUDA graphs."""
    reserve: int = 3 * GIB
    """Bytes that are nobody's: CUDA contexts of the processes on the device, NCCL's buffers, fragmentation."""
    per_node: int = 8

    @property
    def is_cpu(self) -> bool:
        """Whether trainer and engine run on the host's own cores, in its memory."""
        return self.name == "cpu"


def _cpu() -> Device:
    """This machine. Its one measured figure is `flops`: what training the nano base reaches on two cores in float32."""
    return Device(
        name="cpu",
        memory=psutil.virtual_memory().total,
        flops=50e9,
        bandwidth=20e9,
        link=5e9,
        network=5e9,
        price=0.1,
        source="measured with the nano base on two cores of an AMD EPYC; bandwidth of one DDR4-2666 channel",
        compute_share=1.0,
        bandwidth_share=0.5,
        step_seconds=0.003,
        sequence_seconds=2e-5,
        start_seconds=8.6,
        reserve=1200 * 2**20,
        per_node=1,
    )


_GPUS = (
    Device(
        name="h100",
        memory=int(79.2 * GIB),
        flops=989e12,
        bandwidth=3.35e12,
        link=450e9,
        network=400e9,
        price=6.88,
        source="NVIDIA's data sheet, H100 SXM 80 GB; price and EFA (3,200 Gb/s) of p5.48xlarge",
    ),
    Device(
        name="h200",
        memory=int(139.8 * GIB),
        flops=989e12,
        bandwidth=4.8e12,
        link=450e9,
        network=400e9,
        price=7.91,
        source="NVIDIA's data sheet, H200 SXM 141 GB; price and EFA (3,200 Gb/s) of p5en.48xlarge",
    ),
    Device(
        name="a100",
        memory=int(79.2 * GIB),
        flops=312e12,
        bandwidth=2.04e12,
        link=300e9,
        network=50e9,
        price=3.43,
        source="NVIDIA's data sheet, A100 SXM 80 GB; price and EFA (400 Gb/s) of p4de.24xlarge",
    ),
    Device(
        name="l40s",
        memory=int(44.4 * GIB),
        flops=362e12,
        bandwidth=0.864e12,
        link=32e9,
        network=50e9,
        price=3.77,
        source="NVIDIA's data sheet, L40S 48 GB (PCIe 4, no NVLink); price and EFA (400 Gb/s) of g6e.48xlarge",
    ),
)

DEVICES = ("cpu", *(gpu.name for gpu in _GPUS))
"""The names of the devices that are known."""


def device(name: str) -> Device:
    """A device by its name. Raises ValueError for another one."""
    if name == "cpu":
        return _cpu()
    match = next((gpu for gpu in _GPUS if gpu.name == name), None)
    if match is None:
        raise ValueError(f"no figures are known of the device {name!r}: choose one of {', '.join(DEVICES)}")
    return match
