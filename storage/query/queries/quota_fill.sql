-- For each attribute combination: prompts sent, prompts with a surviving answer, and prompts without one.
with answers as (
    select run, generation, attempt, id, coalesce(prompt_id::varchar, id) as prompt_id, attributes::varchar as cell
    from candidates where cardinality(attributes) > 0),
drops as (select distinct run, generation, attempt, id, true as dropped from decisions where not kept),
prompts as (
    select run, generation, cell, prompt_id, bool_or(dropped is null) as answered
    from answers left join drops using (run, generation, attempt, id) group by all)
select run, generation, cell, count(*) as asked, count(*) filter (answered) as delivered,
    count(*) filter (not answered) as short
from prompts group by all order by all
