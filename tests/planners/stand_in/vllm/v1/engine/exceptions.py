class EngineDeadError(Exception):
    """The engine's process has ended."""
