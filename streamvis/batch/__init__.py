"""Processes many recordings, each as a run of its own in a process of its own.

jobs         which directory a recording belongs to, and whether it still has to be processed
pool         the processes that run jobs, several at a time
job_process  the program of such a process
results      the result of each file, and `batch.json`
"""
