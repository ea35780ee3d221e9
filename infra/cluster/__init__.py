"""Several nodes that work on one stage: who they are, how they speak, and which ranks and workers each has."""
