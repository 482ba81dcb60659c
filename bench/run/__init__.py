"""One run's life: configuration, identity, adaptation under the meter, test, result; and grids of runs."""
