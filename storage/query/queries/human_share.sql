-- Share of human records in each corpus and of human tokens in each training.
select run, generation, human_fraction, human_token_fraction from generations order by all
