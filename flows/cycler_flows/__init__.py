"""Prefect flows of Cycler: orchestration only, no arithmetic."""
