"""The report: from stage records to the final table, its figures and one self-contained page."""
