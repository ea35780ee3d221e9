"""The stages' bodies: they read inputs, pass the data through its gates, call the recipe, evaluate, write outputs."""
