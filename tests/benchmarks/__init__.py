"""How fast the runner is, as ratios to reference jobs measured in the same run: `python -m tests.benchmarks`.

    __main__    arguments, one table
    lab         what every measurement shares: the cores, the endpoint, the data, the processes
    processes   one whole process watched: wall time, CPU at any moment, peak memory
    endpoint    the fast endpoint, built from ../shared/bench, and what it saw
    arrivals    an endpoint that notes when each request came, and may take longer for longer ones, a program of its own
    jobs        the same job for the runner and for the references: config, dataset, command lines
    oldrun      a journal of a run that was killed near its end, a program of its own
    requests, streaming, scale, order …     the measurements
    table       rows, medians, Markdown

The references, the endpoint and the data come from ../shared/bench and are called there as programs; without them, or without
a compiler, nothing can be measured, and the table says so. These are no tests: the suite does not run them.
"""
