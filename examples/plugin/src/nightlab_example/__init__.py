"""Plug-ins for nightlab: a proposer and a keep rule."""
