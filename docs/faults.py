"""Write `docs/faults.md`: kinds of faults, the tests of each, and how many values they try. `python docs/faults.py`."""

import importlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/faults.md"


class Kind(NamedTuple):
    """A kind of fault, and the tests that would find it, by module and the names in it."""

    fault: str
    right: str
    tests: dict[str, Sequence[str]]


KINDS = (
    Kind(
        "values of a result change or stand under another name",
        "a result of SQL reads back equal from CSV, JSON and Parquet: columns of one name, exact numbers, null beside "
        "empty text, nested types, infinities",
        {
            "tests.flows.terminal.test_query_output": (
                "test_columns_with_one_name_keep_their_own_values_in_every_format",
                "test_exact_numbers_keep_every_digit",
                "test_a_sum_of_integers_is_an_integer_in_json",
                "test_null_and_empty_text_differ_in_csv",
                "test_a_value_is_written_as_duckdb_prints_it",
                "test_a_union_keeps_its_tag_in_json_and_parquet",
                "test_texts_are_read_back_from_every_format",
                "test_numbers_are_read_back_from_every_format",
            )
        },
    ),
    Kind(
        "an export differs from the corpus",
        "every value, messages and tools included, reads back equal by json, orjson, DuckDB and pyarrow",
        {"tests.storage.export.test_corpus": ("test_every_value_of_an_export_is_read_back_by_other_programs",)},
    ),
    Kind(
        "rows of CSV and TSV are cut, joined or lose their quotes",
        "what the csv module writes reads back equal; a row that is not as the header is rejected alone",
        {
            "tests.storage.readers.test_formats": (
                "test_a_row_with_another_number_of_cells_than_the_header_is_rejected",
                "test_an_open_quote_rejects_its_own_row_only",
                "test_an_open_quote_in_a_long_file_rejects_its_own_row_only",
                "test_quotes_escaped_with_a_backslash_are_rejected_unless_the_escape_is_set",
                "test_quotes_of_tsv_stay_in_the_text_unless_the_cell_is_quoted_completely",
                "test_two_columns_with_the_name_of_a_wanted_column_are_refused",
                "test_csv_reads_back_what_the_csv_module_writes",
            )
        },
    ),
    Kind(
        "types of Parquet and JSON that stand for text are not read as text",
        "bytes that are UTF-8 are text, strings of a JSON column are those that DuckDB reads, ids keep their digits",
        {
            "tests.storage.readers.test_documents": (
                "test_bytes_of_parquet_are_text_where_they_are_utf8",
                "test_messages_with_bytes_are_read",
                "test_texts_of_a_json_column_are_those_that_duckdb_reads",
                "test_other_json_is_text_as_it_is_written",
                "test_ids_and_licenses_of_json_are_kept_as_text",
                "test_ids_of_parquet_are_kept_as_text_whatever_their_type",
            )
        },
    ),
    Kind(
        "rows, columns or files of a source disappear without a count",
        "rows are records or rejected documents, columns are read or counted, files are read or listed with a reason",
        {
            "tests.tasks.ingestion.test_counts": (
                "test_every_row_is_a_record_or_a_rejected_document",
                "test_every_column_is_read_or_counted_as_not_read",
            ),
            "tests.storage.readers.test_discovery": (
                "test_files_that_are_not_text_of_the_source_are_rejected_with_their_reason",
                "test_no_link_is_followed_out_of_a_folder_or_twice",
            ),
        },
    ),
    Kind(
        "columns beside the text change their values",
        "every value of JSON reads back equal from `kept.parquet`",
        {"tests.storage.readers.test_other_columns": ("test_every_value_of_json_reads_back_equal",)},
    ),
    Kind(
        "different texts are compared as equal",
        "texts that differ in a symbol, sign, currency or emoji differ; case, indentation and line structure of code "
        'count with `normalization = "code"`, and are counted without',
        {
            "tests.curation.test_text": (
                "test_different_texts_are_no_exact_duplicates",
                "test_texts_that_differ_in_what_carries_meaning_have_different_tokens",
                "test_a_symbol_more_is_always_another_text",
                "test_another_symbol_is_always_another_text",
                "test_every_symbol_is_one_token",
                "test_programs_that_differ_have_different_tokens",
                "test_every_line_of_code_but_the_first_is_preceded_by_its_structure",
            ),
            "tests.flows.cli.test_curate": ("test_programs_that_differ_in_what_prose_ignores_are_counted_or_kept",),
        },
    ),
    Kind(
        "texts of a script, or long sentences, are lost",
        "passages of any script cover their document, lines stay, and short-text rules keep sentences of every script",
        {
            "tests.curation.test_passages": (
                "test_a_document_of_any_script_is_covered_by_its_passages",
                "test_passages_of_scripts_without_signs_for_sentences_end_with_words",
                "test_line_breaks_and_indentation_are_kept",
                "test_a_sentence_that_does_not_fit_is_cut_between_words",
                "test_every_passage_keeps_its_bounds_and_no_character_is_lost",
            ),
            "tests.curation.test_text": ("test_scripts_without_spaces_are_segmented_into_words",),
            "tests.curation.filters.test_quality": ("test_human_sentences_of_every_script_pass_the_short_preset",),
        },
    ),
    Kind(
        "messages are learned as text, or with empty or wrong parts",
        "every stored shape and role name is read; malformed and empty messages are rejected with their reason",
        {
            "tests.test_chat": (
                "test_a_malformed_conversation_is_rejected_with_its_reason",
                "test_malformed_tools_reject_their_conversation",
                "test_values_that_json_lacks_are_in_no_stored_conversation",
                "test_an_assistant_has_one_role_whatever_the_source_calls_it",
            ),
            "tests.storage.readers.test_conversations": (
                "test_common_shapes_of_conversations_are_recognized",
                "test_a_row_of_a_known_shape_without_its_parts_has_its_reason",
            ),
            "tests.storage.readers.test_documents": (
                "test_messages_are_read_in_every_shape_that_they_are_stored_in",
                "test_json_that_is_no_conversation_stays_text",
                "test_an_empty_prompt_or_response_is_rejected",
            ),
        },
    ),
    Kind(
        "masks remove words, and codes that do not exist find nothing",
        "a mask leaves every character around an address; unknown regions and languages are refused",
        {
            "tests.curation.filters.test_pii": (
                "test_what_is_planted_is_found_in_any_script_and_nothing_besides",
                "test_a_mask_leaves_every_character_around_an_address",
                "test_a_mask_covers_the_address_alone",
                "test_numbers_of_other_kinds_are_not_personal_data",
                "test_a_region_without_phone_numbers_is_refused",
            ),
            "tests.curation.filters.test_language": (
                "test_a_language_that_the_classifier_does_not_know_is_refused",
                "test_every_language_of_the_classifier_may_be_kept",
            ),
        },
    ),
    Kind(
        "the name of a special token inside a text becomes that token",
        "training, scoring and prompts hold only the special tokens that are added",
        {
            "tests.tasks.backends.models.test_tokenization": (
                "test_the_name_of_a_special_token_in_a_text_is_not_that_token",
                "test_training_scoring_and_prompts_hold_only_the_special_tokens_that_are_added",
            )
        },
    ),
    Kind(
        "long texts are compared by their beginning",
        "the end of a text has an influence, or truncated texts are counted",
        {
            "tests.curation.embeddings.test_sentence_transformers": (
                "test_truncated_texts_are_counted_and_their_end_has_no_influence",
                "test_in_chunks_a_text_is_encoded_in_full",
            )
        },
    ),
    Kind(
        "signals leave processes, tracebacks or damage",
        "Ctrl-C, SIGTERM, SIGHUP and SIGSTOP on a pseudo-terminal: an ordered end, the exit code, no process left",
        {
            "tests.flows.test_signals": (
                "test_ctrl_c_ends_a_run_in_order_and_the_same_command_can_resume",
                "test_ctrl_c_ends_recipes_that_run_in_parallel",
                "test_sigterm_ends_a_run_in_order",
                "test_a_stopped_run_continues_and_ctrl_c_ends_it",
                "test_ctrl_c_ends_a_run_while_vllm_starts",
                "test_what_ctrl_c_cannot_stop_is_ended_after_seconds_or_by_a_second_ctrl_c",
                "test_ctrl_c_ends_an_ingest_with_all_its_processes",
                "test_ctrl_c_ends_a_long_query",
                "test_a_closed_terminal_ends_the_command",
                "test_nohup_keeps_a_command_alive_when_its_terminal_closes",
            ),
        },
    ),
    Kind(
        "the environment of a user stops a command",
        "proxies, modules in the working folder, a home that cannot be written, closed or full streams",
        {
            "tests.flows.orchestration.test_local_server": (
                "test_no_proxy_is_asked_for_this_machine_and_the_user_s_exceptions_stay",
                "test_a_client_for_this_machine_opens_whatever_the_proxy",
                "test_a_dead_server_is_one_sentence",
                "test_modules_of_the_working_folder_do_not_stand_in_for_others",
                "test_without_a_home_that_can_be_written_prefect_gets_a_temporary_one",
                "test_a_prefect_home_that_cannot_be_written_is_one_sentence",
            ),
            "tests.flows.cli.test_streams": (
                "test_a_list_that_cannot_be_printed_is_an_error",
                "test_a_full_disk_behind_standard_output_is_an_error",
                "test_a_reader_that_stops_early_is_no_error_message",
                "test_closed_streams_do_not_change_the_exit_code_of_a_mistake",
            ),
        },
    ),
    Kind(
        "large recipes are slow or refused",
        "a plan takes linear time, the server gets a shortened copy, a list of values is counted instead of printed",
        {
            "tests.curation.prompts.test_plan": (
                "test_the_time_of_a_plan_is_linear_in_its_size",
                "test_teachers_are_assigned_in_linear_time",
            ),
            "tests.tasks.orchestration.test_prefect": (
                "test_a_flow_runs_with_parameters_that_the_server_refuses_and_records_the_small_ones",
                "test_recorded_parameters_are_bounded_whatever_their_shape",
                "test_prefect_does_not_look_inside_a_constant_argument",
            ),
            "tests.flows.terminal.test_dry_run": ("test_a_plan_counts_the_values_of_a_long_attribute",),
        },
    ),
    Kind(
        "what was typed is read as something else",
        "names that look like numbers or dates stay text, an apostrophe in a comment ends nothing, a schedule "
        "counts by its zone",
        {
            "tests.flows.config.test_recipe": (
                "test_a_text_setting_takes_what_was_typed",
                "test_a_number_in_a_file_where_text_belongs_gets_quotes_as_advice",
            ),
            "tests.flows.terminal.test_sql_shell": (
                "test_a_statement_ends_at_a_semicolon_outside_quotes_and_comments",
                "test_an_apostrophe_in_a_comment_or_a_name_does_not_keep_the_shell_waiting",
            ),
            "tests.flows.orchestration.test_schedules": (
                "test_two_at_night_is_two_by_the_clock_of_the_zone",
                "test_a_schedule_that_cannot_work_is_refused",
            ),
        },
    ),
    Kind(
        "an error names the wrong cause",
        "a missing column is refused with those that are there, spaces included, and advice fits the cause",
        {
            "tests.storage.readers.test_formats": (
                "test_spaces_in_the_name_of_a_column_are_visible",
                "test_a_file_with_another_delimiter_is_refused_with_the_setting_to_change",
            ),
            "tests.tasks.ingestion.test_ingest": (
                "test_a_file_without_readable_rows_is_refused_with_advice_for_its_cause",
                "test_a_file_without_the_text_column_is_refused",
            ),
        },
    ),
)


_INTRODUCTION = """\
Faults that users of comparable tools reported, by kind. Values are parameters of tests, and generated examples where a
law holds for all values. In addition, `python -m benchmarks readers` compares the readers with Python's `csv` and
`json`, pyarrow and DuckDB on 10,000 generated files: [figures](figures.md#readers).""".splitlines()


def page() -> str:
    """Return the page. Test modules are imported, and nothing in them runs."""
    lines = [
        "# Kinds of faults, and the values tried",
        "",
        "<!-- Written by docs/faults.py. -->",
        *_INTRODUCTION,
        "",
        "| fault | what is right | values tried | tests |",
        "|---|---|---|---|",
    ]
    for kind in KINDS:
        counts = [count for _, count in _tests(kind)]
        links = "; ".join(name for name, _ in _tests(kind))
        lines.append(f"| {kind.fault} | {kind.right} | {sum(counts):,} | {links} |")
    return "\n".join(lines) + "\n"


def _tests(kind: Kind) -> Iterator[tuple[str, int]]:
    """Yield a link to each test, and the number of values that it tries."""
    for module_name, names in kind.tests.items():
        module = importlib.import_module(module_name)
        path = module_name.replace(".", "/") + ".py"
        for name in names:
            words = name.removeprefix("test_").replace("_", " ")
            yield f"[{words}](../{path})", _num_values(getattr(module, name))


def _num_values(test: object) -> int:
    marks = getattr(test, "pytestmark", [])
    num_cases = math.prod(len(list(mark.args[1])) for mark in marks if mark.name == "parametrize")
    settings = getattr(test, "_hypothesis_internal_use_settings", None)
    return num_cases * (settings.max_examples if settings and hasattr(test, "hypothesis") else 1)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(page())
