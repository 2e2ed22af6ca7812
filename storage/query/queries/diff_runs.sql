-- Recipe fields that differ between two runs, and their metrics side by side.
-- $run: name of a run
-- $other_run: name of the run to compare it with
with fields as (
    select run, field, null as generation, value, null::double as number from recipes
    union all select run, concat_ws(' ', subject, metric, nullif(source, 'all')), generation,
        printf('%.4g', value), value from metrics),
paired as (
    select field, generation, any_value(value) filter (run = $run) as first,
        any_value(value) filter (run = $other_run) as second,
        any_value(number) filter (run = $other_run) - any_value(number) filter (run = $run) as difference
    from fields where run in ($run, $other_run) group by all)
select field, generation, first, second, printf('%+.3g', difference) as difference from paired
where generation is not null or first is distinct from second
order by generation is not null, field, generation
