-- Best-of-n selection by teacher: answers, chosen answers, their scores, and the gain of choosing.
select run, generation, coalesce(teacher, 'self') as teacher, count(*) as answers, count(*) filter (kept) as chosen,
    round(avg(score), 4) as mean_score, round(avg(score) filter (kept), 4) as mean_score_of_chosen,
    round(avg(score) filter (kept) - avg(score), 4) as gain
from decisions join candidates using (run, generation, attempt, id) where filter = 'best_of' group by all order by all
