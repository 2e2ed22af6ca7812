"""FilterName `curate`: filter candidates; reference indexes, decontamination, filter rates, and curation without a run."""
