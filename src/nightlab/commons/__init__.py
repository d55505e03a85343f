"""The commons: how labs exchange findings. A finding is never trusted: each lab measures it again in its sandbox."""
