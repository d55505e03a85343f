"""How other programs work with nightlab: candidates handed in, a skill for agents, a server that speaks MCP."""
