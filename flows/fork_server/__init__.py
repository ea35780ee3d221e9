"""A process that has engines and trainers imported, of which the steps of a run on one machine are forks."""
