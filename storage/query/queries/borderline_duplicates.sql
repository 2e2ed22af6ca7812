-- The three least similar pairs that each duplicate filter matched, with both texts: a threshold errs there first.
with ranked as (
    select *, row_number() over (partition by run, filter order by score, generation, id) as rank
    from decisions where not kept and duplicate_of is not null and filter in ('human_overlap', 'minhash', 'semantic')),
texts as (select run, id, text from candidates union all select distinct null, id, text from human_train)
select ranked.run, ranked.generation, filter, round(score, 3) as similarity,
    ranked.id, dropped_record.text, duplicate_of, kept_record.text as duplicate_of_text
from ranked join texts dropped_record on dropped_record.run = ranked.run and dropped_record.id = ranked.id
join texts kept_record on coalesce(kept_record.run, ranked.run) = ranked.run and kept_record.id = duplicate_of
where rank <= 3 order by ranked.run, filter, rank
