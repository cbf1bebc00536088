"""The faults that are looked for, row by row, and the tests outside of this folder that show what holds at them.

Tests in here, and a few others, say themselves which rows they are of: `@pytest.mark.fault(9, 10)`.
"""

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One fault: what must hold, `tests` that show it without bearing the mark, and what is left open."""

    number: int
    fault: str
    holds: str
    tests: tuple[str, ...] = ()
    open: str = ""


_RUNTIME, _SESSION, _STORE = "tests/runtime/test_", "tests/domain/session/test_", "tests/adapters/store/test_"
_PROVIDERS, _TROUBLE, _CALLS = (
    "tests/adapters/providers/test_",
    "tests/runtime/test_trouble.py::",
    "tests/runtime/test_calls.py::",
)
_DECIDE, _SIGNALS, _HTTP = f"{_SESSION}decide.py::", "tests/cli/test_signals.py::", f"{_PROVIDERS}http.py::"
_SQLITE, _DATABASE = f"{_STORE}sqlite.py::", f"{_STORE}database.py::"

ROWS = (
    Row(
        1,
        "`kill -9` before or after any outside call",
        "what was acknowledged stays, each call has one result, effects happen as often as their class allows",
        (
            f"{_RUNTIME}crash_anywhere.py::test_a_crash_at_any_outside_call_in_memory_loses_nothing_and_does_nothing_twice",
            f"{_RUNTIME}crash_anywhere.py::test_a_crash_at_any_outside_call_on_sqlite_loses_nothing_and_does_nothing_twice",
            f"{_RUNTIME}killed.py::test_fifty_processes_killed_at_random_lose_nothing_acknowledged_and_do_nothing_twice",
        ),
    ),
    Row(
        2,
        "`kill -9` during recovery, again and again",
        "recovery can be repeated, and losses are counted",
        (
            f"{_RUNTIME}crash_anywhere.py::test_a_worker_that_dies_again_and_again_while_recovering_still_finishes_the_session",
            f"{_DECIDE}test_taking_over_again_and_again_is_bounded",
        ),
    ),
    Row(
        3,
        "kill between the acceptance of a session and its first step",
        "the session is there and runs later",
        (f"{_SIGNALS}test_a_run_killed_without_a_word_is_taken_up_by_another_process",),
    ),
    Row(
        4,
        "power cut, torn write, a log that was cut or deleted",
        "a beginning of the log with everything acknowledged; damage is reported",
        (f"{_SQLITE}test_what_was_acknowledged_survives_a_process_that_is_killed",),
        "A `-wal` file that is damaged or deleted while it holds commits takes them, and all after them, along in"
        " silence: that is how SQLite reads it.",
    ),
    Row(
        5,
        "`fsync` fails once",
        "the append is refused or done again on a new handle, never believed",
        (f"{_DATABASE}test_after_an_io_error_another_handle_is_used_and_nothing_is_lost",),
    ),
    Row(
        6,
        "disk full at any write",
        "refused; nothing is performed whose intent is not written; work goes on when there is space",
        (
            f"{_SQLITE}test_a_full_disk_refuses_and_loses_nothing_and_work_goes_on_when_there_is_space",
            f"{_SQLITE}test_on_a_full_disk_everything_can_still_be_read",
            f"{_TROUBLE}test_an_outcome_is_kept_while_the_disk_is_full_and_recorded_when_there_is_room",
            f"{_TROUBLE}test_nothing_is_performed_whose_intent_cannot_be_written",
            f"{_TROUBLE}test_a_start_on_a_full_disk_is_refused_and_leaves_nothing",
        ),
    ),
    Row(
        7,
        "read-only file system; the file held by a backup",
        "readable; writers wait for a while, are refused with a reason, and lose nothing",
        (
            f"{_DATABASE}test_a_store_that_is_protected_is_read_and_says_why_it_is_not_written",
            f"{_SQLITE}test_the_loop_goes_on_while_another_process_holds_the_file",
            f"{_SQLITE}test_a_file_that_is_held_for_too_long_is_busy",
        ),
    ),
    Row(
        8,
        "PostgreSQL stops immediately, loses a process, is away, is replaced by a standby that lagged behind",
        "nothing acknowledged is lost on one server; a loss by failover is found out and nothing is built upon it",
        (),
        "What an asynchronous standby had not received is lost when it is promoted. Up to the next look at the log, a"
        " second later at most, workers may go on. With `synchronous_standby_names` nothing is lost.",
    ),
    Row(9, "the connection drops after COMMIT was sent", "what was sent twice is there once, and acknowledged"),
    Row(
        10, "half-open TCP, PgBouncer in transaction mode, a transaction left open", "given up before a lease runs out"
    ),
    Row(11, "serialization errors and deadlocks", "tried again; no update is lost"),
    Row(
        12,
        "a worker is stopped for longer than its lease, and goes on",
        "its appends are refused; what it does has an intent of its own; the new owner treats that as unknown",
        (f"{_RUNTIME}two_workers.py::test_two_workers_that_steal_a_session_from_each_other_write_one_history",),
        "An effect that it had made sure of and not begun when it was stopped may still happen, once, beside one of the"
        " new owner where the class allows repetition. A process that is stopped in the middle of a commit to SQLite"
        " keeps the file locked until it goes on or dies.",
    ),
    Row(
        13,
        "two workers, two resumes, approve against cancel at the same instant",
        "one wins, the others are told so",
        (
            f"{_RUNTIME}two_workers.py::test_two_workers_that_steal_a_session_from_each_other_write_one_history",
            f"{_TROUBLE}test_of_an_approval_a_denial_and_a_cancellation_at_the_same_time_one_decides",
            f"{_SESSION}crossing.py::test_the_first_answer_to_a_question_is_the_answer",
            f"{_SIGNALS}test_a_session_that_another_worker_holds_is_shown_and_not_run_twice",
        ),
    ),
    Row(
        14,
        "a tool that is slow, hangs, ignores being cancelled, or forks",
        "its time runs out, its processes are killed, the outcome says so, the session goes on",
        (
            f"{_CALLS}test_a_tool_that_takes_too_long_is_stopped_and_the_session_goes_on",
            f"{_CALLS}test_a_tool_that_will_not_be_stopped_is_left_behind_and_the_session_goes_on",
            f"{_CALLS}test_a_blocking_tool_that_hangs_is_left_behind_and_the_session_goes_on",
            "tests/adapters/sandbox/test_bwrap.py::test_when_time_is_up_everything_is_killed",
            "tests/adapters/sandbox/test_bwrap.py::test_when_a_command_ends_nothing_that_it_started_lives_on",
        ),
    ),
    Row(
        15,
        "a tool blocks the event loop for longer than the lease",
        "the worker begins nothing of what others have taken",
        (),
        "Everything else in that process stands still meanwhile. Plain functions run in threads and do not do this.",
    ),
    Row(
        16,
        "clocks jump, or are wrong",
        "leases are by the server's clock or by ticking; timers fire once; order is by number and not by time",
        (),
        "On SQLite, leases and timers follow the machine's clock: set ahead by an hour, sessions wake an hour early.",
    ),
    Row(
        17,
        "429 with and without `Retry-After`, 5xx, refused connections",
        "tried again as the provider asks; what can never pass is not",
        (
            f"{_HTTP}test_every_status_has_its_error_with_the_words_of_the_provider",
            f"{_HTTP}test_retry_after_is_understood_in_every_form",
            f"{_HTTP}test_what_will_never_pass_names_no_time_to_wait",
            f"{_HTTP}test_a_provider_that_says_whether_to_try_again_is_believed",
            f"{_HTTP}test_nobody_at_the_address_is_unreachable",
            f"{_HTTP}test_a_name_that_nobody_has_is_unreachable",
            f"{_HTTP}test_tls_to_a_server_without_it_is_unreachable",
            f"{_DECIDE}test_a_failed_attempt_is_retried_later_and_the_last_one_keeps_status_and_message",
            f"{_SESSION}crossing.py::test_waiting_as_long_as_the_provider_asks_costs_no_attempt",
        ),
    ),
    Row(
        18,
        "a stream that is cut at any byte, falls silent, or ends without its end",
        "never taken for a reply; nothing is run from half of one",
        (
            f"{_PROVIDERS}broken_streams.py::test_a_stream_cut_at_any_byte_never_yields_a_reply",
            f"{_PROVIDERS}broken_streams.py::test_an_event_that_comes_twice_makes_no_call_more",
            f"{_PROVIDERS}broken_streams.py::test_an_error_in_the_middle_of_a_reply_tells_how_it_began",
            f"{_HTTP}test_garbage_in_the_stream_is_garbled",
            f"{_HTTP}test_a_connection_that_breaks_in_the_body_is_incomplete",
            f"{_HTTP}test_silence_ends_at_the_deadline_and_closes_the_connection",
            f"{_DECIDE}test_a_reply_that_was_cut_off_is_not_acted_upon",
        ),
        "Of the text that had arrived, 4 KiB are kept in the event; none where rules or hooks look at replies.",
    ),
    Row(
        19,
        "a model that answers nonsense: unknown tools, bad JSON, repeated ids, too many calls, 20 MB",
        "told to the model, which may mend it; bounded",
        (
            f"{_DECIDE}test_a_call_that_makes_no_sense_is_told_to_the_model_which_can_repair_it",
            f"{_DECIDE}test_calls_of_a_turn_get_ids_of_our_own_even_if_the_model_repeats_its_ids",
            f"{_DECIDE}test_a_defective_reply_is_repaired_or_ends_the_session_after_three_in_a_row",
            f"{_SESSION}replay_properties.py::test_a_reply_with_more_calls_than_anybody_expects_replays",
            f"{_HTTP}test_an_endless_reply_is_bounded",
            f"{_PROVIDERS}broken_streams.py::test_a_reply_in_twenty_thousand_pieces_is_whole",
        ),
    ),
    Row(
        20,
        "usage that is missing; a crash before it is settled",
        "reserved before, settled after, counted once",
        (
            f"{_DECIDE}test_the_budget_is_reserved_before_and_settled_after",
            f"{_SESSION}attempts.py::test_whatever_fails_what_is_spent_and_reserved_stays_within_the_limits",
            f"{_SESSION}attempts.py::test_a_lost_worker_may_have_used_up_what_there_was",
            f"{_RUNTIME}crash_anywhere.py::test_a_crash_at_any_outside_call_in_memory_loses_nothing_and_does_nothing_twice",
        ),
        "What a provider charged for a reply that never arrived is not known. It is counted as can be told: the"
        " question and the text that came, or all that was reserved where there are limits or budgets.",
    ),
    Row(
        21,
        "a policy that fails, or changes between decision and act",
        "the decision and the intent are one write under one version of the policy",
        (
            "tests/domain/constraint/test_policy.py::test_a_missing_argument_never_allows_and_always_denies_or_asks",
            f"{_DECIDE}test_a_deny_wins_over_a_granted_approval",
        ),
        "Policies are data within the session's log, judged by a pure function: there is no engine that could"
        " throw, time out or be reloaded.",
    ),
    Row(
        22,
        "approvals too early, too late, twice, of other arguments, after a cancel",
        "the first that is valid wins; the others are refused",
        (
            f"{_SESSION}crossing.py::test_the_first_answer_to_a_question_is_the_answer",
            f"{_SESSION}crossing.py::test_no_answer_is_taken_once_a_session_is_being_cancelled",
            f"{_DECIDE}test_an_approval_of_other_arguments_is_refused",
            f"{_DECIDE}test_an_unanswered_approval_expires_which_is_neither_yes_nor_no",
        ),
    ),
    Row(
        23,
        "cancel at any moment",
        "nothing new begins, what is under way is stopped, the history stays valid",
        (
            f"{_DECIDE}test_cancelling_stops_what_is_under_way_and_then_ends",
            f"{_CALLS}test_ending_a_session_stops_its_model_call",
            f"{_CALLS}test_ending_a_session_stops_its_tool_call_and_records_what_is_known_of_it",
            f"{_CALLS}test_ending_a_session_that_waits_for_approval_performs_nothing",
        ),
    ),
    Row(
        24,
        "sagas: a child or parent crashes, a compensation fails",
        "compensated once, in reverse order",
        (f"{_RUNTIME}fitness_crash.py::test_a_crash_at_any_outside_call_around_an_intervention_undoes_it_once",),
        "There are no child sessions and no chains of compensations yet: what is undone is one call that lowered a"
        " fitness target.",
    ),
    Row(25, "a session that brings down whatever worker runs it", "tried a few times, then parked; the others go on"),
    Row(
        26,
        "an old log under new code, a new event under old code, a tool that is gone",
        "read, or refused with a clear error; never folded wrongly",
        (
            "tests/golden/test_events.py::test_an_event_of_old_is_read_and_written_again_byte_for_byte",
            "tests/golden/test_histories.py::test_a_recorded_history_is_decided_again_as_it_was",
            "tests/golden/test_events.py::test_an_event_from_a_newer_version_with_fields_that_are_not_known_here_is_read",
            "tests/app/test_service.py::test_a_tool_that_this_process_does_not_have_is_an_outcome_that_the_agent_is_told",
        ),
    ),
    Row(
        27,
        "a log that was altered: a bit, a row, the order",
        "the chain of hashes shows it; the session is set aside, the others run",
        (
            f"{_TROUBLE}test_a_damaged_session_is_set_aside_untouched_and_the_others_run",
            f"{_TROUBLE}test_a_session_that_makes_no_sense_is_set_aside_once_and_not_tried_for_ever",
            f"{_SQLITE}test_a_changed_bit_is_found_by_the_chain",
            f"{_SQLITE}test_a_changed_blob_is_found_by_its_hash",
        ),
        "Events that are missing at the end of a chain leave a chain that holds.",
    ),
    Row(
        28,
        "a snapshot that is damaged or newer than the log",
        "ignored",
        open="There are no snapshots: state is folded.",
    ),
    Row(
        29,
        "readers that reconnect, are slow, or miss a notification",
        "no gap, and repeats can be told by their number",
        (
            "tests/faults/test_broken_connections.py::test_connections_that_are_cut_in_the_middle_lose_nothing",
            "tests/faults/test_broken_connections.py::test_connections_that_fall_silent_lose_nothing",
            "tests/faults/test_relay_killed.py::test_a_relay_that_is_killed_again_and_again_misses_nothing",
        ),
    ),
    Row(
        30,
        "removal and erasure while sessions go on",
        "never of a session that goes on; no position is used twice",
        (
            "tests/app/test_housekeeping.py::test_a_session_that_goes_on_is_neither_removed_nor_erased",
            "tests/app/test_housekeeping.py::test_an_erased_session_says_nothing_and_its_chain_still_holds",
        ),
    ),
    Row(
        31,
        "SIGTERM during a long call, twice, and SIGKILL after the grace",
        "sessions are free at once, or when the lease runs out",
        (
            f"{_SIGNALS}test_a_worker_says_what_it_holds_and_drains_on_sigterm",
            f"{_SIGNALS}test_a_second_signal_stops_a_worker_at_once",
        ),
    ),
    Row(
        32,
        "thousands of sessions due at once, all workers restarted, one tenant with a flood",
        "claims a second are bounded, tenants take turns",
        (f"{_RUNTIME}idle.py::test_a_worker_never_looks_at_sessions_that_wait_and_wakes_the_one_that_may_go_on",),
    ),
    Row(
        33,
        "all of it for a long time",
        "memory and open files stay as they are; nothing breaks",
        open="The suite runs it for seconds, `make soak MINUTES=…` for as long as one likes.",
    ),
)
"""Every row, in order."""
