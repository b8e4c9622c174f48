"""Ground planes: the homography from the pixels of a camera to metres on the ground.

ground_plane  fits planes to points, rectangles and cameras
inputs        reads those from command lines and files, and checks them
definition    the plane that the options of `streamvis calibrate` define
quality       how fine a plane is and how far it reaches, as numbers and as lines of text
plane_file    the file that holds the plane of a source
"""
