"""The measurements behind `streamvis bench`: each returns a report and prints nothing.

hub                   cost of the runtime alone: hops between processes
pipeline              a whole pipeline over its detector alone
feed                  log and feed over a bare socket and a bare table; commits beside an eviction
detector              one detector on each inference engine, and its parts
embedder              crops and appearance embeddings of one frame
actions               the action stage over the length of its video
zones                 cost of counting in zones for a frame; replay of a log over real time
tracker_speed         time per frame of our tracker and of other trackers
tracker_accuracy      scores of the same trackers on MOTChallenge sequences
tracker_tables        the results of both, as reports and tables
report_lines          reports as lines of text
one_thread            linear algebra in one thread, for trackers
jpda_step             one step of JPDA, ours and Stone-Soup's
simulated_detections  the detections that tracker_speed and jpda_step use
peers, stone_soup     adapters for other trackers
"""
