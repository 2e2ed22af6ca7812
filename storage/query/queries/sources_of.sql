-- Human records that a record descends from, with source and license, and the model, prompt and seed of each step.
-- $record: id of a record, human or synthetic; RUN/ID where several runs have the id
with recursive written as materialized (
    select run, generation, attempt, id, model_fingerprint, teacher, prompt_template, seed,
        unnest(case when len(parents) > 0 then parents else [null] end) as parent from candidates_all_attempts),
ancestry as (
    select *, 1 as steps from written
    where id = split_part($record, '/', -1) and (not contains($record, '/') or run = split_part($record, '/', 1))
    union select written.*, ancestry.steps + 1
        from ancestry join written on written.run = ancestry.run and written.id = ancestry.parent),
human as (
    select distinct id, dataset, source, coalesce(license, 'not stated') as license from human_train
    union select distinct id, dataset, source, coalesce(license, 'not stated') from human_heldout),
steps as (
    select run, steps, generation, attempt, id, model_fingerprint, teacher, prompt_template, seed, parent from ancestry
    union all select null, 0, null, null, id, null, null, null, null, id from human where id = split_part($record, '/', -1))
select distinct run, steps, generation, attempt, steps.id, model_fingerprint, teacher, prompt_template, seed, parent,
    dataset, source, license
from steps left join human on human.id = parent order by all
