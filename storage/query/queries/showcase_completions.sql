-- Completions of the showcase prompt by every model.
select run, generation, prompt, text from eval_samples where prompt <> '' order by generation, run
