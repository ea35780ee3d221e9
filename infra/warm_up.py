"""Fills the engines' caches once, at set-up: DeepSpeed compiles an operator and vLLM inspects its models.

python -m infra.warm_up FOLDER_OF_A_MODEL
"""

from infra.environment import CACHE, enter_engine_environment

enter_engine_environment()

import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from infra.configs import EngineConfig  # noqa: E402
from infra.inference.engine import Engine  # noqa: E402
from infra.inference.requests import Request  # noqa: E402
from infra.progress.logs import quiet_to  # noqa: E402
from infra.training.trainer import Trainer, TrainerConfig  # noqa: E402


def main() -> None:
    """Start both engines around a model and use them once."""
    model = Path(sys.argv[1])
    with quiet_to(CACHE.parent / "warm_up.log"):
        trainer = Trainer(model, TrainerConfig(), seed=0)
        engine = Engine(model, EngineConfig())
        engine.generate_all([Request([5, 6, 7], 4, seed=0)])
        engine.close()
        trainer.close()


if __name__ == "__main__":
    main()
