"""wandb: what is reported of a run, and runs that were tracked offline."""
