"""Settings: which may be changed by anybody, which change how statements are read, and which are an administrator's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ostiary.model.operations import Action, Objection, Unjudgeable
from ostiary.protocols.postgres.understand.findings import Objected

if TYPE_CHECKING:
    from ostiary.protocols.postgres.understand.names import Names

INNOCENT: Final = frozenset(
    [
        "application_name",
        "datestyle",
        "timezone",
        "intervalstyle",
        "extra_float_digits",
        "client_min_messages",
        "bytea_output",
        "work_mem",
        "maintenance_work_mem",
        "temp_buffers",
        "enable_seqscan",
        "enable_indexscan",
        "enable_indexonlyscan",
        "enable_bitmapscan",
        "enable_hashjoin",
        "enable_mergejoin",
        "enable_nestloop",
        "enable_hashagg",
        "enable_sort",
        "enable_material",
        "enable_memoize",
        "enable_incremental_sort",
        "enable_parallel_append",
        "enable_parallel_hash",
        "enable_partition_pruning",
        "enable_tidscan",
        "enable_gathermerge",
        "enable_partitionwise_join",
        "enable_partitionwise_aggregate",
        "enable_async_append",
        "enable_group_by_reordering",
        "enable_presorted_aggregate",
        "enable_self_join_elimination",
        "enable_distinct_reordering",
        "random_page_cost",
        "seq_page_cost",
        "cpu_tuple_cost",
        "cpu_index_tuple_cost",
        "cpu_operator_cost",
        "effective_cache_size",
        "effective_io_concurrency",
        "from_collapse_limit",
        "join_collapse_limit",
        "geqo",
        "geqo_threshold",
        "geqo_seed",
        "geqo_effort",
        "geqo_generations",
        "geqo_pool_size",
        "geqo_selection_bias",
        "cursor_tuple_fraction",
        "plan_cache_mode",
        "jit",
        "jit_above_cost",
        "jit_inline_above_cost",
        "jit_optimize_above_cost",
        "max_parallel_workers_per_gather",
        "max_parallel_workers",
        "parallel_setup_cost",
        "parallel_tuple_cost",
        "min_parallel_table_scan_size",
        "min_parallel_index_scan_size",
        "parallel_leader_participation",
        "force_parallel_mode",
        "debug_parallel_query",
        "constraint_exclusion",
        "default_statistics_target",
        "hash_mem_multiplier",
        "recursive_worktable_factor",
        "transaction_isolation",
        "transaction_deferrable",
        "transaction_read_only",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_transaction_deferrable",
        "seed",
        "quote_all_identifiers",
        "xmloption",
        "xmlbinary",
        "lc_monetary",
        "lc_numeric",
        "lc_time",
        "lc_messages",
        "default_text_search_config",
        "gin_fuzzy_search_limit",
        "gin_pending_list_limit",
        "array_nulls",
        "default_table_access_method",
        "default_tablespace",
        "temp_tablespaces",
        "default_toast_compression",
        "synchronize_seqscans",
        "stats_fetch_consistency",
        "check_function_bodies",
        "max_parallel_maintenance_workers",
        "vacuum_cost_delay",
        "vacuum_cost_limit",
        "backend_flush_after",
        "icu_validation_level",
    ]
)
"""They change how results look, or how they are computed, and never which."""

GUARDS: Final = frozenset({
    "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout",
    "transaction_timeout", "tcp_user_timeout", "client_connection_check_interval", "deadlock_timeout",
})  # fmt: skip
"""Limits: they may be set, but not lifted."""
LIFTED: Final = re.compile(r"\s*+[-+]?0*+(?:\.0*+)?\s*+[a-z]*+\s*", re.IGNORECASE)
LENGTH: Final = re.compile(r"\s*+\+?\d{1,12}(?:\.\d{1,6})?\s*+(?:us|ms|s|min|h|d)?\s*")

LIFTS: Final = {
    "transaction_read_only": "read_only", "default_transaction_read_only": "read_only", "statement_timeout": "timeout",
}  # fmt: skip
"""Settings under which policy may open a session, and what setting them otherwise lifts."""
TRUE: Final = frozenset({"on", "true", "yes", "1", "t", "tr", "tru", "y", "ye"})
UTF8: Final = frozenset({"utf8", "unicode", "utf-8", "utf_8"})
READING: Final = frozenset({"standard_conforming_strings", "client_encoding"})
SAFE_TRUE: Final = frozenset({"standard_conforming_strings"})
BACKSLASHES: Final = frozenset({"backslash_quote", "escape_string_warning"})


MODES: Final = {"transaction_isolation": "isolation", "transaction_read_only": "read only"}
"""Settings of the transaction at hand, and what they are called in facts; as `default_…` they hold for later ones."""
VALUES: Final = frozenset({
    "datestyle", "intervalstyle", "timezone", "backslash_quote", "array_nulls", "xmloption", "lc_monetary", "default_text_search_config",
    "transform_null_equals",
})  # fmt: skip
"""Settings by which a literal, or an operator, means something else."""
SAYABLE: Final = re.compile(r"[\w /,.:+-]{0,60}", re.ASCII)


def note_mode(names: Names, name: str, value: str, *, local: bool) -> None:
    """Note what policy may see of a setting that is changed; `local`: for the transaction at hand."""
    mode = mode_of(name, value)
    if mode:
        names.effect("mode", depends=False, name=mode, local=local)


def mode_of(name: str, value: str) -> str:
    """What a setting of this value is called in facts; empty: it does not stand there."""
    key = name.lower()
    said = value.strip().lower()
    mode = MODES.get(key.removeprefix("default_"))
    if mode == "read only":
        return mode if said in TRUE else ""
    return f"{mode or key}={said if SAYABLE.fullmatch(said) else '?'}" if mode is not None or key in VALUES else ""


def judge_setting(names: Names, name: str, values: list[str] | None, *, local: bool) -> None:
    """Note what setting `name` to `values` means; None for values: back to the default.

    Raises `Objected` for what would change how the text of statements is read.
    """
    key = name.lower()
    found = names.found
    value = values[0] if values else ""
    if values is not None and key in LIFTS and not (LIFTS[key] == "read_only" and value.strip().lower() in TRUE):
        found.lifts.add(LIFTS[key])
    if key in READING:
        _judge_reading(key, values)
        found.touch("connection", "", Action.CONNECT)
        found.harmless = False
        return
    if key in {"search_path", "schema"}:
        _judge_path(names, values, local=local)
        return
    if key in {"role", "session_authorization"}:
        names.effect("role", name=value.lower() if values is not None else "none")
    if values is not None:
        note_mode(names, key, ", ".join(values), local=local or key in MODES)
    found.constants = True
    innocent = key in INNOCENT or key in BACKSLASHES
    if key in GUARDS:
        innocent = values is None or bool(LENGTH.fullmatch(value) and not LIFTED.fullmatch(value))
    found.harmless = False
    if innocent:
        found.touch("connection", "", Action.CONNECT)
    else:
        found.touch("setting", key, Action.ADMINISTER)


def _judge_reading(key: str, values: list[str] | None) -> None:
    safe = values is None
    if values is not None and len(values) == 1:
        value = values[0].strip().lower()
        safe = value in TRUE if key in SAFE_TRUE else value in UTF8
    if values is not None and values and values[0].strip().lower() == "default":
        safe = True
    if not safe:
        wanted = "on" if key in SAFE_TRUE else "UTF8"
        raise Objected(
            Objection(
                Unjudgeable.UNSAFE_SETTING,
                f'parameter "{key}" cannot be changed through this gateway',
                f"It changes how statements are read. It is {wanted}, and stays so.",
                "42501",
                None,
            )
        )


def _judge_path(names: Names, values: list[str] | None, *, local: bool) -> None:
    """search_path: only to schemas in which the gateway's role cannot create; `public` and the default are as they were."""
    found, snapshot = names.found, names.snapshot
    found.harmless = False
    found.constants = True
    known = {s for s, _ in snapshot.relation_oids} | {s for s, _ in snapshot.functions_named}
    if values is None:
        path = snapshot.search_path
    else:
        path = tuple(_schema(each, snapshot.role) for each in values if each)
        path = tuple(each for each in path if each != snapshot.role or each in known)
    # A schema that is not known may be made by anybody who may make schemas: it counts as writable.
    writable = {each for each in path if each in snapshot.writable_schemas or each not in known} - {"public"}
    # What stands before pg_catalog hides what is built in.
    hides = "pg_catalog" in path and path[0] != "pg_catalog"
    if path == snapshot.search_path or not (writable or hides):
        found.touch("connection", "", Action.CONNECT)
    else:
        found.touch("setting", "search_path", Action.ADMINISTER)
    names.effect("path", path=path, local=local)
    names._set_path(path)  # noqa: SLF001 -- statements behind this one in the text are read with it


def _schema(text: str, role: str) -> str:
    return role if text in {"$user", '"$user"'} else text
