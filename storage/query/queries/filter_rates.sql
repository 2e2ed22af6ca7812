-- Share of each source's candidates that each filter dropped, among those that it saw.
select run, generation, source, filter, count(*) filter (not kept) as dropped, count(*) as num_seen,
    round(dropped / num_seen, 3) as drop_rate
from decisions join (select run, generation, attempt, id, source from candidates) using (run, generation, attempt, id)
group by all order by all
