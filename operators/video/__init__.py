"""Video in: files, RTSP, SRT, SDI and V4L2; repair of their clocks; colour; and whether there is a picture at all."""
