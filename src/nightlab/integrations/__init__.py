"""Integrations with other programs: submitted candidates, a skill for agents, an MCP server, importers, exporters."""
