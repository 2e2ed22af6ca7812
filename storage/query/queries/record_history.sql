-- History of a record in order: where it came in, the decision of each filter, and the models trained on it.
-- $record: id of a record, human or synthetic; RUN/ID where several runs have the id
with in_corpus as materialized (
    select run, generation, attempt, weight from corpus_all_attempts
    where id = split_part($record, '/', -1) and (not contains($record, '/') or run = split_part($record, '/', 1))),
verdicts as (
    select *, from_json((select value from recipes where recipes.run = decisions_all_attempts.run
                         and field = 'curate.filters'), '["varchar"]') as filters
    from decisions_all_attempts
    where id = split_part($record, '/', -1) and (not contains($record, '/') or run = split_part($record, '/', 1))),
places as (
    select null as run, null as generation, null as attempt, 0 as step, 0 as turn, 'human_train' as found_in,
        dataset || ', snapshot ' || snapshot || ', from ' || source as what from human_train where id = split_part($record, '/', -1)
    union all select null, null, null, 0, 1, 'human_heldout',
        dataset || ', snapshot ' || snapshot || ', from ' || source from human_heldout where id = split_part($record, '/', -1)
    union all select null, null, null, 0, 2, 'eval_records', concat(dataset, ', ', eval_set, ', from ', source)
        from eval_records where id = split_part($record, '/', -1)
    union all select null, null, null, 0, 3, 'rejected_documents',
        dataset || ', snapshot ' || snapshot || ': ' || concat_ws(' ', filter, reason, duplicate_of)
        from rejected_documents where id = split_part($record, '/', -1)
    union all select run, generation, attempt, 1, 0, 'candidates',
        concat(prompt_template, ' by model ', model_fingerprint, ', from ' || parents[1])
        from candidates_all_attempts
        where id = split_part($record, '/', -1) and (not contains($record, '/') or run = split_part($record, '/', 1))
    union all select run, generation, attempt, 2, coalesce(list_position(filters, filter), 0), 'decisions',
        filter || if(kept, ': kept', ': dropped, ' || concat_ws(' ', reason, duplicate_of, round(score, 3)))
        from verdicts
    union all select run, generation, attempt, 3, 0, 'corpus', 'weight ' || weight from in_corpus
    union all select run, generation, attempt, 4, 0, 'model', model || ' was trained on it'
        from in_corpus join generations_all_attempts using (run, generation, attempt) where model is not null)
select run, generation, attempt, found_in, what from places
order by run nulls first, generation, attempt, step, turn, what
