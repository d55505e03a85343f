"""Sandboxes: what a process can see and reach, and how its whole process tree is ended. For trials and proposers."""

HOME = "/home/lab"  # mount point of a process's home
SCRATCH = ("/tmp", "/dev/shm", HOME)  # private folders, kept in memory
NOBODY = 65534  # user and group id of `nobody`
