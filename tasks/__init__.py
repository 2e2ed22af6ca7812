"""Run the stages of a generation: the only package where decisions of `curation` meet storage, models and the disk."""
