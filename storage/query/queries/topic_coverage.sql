-- Topic steering by generation: synthetic and human records before it, and prompts and survivors after it.
with drops as (select distinct run, generation, attempt, id, true as dropped from decisions where not kept),
topic_results as (
    select run, generation, attempt, try_cast(attributes['topic'] as integer) as topic,
        count(distinct prompt_id) as prompts, count(*) filter (dropped is null) as survivors
    from candidates left join drops using (run, generation, attempt, id) group by all)
select run, generation, topic, array_to_string(words, ' ') as words, human_count, synthetic_count,
    round(prompt_share, 4) as prompt_share, coalesce(prompts, 0) as prompts, coalesce(survivors, 0) as survivors
from topics left join topic_results using (run, generation, attempt, topic)
order by run, generation, prompt_share desc, topic
