-- Number of records that each filter dropped, by reason.
select run, generation, filter, reason, count(*) as records, round(avg(score), 3) as score
from decisions where not kept group by all order by all
