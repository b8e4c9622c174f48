"""Recording: the packets of a camera as segments and clips, without encoding; room on the disk."""
