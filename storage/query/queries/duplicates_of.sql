-- Records dropped as duplicates of a record, and records that it was itself dropped for.
-- $record: id of a record, human or synthetic; RUN/ID where several runs have the id
select run, generation, 'dropped for it' as relation, id, filter, reason, score
    from decisions_all_attempts where not kept and duplicate_of = split_part($record, '/', -1)
        and (not contains($record, '/') or run = split_part($record, '/', 1))
union all select run, generation, 'it was dropped for', duplicate_of, filter, reason, score
    from decisions_all_attempts where not kept and id = split_part($record, '/', -1)
        and duplicate_of is not null and (not contains($record, '/') or run = split_part($record, '/', 1))
union all select null, null, 'rejected at ingest for it', id, filter, reason, score
    from rejected_documents where duplicate_of = split_part($record, '/', -1)
order by all
