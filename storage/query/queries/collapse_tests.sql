-- Results of the collapse tests (present, absent or unknown) at the newest generation of each run, with their evidence.
select run, test, result, first_generation, evidence from collapse_tests
qualify generation = max(generation) over (partition by run) order by run, test
