"""Trials of the tracker: many sequences and simulated scenes, thinned copies, paired comparisons.

inputs = simulated_inputs(SCENES)  # and recorded_inputs(sequences, TrialNetworks(), cache)
(scores,) = run(inputs, [TrialSetting()], Thinning(copies=5))
by_group(scores)  # streamvis.evaluation.trials
"""
