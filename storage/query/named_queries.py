"""The questions that people ask by name, and what they want to know: `$record` and `$run` are arguments.

The first line of each says what it answers. None reads a text that it does not show.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from heirloom.errors import HeirloomError
from storage.datasets import eval_sets as evaluation

if TYPE_CHECKING:
    import duckdb

QUERIES = {
    "collapse_curve": """
        -- How the models did, generation by generation.
        select run, generation, subject, metric, value, low, high from metrics
        where metric in ('perplexity', 'perplexity_at_best_temperature', 'rare_word_coverage', 'vocabulary_size', 'repetition')
        and subject = 'model' and source = 'all' order by metric, run, generation""",
    "gate_violations": """
        -- Which limits each run broke, since when, and what was done.
        select run, metric, subject, min(generation) as first_generation, max(generation) as last_generation,
            arg_max(action, generation) as action, arg_max(reason, generation) as reason
        from gate_results_all_attempts where first_generation is not null group by all order by all""",
    "collapse_tests": """
        -- Collapse by each of the eight meanings of the word: present, absent or unknown, with its evidence.
        select run, test, result, first_generation, evidence from collapse_tests
        qualify generation = max(generation) over (partition by run) order by run, test""",
    "forecast_vs_measured": """
        -- What was foretold by mixing and sampling alone, beside what was measured of what the models say.
        select run, generation, metric, f.value as forecast, m.value as measured from forecast as f
        join (select * from metrics where subject = 'model' and source = 'all') as m
            using (run, generation, metric) order by run, metric, generation""",
    "drop_reasons": """
        -- How many records each sieve dropped, and for which reason.
        select run, generation, filter, reason, count(*) as records, round(avg(score), 3) as score
        from decisions where not kept group by all order by all""",
    "filter_rates": """
        -- What share of each source's candidates each sieve dropped, of those that it looked at.
        select run, generation, source, filter, count(*) filter (not kept) as dropped, count(*) as num_seen,
            round(dropped / num_seen, 3) as drop_rate
        from decisions join (select run, generation, attempt, id, source from candidates) using (run, generation, attempt, id)
        group by all order by all""",
    "filter_rate_alerts": """
        -- Which sieves dropped more of a source than is usual, beyond chance, and what to do about it.
        select run, generation, unnest(filter_rate_alerts, recursive := true) from generations order by all""",
    "run_outcomes": """
        -- Where each run began and where it ended.
        with told as (select run, metric, value, generation, max(generation) over (partition by run) as last
                      from metrics where subject = 'model' and source = 'all')
        select run, last as generations,
            max(value) filter (metric = 'perplexity' and generation = 0) as perplexity_first,
            max(value) filter (metric = 'perplexity' and generation = last) as perplexity_last,
            max(value) filter (metric = 'perplexity_at_best_temperature' and generation = 0) as perplexity_at_best_temperature_first,
            max(value) filter (metric = 'perplexity_at_best_temperature' and generation = last) as perplexity_at_best_temperature_last,
            max(value) filter (metric = 'rare_word_coverage' and generation = 0) as rare_first,
            max(value) filter (metric = 'rare_word_coverage' and generation = last) as rare_last,
            max(value) filter (metric = 'vocabulary_size' and generation = 0) as vocabulary_size_first,
            max(value) filter (metric = 'vocabulary_size' and generation = last) as vocabulary_size_last,
            max(value) filter (metric = 'repetition' and generation = 0) as repetition_first,
            max(value) filter (metric = 'repetition' and generation = last) as repetition_last
        from told group by all order by perplexity_last desc""",
    "showcase_completions": """
        -- One opening, continued by every model.
        select run, generation, prompt, text from eval_samples where prompt <> '' order by generation, run""",
    "human_share": """
        -- How much of each corpus, and of each training, was human.
        select run, generation, human_fraction, human_token_fraction from generations order by all""",
    "quota_fill": """
        -- Of each cell of an attribute grid: how many prompts were asked, how many have an answer that is left, how many are short.
        with said as (select run, generation, attempt, id, coalesce(prompt_id::varchar, id) as prompt_id, attributes::varchar as cell
                      from candidates where cardinality(attributes) > 0),
        gone as (select distinct run, generation, attempt, id, true as dropped from decisions where not kept),
        asked as (select run, generation, cell, prompt_id, bool_or(dropped is null) as answered
                  from said left join gone using (run, generation, attempt, id) group by all)
        select run, generation, cell, count(*) as asked, count(*) filter (answered) as delivered,
            count(*) filter (not answered) as short from asked group by all order by all""",
    "best_of_stats": """
        -- What best_of chose among: answers and choices of each teacher, what they were worth, and the gain of choosing.
        select run, generation, coalesce(teacher, 'self') as teacher, count(*) as answers, count(*) filter (kept) as chosen,
            round(avg(score), 4) as mean_score, round(avg(score) filter (kept), 4) as mean_score_of_chosen,
            round(avg(score) filter (kept) - avg(score), 4) as gain
        from decisions join candidates using (run, generation, attempt, id) where filter = 'best_of' group by all order by all""",
    "topic_coverage": """
        -- What steered each generation: how much was said of each topic before, and how many prompts and survivors it then had.
        with gone as (select distinct run, generation, attempt, id, true as dropped from decisions where not kept),
        asked as (select run, generation, attempt, try_cast(attributes['topic'] as integer) as topic, count(distinct prompt_id) as prompts,
                      count(*) filter (dropped is null) as survivors
                  from candidates left join gone using (run, generation, attempt, id) group by all)
        select run, generation, topic, array_to_string(words, ' ') as words, human_count, synthetic_count, round(prompt_share, 4) as prompt_share,
            coalesce(prompts, 0) as prompts, coalesce(survivors, 0) as survivors
        from topics left join asked using (run, generation, attempt, topic) order by run, generation, prompt_share desc, topic""",
    "contamination": evaluation.CONTAMINATION_SQL,
    "eval_exposure": evaluation.EVAL_EXPOSURE_SQL,
    "record_history": """
        -- Every place a record was, in order: where it came in, what each sieve said, which models learned from it.
        with held as materialized (select run, generation, attempt, weight from corpus_all_attempts where id = $record),
        said as (select *, from_json((select value from recipes where recipes.run = decisions_all_attempts.run
                                      and field = 'curate.filters'), '["varchar"]') as stages
                 from decisions_all_attempts where id = $record),
        places as (
            select null as run, null as generation, null as attempt, 0 as step, 0 as turn, 'human_train' as found_in,
                dataset || ', snapshot ' || snapshot || ', from ' || source as what from human_train where id = $record
            union all select null, null, null, 0, 1, 'human_heldout',
                dataset || ', snapshot ' || snapshot || ', from ' || source from human_heldout where id = $record
            union all select null, null, null, 0, 2, 'eval_records', concat(dataset, ', ', eval_set, ', from ', source)
                from eval_records where id = $record
            union all select null, null, null, 0, 3, 'rejected_documents',
                dataset || ', snapshot ' || snapshot || ': ' || concat_ws(' ', filter, reason, duplicate_of)
                from rejected_documents where id = $record
            union all select run, generation, attempt, 1, 0, 'candidates',
                concat(prompt_template, ' by model ', model_fingerprint, ', from ' || parents[1])
                from candidates_all_attempts where id = $record
            union all select run, generation, attempt, 2, coalesce(list_position(stages, filter), 0), 'decisions',
                filter || if(kept, ': kept', ': dropped, ' || concat_ws(' ', reason, duplicate_of, round(score, 3))) from said
            union all select run, generation, attempt, 3, 0, 'corpus', 'weight ' || weight from held
            union all select run, generation, attempt, 4, 0, 'model', model || ' learned from it'
                from held join generations_all_attempts using (run, generation, attempt) where model is not null)
        select run, generation, attempt, found_in, what from places
        order by run nulls first, generation, attempt, step, turn, what""",
    "descendants": """
        -- The candidates that were prompted by a record, those prompted by them, and so on.
        with recursive edges as materialized (
            select run, generation, id, unnest(parents) as parent from candidates_all_attempts),
        descends as (
            select run, generation, id, parent, 1 as steps from edges where parent = $record
            union select edges.run, edges.generation, edges.id, edges.parent, steps + 1
                from descends join edges on edges.run = descends.run and edges.parent = descends.id)
        select run, steps, generation, id, parent from descends order by all""",
    "diff_runs": """
        -- The fields of the recipe that differ between two runs, and their metrics side by side.
        with told as (
            select run, field, null as generation, value, null::double as number from recipes
            union all select run, concat_ws(' ', subject, metric, nullif(source, 'all')), generation,
                printf('%.4g', value), value from metrics),
        paired as (
            select field, generation, any_value(value) filter (run = $run) as first,
                any_value(value) filter (run = $other_run) as second,
                any_value(number) filter (run = $other_run) - any_value(number) filter (run = $run) as difference
            from told where run in ($run, $other_run) group by all)
        select field, generation, first, second, printf('%+.3g', difference) as difference from paired
        where generation is not null or first is distinct from second
        order by generation is not null, field, generation""",
    "duplicates_of": """
        -- The records that were dropped in favour of a record, and those that it was dropped for itself.
        select run, generation, 'dropped for it' as relation, id, filter, reason, score
            from decisions_all_attempts where not kept and duplicate_of = $record
        union all select run, generation, 'it was dropped for', duplicate_of, filter, reason, score
            from decisions_all_attempts where not kept and id = $record and duplicate_of is not null
        union all select null, null, 'set aside for it', id, filter, reason, score
            from rejected_documents where duplicate_of = $record
        order by all""",
    "borderline_duplicates": """
        -- The pairs least alike of those that each sieve of duplicates parted, with both texts: there a threshold errs first.
        with calls as (
            select *, row_number() over (partition by run, filter order by score, generation, id) as rank
            from decisions where not kept and duplicate_of is not null and filter in ('human_overlap', 'minhash', 'semantic')),
        said as (select run, id, text from candidates union all select distinct null, id, text from human_train)
        select calls.run, calls.generation, filter, round(score, 3) as similarity,
            calls.id, mine.text, duplicate_of, theirs.text as duplicate_of_text
        from calls join said mine on mine.run = calls.run and mine.id = calls.id
        join said theirs on coalesce(theirs.run, calls.run) = calls.run and theirs.id = duplicate_of
        where rank <= 3 order by calls.run, filter, rank""",
}

_KNOWN = {
    "record": """select true from (select id from human_train union all select id from human_heldout union all select id from eval_records union all
        select id from rejected_documents union all select id from candidates_all_attempts) where id = $value limit 1""",
    "run": "select true from runs where run = $value",
}
"""Whether the store knows what an argument of this kind names."""


def parameters(name: str) -> list[str]:
    """The arguments of a question, in the order they are given.

    Raises:
        HeirloomError: there is no such question.
    """
    if name not in QUERIES:
        raise HeirloomError(
            (f"there is no question {name!r}; " if name else "") + f"named questions: {', '.join(QUERIES)}"
        )
    return list(dict.fromkeys(re.findall(r"\$(\w+)", QUERIES[name])))


def description(name: str) -> str:
    """What a question answers, in one line."""
    return QUERIES[name].strip().splitlines()[0].removeprefix("-- ")


def bind(catalog: "duckdb.DuckDBPyConnection", name: str, arguments: Sequence[str]) -> dict[str, str]:
    """The arguments by their names, as the query wants them.

    Raises:
        HeirloomError: too few, too many, or one that names nothing in this store.
    """
    names = parameters(name)
    if len(arguments) != len(names):
        usage = " ".join([name, *(one.upper() for one in names)])
        raise HeirloomError(
            f"{name} wants {len(names) or 'no'} argument{'s' * (len(names) != 1)}, found {len(arguments)}; write: heirloom query {usage}"
        )
    for one, value in zip(names, arguments, strict=True):
        kind = one.rpartition("_")[2]
        if not catalog.execute(_KNOWN[kind], {"value": value}).fetchall():
            raise HeirloomError(f"there is no {kind} {value!r} in this store; {_where_to_look(catalog, kind)}")
    return dict(zip(names, arguments, strict=True))


def _where_to_look(catalog: "duckdb.DuckDBPyConnection", kind: str) -> str:
    if kind == "run":
        return "runs here: " + (
            ", ".join(run for (run,) in catalog.execute("select run from runs").fetchall()) or "none"
        )
    return 'ids are listed by: heirloom sql "select id, source from records limit 20"'
