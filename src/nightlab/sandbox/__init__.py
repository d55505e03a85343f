"""Sandboxes: what a process can see and reach, and how its whole process tree is ended. For trials and proposers."""
