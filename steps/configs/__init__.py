"""The settings of each part of the recipe. They import no engine: a plan reads them, and must not wait for one."""
