"""How weights get from the trainer into the engine."""
