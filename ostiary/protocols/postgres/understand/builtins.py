"""PostgreSQL's own functions, relations and types that need a word: what is dangerous, and what is only volatile."""

from __future__ import annotations

from typing import Final

INNOCENT: Final = frozenset(
    [
        "random",
        "clock_timestamp",
        "timeofday",
        "gen_random_uuid",
        "uuidv4",
        "uuidv7",
        "random_normal",
        "setseed",
        "pg_is_in_recovery",
        "pg_relation_size",
        "pg_table_size",
        "pg_indexes_size",
        "pg_total_relation_size",
        "pg_database_size",
        "pg_tablespace_size",
        "pg_partition_tree",
        "pg_partition_ancestors",
        "pg_jit_available",
        "pg_collation_actual_version",
        "pg_blocking_pids",
        "pg_database_collation_actual_version",
        "pg_isolation_test_session_is_blocked",
        "pg_safe_snapshot_blocking_pids",
        "txid_status",
        "pg_xact_status",
        "pg_notification_queue_usage",
        "pg_lock_status",
        "pg_show_all_settings",
        "pg_sequence_last_value",
        "pg_current_wal_lsn",
        "pg_current_wal_insert_lsn",
        "pg_current_wal_flush_lsn",
        "pg_last_wal_receive_lsn",
        "pg_last_wal_replay_lsn",
        "pg_last_xact_replay_timestamp",
        "pg_is_wal_replay_paused",
        "pg_stat_have_stats",
        "pg_stat_get_xact_blocks_fetched",
        "pg_stat_get_xact_blocks_hit",
        "pg_stat_get_xact_function_calls",
        "pg_stat_get_xact_function_self_time",
        "pg_stat_get_xact_function_total_time",
        "pg_stat_get_xact_numscans",
        "pg_stat_get_xact_tuples_deleted",
        "pg_stat_get_xact_tuples_fetched",
        "pg_stat_get_xact_tuples_hot_updated",
        "pg_stat_get_xact_tuples_inserted",
        "pg_stat_get_xact_tuples_returned",
        "pg_stat_get_xact_tuples_updated",
        "pg_stat_get_xact_tuples_newpage_updated",
        "pg_stat_get_numscans",
        "pg_stat_get_recovery_prefetch",
        "pg_stat_clear_snapshot",
        "lastval",
        "bernoulli",
        "system",
        "amvalidate",
        "pg_prepared_xact",
        "pg_xact_commit_timestamp",
        "pg_xact_commit_timestamp_origin",
        "pg_last_committed_xact",
        "pg_get_multixact_members",
        "currtid2",
        "pg_export_snapshot",
        "pg_input_is_valid",
        "pg_input_error_info",
        "pg_basetype",
        "pg_available_extensions",
        "pg_available_extension_versions",
        "pg_get_wal_replay_pause_state",
        "pg_advisory_unlock",
        "current_query",
        "pg_advisory_unlock_shared",
        "pg_advisory_unlock_all",
    ]
)
"""Volatile functions that change nothing and show nothing protected: as good as stable."""

ADMINISTRATIVE: Final = frozenset(
    [
        "pg_terminate_backend",
        "pg_cancel_backend",
        "pg_reload_conf",
        "pg_rotate_logfile",
        "pg_rotate_logfile_old",
        "pg_switch_wal",
        "pg_promote",
        "pg_wal_replay_pause",
        "pg_wal_replay_resume",
        "pg_create_restore_point",
        "pg_backup_start",
        "pg_backup_stop",
        "pg_start_backup",
        "pg_stop_backup",
        "pg_log_backend_memory_contexts",
        "pg_log_standby_snapshot",
        "pg_import_system_collations",
        "pg_read_file",
        "pg_read_file_old",
        "pg_read_binary_file",
        "pg_stat_file",
        "pg_ls_dir",
        "pg_ls_logdir",
        "pg_ls_waldir",
        "pg_ls_tmpdir",
        "pg_ls_archive_statusdir",
        "pg_ls_logicalmapdir",
        "pg_ls_logicalsnapdir",
        "pg_ls_replslotdir",
        "pg_ls_summariesdir",
        "pg_current_logfile",
        "pg_hba_file_rules",
        "pg_ident_file_mappings",
        "pg_show_all_file_settings",
        "pg_config",
        "lo_import",
        "lo_export",
        "pg_extension_config_dump",
        "pg_nextoid",
        "pg_stop_making_pinned_objects",
        "pg_control_checkpoint",
        "pg_control_init",
        "pg_control_recovery",
        "pg_control_system",
        "pg_set_relation_stats",
        "pg_clear_relation_stats",
        "pg_set_attribute_stats",
        "pg_clear_attribute_stats",
        "pg_restore_relation_stats",
        "pg_restore_attribute_stats",
        "pg_restore_extended_stats",
        "pg_clear_extended_stats",
        "pg_sync_replication_slots",
        "pg_drop_replication_slot",
        "pg_copy_logical_replication_slot",
        "pg_copy_physical_replication_slot",
        "pg_create_logical_replication_slot",
        "pg_create_physical_replication_slot",
        "pg_logical_slot_get_changes",
        "pg_logical_slot_peek_changes",
        "pg_logical_slot_get_binary_changes",
        "pg_logical_slot_peek_binary_changes",
        "pg_logical_emit_message",
        "pg_replication_slot_advance",
        "pg_file_write",
        "pg_file_sync",
        "pg_file_rename",
        "pg_file_unlink",
        "pg_logdir_ls",
        "pg_get_backend_memory_contexts",
        "pg_get_shmem_allocations",
        "pg_get_process_memory_contexts",
        "pg_stat_reset_backend_stats",
        "pg_stat_force_next_flush",
    ]
)
ADMINISTRATIVE_PREFIXES: Final = ("pg_replication_origin_", "binary_upgrade_", "pg_stat_reset", "pg_ls_", "pg_read_")

RUNS_TEXT: Final = frozenset(
    [
        "query_to_xml",
        "query_to_xmlschema",
        "query_to_xml_and_xmlschema",
        "cursor_to_xml",
        "cursor_to_xmlschema",
        "table_to_xml",
        "table_to_xmlschema",
        "table_to_xml_and_xmlschema",
        "schema_to_xml",
        "schema_to_xmlschema",
        "schema_to_xml_and_xmlschema",
        "database_to_xml",
        "database_to_xmlschema",
        "database_to_xml_and_xmlschema",
        "ts_stat",
        "ts_rewrite",
    ]
)
"""They run SQL that is given as text, or read relations that are named in a value: nobody can see what."""

FOREIGN_TEXT: Final = ("dblink", "crosstab", "connectby", "xpath_table")
"""Beginnings of names of functions in C, of extensions that come with PostgreSQL, that do the same."""

MACHINE_CODE: Final = frozenset({"c", "internal"})
COMPUTING: Final = frozenset({
    "similarity_op", "word_similarity_op", "word_similarity_commutator_op", "strict_word_similarity_op",
    "strict_word_similarity_commutator_op", "show_limit", "unaccent", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4",
    "gen_random_uuid", "gen_random_bytes", "gen_salt",
})  # fmt: skip
"""Functions in C, of extensions that come with PostgreSQL, that change nothing and read nothing, though they are not immutable."""

RUNS_TYPES: Final = frozenset({
    "pg_input_is_valid", "pg_input_error_info", "domain_in", "domain_recv", "array_in", "array_recv", "record_in",
    "record_recv", "range_in", "range_recv", "multirange_in", "multirange_recv", "anyarray_in", "anycompatiblearray_in",
    "satisfies_hash_partition", "amvalidate",
})  # fmt: skip
"""They run the input functions and checks of a type that is named in a value."""

LARGE_OBJECTS: Final = frozenset(
    [
        "lo_close",
        "lo_creat",
        "lo_create",
        "lo_from_bytea",
        "lo_get",
        "lo_lseek",
        "lo_lseek64",
        "lo_open",
        "lo_put",
        "lo_tell",
        "lo_tell64",
        "lo_truncate",
        "lo_truncate64",
        "lo_unlink",
        "loread",
        "lowrite",
    ]
)

STATISTICS_FUNCTIONS: Final = frozenset(
    {"pg_stat_get_activity", "pg_stat_get_backend_activity", "pg_prepared_statement", "pg_cursor"}
)
"""They show other sessions' statements, with the values in them."""

SECRET_RELATIONS: Final = frozenset(
    [
        "pg_authid",
        "pg_shadow",
        "pg_user_mapping",
        "pg_user_mappings",
        "pg_subscription",
        "pg_largeobject",
        "pg_file_settings",
        "pg_hba_file_rules",
        "pg_ident_file_mappings",
        "pg_config",
        "pg_backend_memory_contexts",
        "_pg_user_mappings",
        "user_mapping_options",
        "pg_shmem_allocations",
        "pg_statistic_ext_data",
    ]
)
"""System relations with credentials, file contents, or stored data of others in them."""

POLYMORPHIC: Final = frozenset({2249, 2276, 2277, 2283, 2776, 3500, 3831, 4537, 4538, 5077, 5078, 5079, 5080})
"""record, "any" and the any... types."""

BOOL, INT4, INT8, FLOAT8, NUMERIC, TEXT, UNKNOWN, BIT, NAME, VARCHAR, BPCHAR = (
    16,
    23,
    20,
    701,
    1700,
    25,
    705,
    1560,
    19,
    1043,
    1042,
)
"""OIDs of pg_type.dat."""
NUMBERS: Final = frozenset({21, INT4, INT8, NUMERIC, 700, FLOAT8})
