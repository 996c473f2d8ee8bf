"""The fault matrix: each fault by its number, its name, and in one phrase what must happen. Each is one test of that name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["MATRIX", "Row", "name_of_test"]


class Row(NamedTuple):
    """One row of the matrix."""

    name: str
    #: What must happen.
    promise: str


def name_of_test(number: int) -> str:
    """Return the name of a row's test."""
    return f"test_fault_{number:02d}_{MATRIX[number].name}"


MATRIX: Mapping[int, Row] = {
    # config
    1: Row("yaml_syntax", "exit 2 before any request, with file:line:column"),
    2: Row("unknown_key", "exit 2, with the nearest known key"),
    3: Row("wrong_type_or_range", "exit 2 with the path of the field"),
    4: Row("key_variable_missing", "exit 2, names the variable and never a value"),
    5: Row("key_with_newline", "the white space around a key is left out, inside it exit 2"),
    6: Row("key_not_ascii", "exit 2 before any request"),
    7: Row("bad_url", "exit 2, names the URL"),
    8: Row("secret_in_config", "a warning, and in no file and no output; a password in the URL: exit 2"),
    9: Row("output_not_writable", "exit 2 before any request"),
    10: Row("output_in_use", "exit 2, names the process that has it"),
    11: Row("config_changed", "exit 2 at resume, with what differs"),
    # dataset
    12: Row("dataset_missing_or_empty", "exit 2 before anything is made"),
    13: Row("malformed_lines", "an error row each; all of the first ten: exit 2"),
    14: Row("odd_encodings", "text that is not JSON costs its row, everything else is accepted"),
    15: Row("column_missing", "for all rows: exit 2; for one: its error row"),
    16: Row("duplicate_ids", "an error row that names both places"),
    17: Row("enormous_rows", "beyond 16 MiB an error row, in bounded memory"),
    18: Row("file_cut_or_changed", "cut: exit 2; changed while it is read, or damaged further on: exit 3, resumable"),
    19: Row("dataset_is_a_pipe", "runs, and says that a resume needs a file"),
    160: Row("stray_quote_in_csv", "exit 3, names the line where it opens; once it is told what quotes are, the rest is asked"),
    161: Row("stray_quote_between_tabs", "is text, and every line is a row"),
    162: Row("no_number_in_data", "is null to templates, locators and metrics, as in the results"),
    163: Row("cell_of_another_type", "an error row with line, column and value; an unknown column exit 2"),
    164: Row("read_in_another_way", "exit 2 at resume, with what differs"),
    165: Row("resumed_in_any_form", "whatever a file is packed in and encoded as, only what has no answer is asked"),
    166: Row("rows_in_an_object", "exit 2, names the keys that may have the rows"),
    167: Row("row_with_a_large_medium", "is asked up to dataset.media_limit"),
    # network
    20: Row("connection_refused", "before the first success: exit 3 in seconds; later retried"),
    21: Row("dns_failure", "the same; only the host is printed"),
    22: Row("bad_certificate", "exit 3 at once, names the reason and the option for a CA bundle"),
    23: Row("https_to_plain_port", "exit 3 with a hint at http"),
    24: Row("reset_before_response", "retried; may have been billed"),
    25: Row("stale_keep_alive", "sent again at once, no attempt that counts"),
    26: Row("no_answer_at_all", "a timeout, retried; may have been billed"),
    27: Row("proxy_from_environment", "used, its host printed without user and password"),
    28: Row("dead_proxy", "exit 3, names the proxy"),
    29: Row("slow_connect", "a connect timeout"),
    30: Row("too_many_open_files", "fewer connections and a warning, never error rows"),
    # HTTP status
    31: Row("bad_request", "an error row with the body's first 4 KiB, no retry"),
    32: Row("unauthorized", "before the first success: exit 3; later three in a row: exit 3, rows pending"),
    33: Row("not_found", "before the first success: exit 3 with the server's words"),
    34: Row("quota_used_up", "exit 3 at any time, rows pending"),
    35: Row("retry_after_in_all_forms", "everybody waits as long as asked, no attempt, at most 120 s"),
    36: Row("storm_of_429", "no row lost, few 429"),
    37: Row("conflict_and_too_early", "retried"),
    38: Row("refused_for_good", "an error row, no retry"),
    39: Row("server_errors", "retried"),
    40: Row("not_implemented", "before the first success: exit 3; later an error row"),
    41: Row("redirect", "not followed; before the first success exit 3 with the location; later an error row"),
    42: Row("redirect_loop", "the same"),
    43: Row("status_without_content", "one retry, then an error row"),
    44: Row("x_should_retry", "obeyed"),
    152: Row("other_success", "any 2xx with a whole answer is one, streamed or not"),
    155: Row("refusal_cut", "counts by its status and headers, whatever becomes of its body"),
    # body
    45: Row("html_502", "retried by its status; the message keeps the title"),
    46: Row("html_200", "before the first success exit 3: is that an API?; later retried"),
    47: Row("json_as_text", "accepted"),
    48: Row("error_in_200", "as if it had that status"),
    49: Row("empty_body", "one retry, then an error row"),
    50: Row("truncated_json", "one retry, then an error row with the head of the body"),
    51: Row("invalid_utf8", "kept with replacement characters and a warning; a BOM is nothing"),
    52: Row("nan_and_huge_numbers", "accepted, and the files can be read"),
    53: Row("no_choices", "one retry, then an error row"),
    54: Row("no_content_but_more", "a result without text, the rest kept"),
    55: Row("finish_reason_length", "a result, counted as truncated"),
    56: Row("content_filter", "refused: an error row; cut: a result"),
    57: Row("usage_unusable", "unknown is null and counted"),
    58: Row("wrong_model_or_choices", "kept, and one warning"),
    59: Row("huge_body", "an error row (response_too_large), bounded memory"),
    60: Row("gzip_bomb", "the bound is on what comes out of it"),
    61: Row("bad_gzip", "one retry, then an error row"),
    62: Row("short_body", "retried; may have been billed"),
    63: Row("broken_http", "retried; no status that nobody sent"),
    64: Row("half_headers", "retried; may have been billed"),
    153: Row("whole_answer_without_an_end", "an answer: of its body only white space can be missing"),
    # stream
    65: Row("error_event", "the partial text is kept, class and retry by its code"),
    66: Row("stream_without_end", "stream_incomplete, retried; with a finish reason it is whole"),
    67: Row("stream_cut", "the same"),
    68: Row("stream_stalls", "the idle timeout, retried"),
    69: Row("comments_for_ever", "only data puts the idle timeout off"),
    70: Row("drip", "the total timeout"),
    71: Row("events_split_anywhere", "the same text at every split"),
    72: Row("large_event", "accepted up to the bound"),
    73: Row("json_for_a_stream", "accepted"),
    74: Row("stream_options_rejected", "left out for the rest of the run, with one warning"),
    75: Row("after_done", "ignored"),
    150: Row("whole_stream_with_a_tail", "an answer whatever follows; an error behind it is said once"),
    154: Row("stream_fails_in_its_own_words", "no answer, though `[DONE]` follows: retried, by its code where it has one"),
    # disk
    76: Row("disk_full", "exit 3, no paid row lost"),
    77: Row("disk_broken", "exit 3, no sync after a failed one"),
    78: Row("short_write", "finished"),
    79: Row("damaged_journal", "what is damaged is asked again, the rest kept"),
    80: Row("output_removed", "noticed within seconds: exit 3"),
    81: Row("newer_journal", "exit 2, names the versions"),
    82: Row("killed_while_finishing", "old files or none; a resume makes them without a request"),
    # signals, process, clock, memory
    83: Row("signals", "the first drains, the second drops, the third ends at once"),
    84: Row("kill_9", "nothing missing, nothing twice"),
    85: Row("power_loss", "nothing lost that was shown as done"),
    86: Row("stdout_closed", "the run goes on"),
    87: Row("wall_clock_jumps", "intervals do not notice"),
    88: Row("suspended", "no error rows"),
    89: Row("memory", "does not grow with the dataset"),
    90: Row("busy_scorer", "the run ends as it would without one"),
    91: Row("scorer_fails", "an error row of the metric, the answer is kept"),
    # the endpoint over time
    92: Row("dead_from_the_start", "exit 3 within 5 s and 10 requests"),
    93: Row("dies_for_ever", "exit 3, no row burned"),
    94: Row("short_outage", "no error rows"),
    95: Row("half_of_answers_500", "every row succeeds, about two requests each"),
    96: Row("gets_slower", "no storm of timeouts"),
    97: Row("mixed_up_answers", "request and response id are kept together"),
    98: Row("bad_rows_in_a_block", "longer than the concurrency: each an error row, and every good row a result"),
    99: Row("bad_rows_refused", "401 or 403 for some rows only: their error rows, and the run goes on"),
    100: Row(
        "bad_rows_on_resume", "where only such rows are left, an answer of an earlier start tells that the endpoint is up"
    ),
    101: Row("refused_alike", "the same from the start, whatever it is: exit 3 within 24 requests, rows pending"),
    102: Row("control_request", "counted in the summary and the journal, its tokens too; no result"),
    # what answers say, and what they use
    110: Row("usage_in_parts", "the total is the sum, floats are numbers, limits.max_tokens stops the run"),
    111: Row("usage_never_said", "an estimate counts, one warning says so, a resume counts the same"),
    112: Row("choice_with_error", "retried by its code, streamed or not; no part of it is an answer"),
    113: Row("thoughts_in_content", "are the reasoning, streamed or not, and no part of the answer"),
    114: Row("key_refused_with_400", "is an auth error, in Google's list too; before the first success exit 3"),
    115: Row("wait_only_in_words", "waited for, nested or behind a long text too"),
    116: Row("prompt_in_refusal", "its words stop no run; an error row"),
    # secrets
    130: Row("key_in_escapes", "in JSON's, HTML's and URLs' escapes of any spelling, with NULs between: in no file, no output"),
    131: Row("secret_without_a_name", "what `${VAR}` brings into headers and the URL's query: in no file, no output"),
    132: Row("key_in_pieces", "the same of a key whose pieces a stream sends, in recordings too"),
    # rows and answers that would hold the process
    140: Row("blocked_loop", "three signals end the program all the same"),
    141: Row("endless_schema", "costs its row and about a second"),
    142: Row("endless_pattern", "costs its row and about a second"),
    143: Row("odd_numbers", "no text makes a metric fail"),
    144: Row("body_of_nothing", "an error row; nobody else is late"),
    145: Row("slow_template", "costs its row, before anything is sent"),
    146: Row("no_process", "exit 3, the rows to be judged are pending"),
    147: Row("killed_while_judging", "no process is left, and the answer is judged on a resume"),
    # resume
    120: Row("finished_run_resumed", "nothing is sent or written, the same summary and exit code; a new run on demand only"),
    121: Row("damaged_parquet", "made again, and nothing is sent"),
    122: Row("stale_runs", "older unfinished runs, and those without answers, are passed over, which is said"),
    123: Row("endpoint_moved", "exit 2 with the option that allows it; with that the run goes on"),
    124: Row("task_mended", "a task without answers may change, and no other is asked again"),
    125: Row("foreign_segment", "exit 2, named, with what to do"),
    126: Row("unreadable_segment", "exit 2, named, with its size and what to do; nothing is cut"),
    127: Row("absurd_position", "a damaged line, in bounded memory"),
    128: Row("file_may_not_grow", "exit 3 with counts and the command that resumes, no paid row lost"),
    129: Row("answered_while_draining", "judged before the end"),
}
