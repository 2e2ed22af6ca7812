-- Records that overlap an eval set added after them, and the models trained on them.
select dataset, eval_set, found_in, run, generation, attempt, g.model, count(distinct id) as records,
    count(distinct duplicate_of) as eval_records, round(max(similarity), 3) as similarity,
    max(shared_run_words) as shared_run_words
from eval_exposures left join (select run, generation, attempt, model from generations_all_attempts) as g
    using (run, generation, attempt)
group by all order by all
