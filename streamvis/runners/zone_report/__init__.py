"""The report of a log with zones: counts, stays, occupancy, queues and a heat map, by the hour.

    with report_of(path, Options(queue_speed=0.3)) as report:
        for table in tables(report):
            ...

A log is read once, event by event. What grows with its length, numbers by hour, is in a temporary
file (`tally`), so that memory does not depend on it.
"""
