"""Stage `curate`: filter candidates, decontaminate, index survivors, count filter rates; and curation without a run."""
