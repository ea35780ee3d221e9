"""A rank that trains a few steps and saves: python -m tests.infra.cluster.train_on_nodes MODEL CONFIG SEED OUT."""

import os
import sys
import threading
from pathlib import Path

from infra.configs import TrainerConfig
from infra.training.trainer import Trainer
from steps.supervised import response_loss
from tests.infra.training.losses import ROWS

if __name__ == "__main__":
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    model, config, seed, out = sys.argv[1:]
    trainer = Trainer(Path(model), TrainerConfig.model_validate_json(config), int(seed))
    for _ in range(3):
        trainer.step(ROWS, response_loss(ROWS), learning_rate=1e-4)
    trainer.save(Path(out))
    trainer.close()
