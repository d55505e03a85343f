"""The genome: the torques of a swimmer's two joints."""

import math

RATE = 2.0               # of the swing, in radians a second [0.5..10]
LAG = 0.5                # of the second joint behind the first, in radians [-3..3]
SWING = 1.0              # largest torque [0.1..1]


def act(time, seen):
    """Two torques, from -1 to 1, at a time in seconds.

    ``seen``: the angles of the first link and of the two joints, in radians; the first link's velocity along x and y,
    in metres a second; and the velocities of the three angles, in radians a second.
    """
    return SWING * math.sin(RATE * time), SWING * math.sin(RATE * time - LAG)
