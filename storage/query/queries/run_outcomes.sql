-- Metrics of each run at its first and at its last generation.
with model_metrics as (
    select run, metric, value, generation, max(generation) over (partition by run) as last
    from metrics where subject = 'model' and source = 'all')
select run, last as generations,
    max(value) filter (metric = 'perplexity' and generation = 0) as perplexity_first,
    max(value) filter (metric = 'perplexity' and generation = last) as perplexity_last,
    max(value) filter (metric = 'perplexity_at_best_temperature' and generation = 0)
        as perplexity_at_best_temperature_first,
    max(value) filter (metric = 'perplexity_at_best_temperature' and generation = last)
        as perplexity_at_best_temperature_last,
    max(value) filter (metric = 'rare_word_coverage' and generation = 0) as rare_first,
    max(value) filter (metric = 'rare_word_coverage' and generation = last) as rare_last,
    max(value) filter (metric = 'vocabulary_size' and generation = 0) as vocabulary_size_first,
    max(value) filter (metric = 'vocabulary_size' and generation = last) as vocabulary_size_last,
    max(value) filter (metric = 'repetition' and generation = 0) as repetition_first,
    max(value) filter (metric = 'repetition' and generation = last) as repetition_last
from model_metrics group by all order by perplexity_last desc
