-- Candidates whose prompts used a record, candidates whose prompts used those, and so on.
-- $record: id of a record, human or synthetic; RUN/ID where several runs have the id
with recursive edges as materialized (
    select run, generation, id, unnest(parents) as parent from candidates_all_attempts),
descends as (
    select run, generation, id, parent, 1 as steps from edges
    where parent = split_part($record, '/', -1) and (not contains($record, '/') or run = split_part($record, '/', 1))
    union select edges.run, edges.generation, edges.id, edges.parent, steps + 1
        from descends join edges on edges.run = descends.run and edges.parent = descends.id)
select run, steps, generation, id, parent from descends order by all
