"""Trials of the tracker: many sequences and simulated scenes, thinned copies, paired comparisons.

inputs = [*simulated_inputs(SCENES), *recorded_inputs(sequences, "person-lite", ...)]
scores = run(inputs, TrialSetting(), Thinning(copies=5))
by_group(scores)  # streamvis.evaluation.trials
"""
