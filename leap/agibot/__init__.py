"""AgiBot data: archives of frames to first frames, annotations to planning rows."""
