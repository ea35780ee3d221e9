"""How rows of public data sets become problems and examples: one module for each format, all listed in registry.py."""
