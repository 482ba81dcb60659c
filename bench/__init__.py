"""The harness of the suite: engines, weight space, compute accounting, records, sandbox, statistics, command line."""
