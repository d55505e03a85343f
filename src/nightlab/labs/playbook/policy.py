"""The genome: which of the waiting incidents is next."""

MINUTES = {"disk": 10, "login": 15, "network": 40, "deploy": 60, "database": 120}  # that a kind usually takes
BY_WEIGHT = 0.0          # how much an incident's weight counts [0..2]
BY_MINUTES = 0.0         # how much it counts that a kind is quick to solve [0..2]


def choose(now, waiting):
    """The index of the incident to take. Each has a kind, a weight, and the minutes when it was opened and is due."""
    return max(range(len(waiting)), key=lambda index: urgency(now, waiting[index]))


def urgency(now, incident):
    """The larger, the sooner; at equal weights and kinds the older one is first."""
    waited = 0.001 * (now - incident.opened)
    return incident.weight**BY_WEIGHT / MINUTES[incident.kind] ** BY_MINUTES + waited
