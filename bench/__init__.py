"""The benchmark harness: engines, weight space, compute accounting, records, sandbox, statistics, command line."""
