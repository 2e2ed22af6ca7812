-- Perplexity, coverage, vocabulary and repetition of each model, by generation.
select run, generation, subject, metric, value, low, high from metrics
where metric in ('perplexity', 'perplexity_at_best_temperature', 'rare_word_coverage', 'vocabulary_size', 'repetition')
and subject = 'model' and source = 'all' order by metric, run, generation
