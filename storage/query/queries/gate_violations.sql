-- Limits of the gate that each run exceeded: since which generation, and the action taken.
select run, metric, subject, min(generation) as first_generation, max(generation) as last_generation,
    arg_max(action, generation) as action, arg_max(reason, generation) as reason
from gate_results_all_attempts where first_generation is not null group by all order by all
