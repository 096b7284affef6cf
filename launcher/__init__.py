"""Starts the whole house on one machine: embedded servers, processes, demo data."""
