-- Overlap of each corpus with the held-out set and the eval sets.
select run, generation, eval_set, origin, num_compared, num_overlapping, round(max_jaccard, 3) as max_jaccard,
    shared_run_words
from contamination_report order by all
