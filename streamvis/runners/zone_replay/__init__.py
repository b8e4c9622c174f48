"""What-if: the events of zones and lines, computed again from the tracks in a log.

    for event in replayed(log, layouts, settings):
        ...

The tracks of each frame are put together from their events and given to the machine of the stage
`zones`, so that the events are those that the run would have published with these zones.
"""
