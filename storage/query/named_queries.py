"""The questions that people ask by name, and what they want to know: `$record` and `$run` are arguments.

The first line of each says what it answers. None reads a text that it does not show.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from storage.datasets import eval_sets as evaluation

if TYPE_CHECKING:
    import duckdb

QUESTIONS = {
    "collapse_curve": """
        -- How the models did, generation by generation.
        select run, generation, subject, metric, value, low, high from metrics
        where metric in ('perplexity', 'recalibrated_perplexity', 'rare_word_coverage', 'types', 'repetition')
        and subject = 'model' and source = 'all' order by metric, run, generation""",
    "alarms": """
        -- Which limits each run broke, since when, and what was done.
        select run, metric, subject, min(generation) as first_generation, max(generation) as last_generation,
            arg_max(action, generation) as action, arg_max(reason, generation) as reason
        from verdicts_all where since is not null group by all order by all""",
    "profile": """
        -- Collapse by each of the eight meanings of the word: present, absent or unknown, with its evidence.
        select run, definition, state, since, evidence from profile
        qualify generation = max(generation) over (partition by run) order by run, definition""",
    "forecast": """
        -- What was foretold by mixing and sampling alone, beside what was measured of what the models say.
        select run, generation, metric, f.value as foretold, m.value as measured from forecast as f
        join (select * from metrics where subject = 'model' and source = 'all') as m
            using (run, generation, metric) order by run, metric, generation""",
    "why_dropped": """
        -- How many records each sieve dropped, and for which reason.
        select run, generation, stage, reason, count(*) as records, round(avg(evidence), 3) as evidence
        from decisions where not kept group by all order by all""",
    "tolls": """
        -- What share of each source's candidates each sieve dropped, of those that it looked at.
        select run, generation, source, stage, count(*) filter (not kept) as dropped, count(*) as looked_at,
            round(dropped / looked_at, 3) as share
        from decisions join (select run, generation, attempt, id, source from candidates) using (run, generation, attempt, id)
        group by all order by all""",
    "heavy_tolls": """
        -- Which sieves dropped more of a source than is usual, beyond chance, and what to do about it.
        select run, generation, unnest(heavy_tolls, recursive := true) from generations order by all""",
    "outcome": """
        -- Where each run began and where it ended.
        with told as (select run, metric, value, generation, max(generation) over (partition by run) as last
                      from metrics where subject = 'model' and source = 'all')
        select run, last as generations,
            max(value) filter (metric = 'perplexity' and generation = 0) as perplexity_first,
            max(value) filter (metric = 'perplexity' and generation = last) as perplexity_last,
            max(value) filter (metric = 'recalibrated_perplexity' and generation = 0) as recalibrated_first,
            max(value) filter (metric = 'recalibrated_perplexity' and generation = last) as recalibrated_last,
            max(value) filter (metric = 'rare_word_coverage' and generation = 0) as rare_first,
            max(value) filter (metric = 'rare_word_coverage' and generation = last) as rare_last,
            max(value) filter (metric = 'types' and generation = 0) as types_first,
            max(value) filter (metric = 'types' and generation = last) as types_last,
            max(value) filter (metric = 'repetition' and generation = 0) as repetition_first,
            max(value) filter (metric = 'repetition' and generation = last) as repetition_last
        from told group by all order by perplexity_last desc""",
    "one_prompt": """
        -- One opening, continued by every model.
        select run, generation, prompt, text from voice where prompt <> '' order by generation, run""",
    "human_share": """
        -- How much of each corpus, and of each training, was human.
        select run, generation, human_fraction, human_token_fraction from generations order by all""",
    "quotas": """
        -- Of each cell of an attribute grid: how many prompts were asked, how many have an answer that is left, how many are short.
        with said as (select run, generation, attempt, id, coalesce(asking::varchar, id) as asking, attributes::varchar as cell
                      from candidates where cardinality(attributes) > 0),
        gone as (select distinct run, generation, attempt, id, true as dropped from decisions where not kept),
        asked as (select run, generation, cell, asking, bool_or(dropped is null) as answered
                  from said left join gone using (run, generation, attempt, id) group by all)
        select run, generation, cell, count(*) as asked, count(*) filter (answered) as delivered,
            count(*) filter (not answered) as short from asked group by all order by all""",
    "choices": """
        -- What best_of chose among: answers and choices of each teacher, what they were worth, and the gain of choosing.
        select run, generation, coalesce(teacher, 'own') as teacher, count(*) as answers, count(*) filter (kept) as chosen,
            round(avg(evidence), 4) as worth, round(avg(evidence) filter (kept), 4) as worth_of_chosen,
            round(avg(evidence) filter (kept) - avg(evidence), 4) as gain
        from decisions join candidates using (run, generation, attempt, id) where stage = 'best_of' group by all order by all""",
    "tail": """
        -- What steered each generation: how much was said of each topic before, and how many prompts and survivors it then had.
        with gone as (select distinct run, generation, attempt, id, true as dropped from decisions where not kept),
        asked as (select run, generation, attempt, try_cast(attributes['topic'] as integer) as topic, count(distinct asking) as prompts,
                      count(*) filter (dropped is null) as survivors
                  from candidates left join gone using (run, generation, attempt, id) group by all)
        select run, generation, topic, array_to_string(words, ' ') as words, human, said, round(share, 4) as share,
            coalesce(prompts, 0) as prompts, coalesce(survivors, 0) as survivors
        from topics left join asked using (run, generation, attempt, topic) order by run, generation, share desc, topic""",
    "decontamination": evaluation.DECONTAMINATION,
    "met_evaluation": evaluation.MET_EVALUATION,
    "life_of": """
        -- Every place a record was, in order: where it came in, what each sieve said, which models learned from it.
        with held as materialized (select run, generation, attempt, weight from corpus_all where id = $record),
        said as (select *, from_json((select value from recipes where recipes.run = decisions_all.run
                                      and field = 'curate.stages'), '["varchar"]') as stages
                 from decisions_all where id = $record),
        places as (
            select null as run, null as generation, null as attempt, 0 as step, 0 as turn, 'reserve' as place,
                human || ', snapshot ' || snapshot || ', from ' || source as what from reserve where id = $record
            union all select null, null, null, 0, 1, 'heldout',
                human || ', snapshot ' || snapshot || ', from ' || source from heldout where id = $record
            union all select null, null, null, 0, 2, 'evaluation', concat(human, ', ', withheld, ', from ', source)
                from evaluation where id = $record
            union all select null, null, null, 0, 3, 'set_aside',
                human || ', snapshot ' || snapshot || ': ' || concat_ws(' ', stage, reason, keeper)
                from set_aside where id = $record
            union all select run, generation, attempt, 1, 0, 'candidates',
                concat(program, ' by model ', model, ', from ' || parents[1])
                from candidates_all where id = $record
            union all select run, generation, attempt, 2, coalesce(list_position(stages, stage), 0), 'decisions',
                stage || if(kept, ': kept', ': dropped, ' || concat_ws(' ', reason, keeper, round(evidence, 3))) from said
            union all select run, generation, attempt, 3, 0, 'corpus', 'weight ' || weight from held
            union all select run, generation, attempt, 4, 0, 'model', model || ' learned from it'
                from held join generations_all using (run, generation, attempt) where model is not null)
        select run, generation, attempt, place, what from places
        order by run nulls first, generation, attempt, step, turn, what""",
    "who_descends_from": """
        -- The candidates that were prompted by a record, those prompted by them, and so on.
        with recursive edges as materialized (
            select run, generation, id, unnest(parents) as parent from candidates_all),
        descends as (
            select run, generation, id, parent, 1 as steps from edges where parent = $record
            union select edges.run, edges.generation, edges.id, edges.parent, steps + 1
                from descends join edges on edges.run = descends.run and edges.parent = descends.id)
        select run, steps, generation, id, parent from descends order by all""",
    "what_changed": """
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
        select run, generation, 'dropped for it' as relation, id, stage, reason, evidence
            from decisions_all where not kept and keeper = $record
        union all select run, generation, 'it was dropped for', keeper, stage, reason, evidence
            from decisions_all where not kept and id = $record and keeper is not null
        union all select null, null, 'set aside for it', id, stage, reason, evidence
            from set_aside where keeper = $record
        order by all""",
    "closest_calls": """
        -- The pairs least alike of those that each sieve of duplicates parted, with both texts: there a threshold errs first.
        with calls as (
            select *, row_number() over (partition by run, stage order by evidence, generation, id) as place
            from decisions where not kept and keeper is not null and stage in ('copying', 'minhash', 'semantic')),
        said as (select run, id, text from candidates union all select distinct null, id, text from reserve)
        select calls.run, calls.generation, stage, round(evidence, 3) as similarity,
            calls.id, mine.text, keeper, theirs.text as keeper_text
        from calls join said mine on mine.run = calls.run and mine.id = calls.id
        join said theirs on coalesce(theirs.run, calls.run) = calls.run and theirs.id = keeper
        where place <= 3 order by calls.run, stage, place""",
}

_KNOWN = {
    "record": """select true from (select id from reserve union all select id from heldout union all select id from evaluation union all
        select id from set_aside union all select id from candidates_all) where id = $value limit 1""",
    "run": "select true from runs where run = $value",
}
"""Whether the store knows what an argument of this kind names."""


def wanted(name: str) -> list[str]:
    """The arguments of a question, in the order they are given.

    Raises:
        ValueError: there is no such question.
    """
    if name not in QUESTIONS:
        raise ValueError(
            (f"there is no question {name!r}; " if name else "") + f"named questions: {', '.join(QUESTIONS)}"
        )
    return list(dict.fromkeys(re.findall(r"\$(\w+)", QUESTIONS[name])))


def answers(name: str) -> str:
    """What a question answers, in one line."""
    return QUESTIONS[name].strip().splitlines()[0].removeprefix("-- ")


def bound(catalog: "duckdb.DuckDBPyConnection", name: str, arguments: Sequence[str]) -> dict[str, str]:
    """The arguments by their names, as the query wants them.

    Raises:
        ValueError: too few, too many, or one that names nothing in this store.
    """
    names = wanted(name)
    if len(arguments) != len(names):
        usage = " ".join([name, *(one.upper() for one in names)])
        raise ValueError(
            f"{name} wants {len(names) or 'no'} argument{'s' * (len(names) != 1)}, found {len(arguments)}; write: heirloom ask {usage}"
        )
    for one, value in zip(names, arguments, strict=True):
        kind = one.rpartition("_")[2]
        if not catalog.execute(_KNOWN[kind], {"value": value}).fetchall():
            raise ValueError(f"there is no {kind} {value!r} in this store; {_where_to_look(catalog, kind)}")
    return dict(zip(names, arguments, strict=True))


def _where_to_look(catalog: "duckdb.DuckDBPyConnection", kind: str) -> str:
    if kind == "run":
        return "runs here: " + (
            ", ".join(run for (run,) in catalog.execute("select run from runs").fetchall()) or "none"
        )
    return 'ids are listed by: heirloom sql "select id, source from records limit 20"'
