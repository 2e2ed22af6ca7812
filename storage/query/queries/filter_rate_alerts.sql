-- Filters that dropped significantly more of a source than usual, and a hint what to do.
select run, generation, unnest(filter_rate_alerts, recursive := true) from generations order by all
